//! Certificates as text.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificates of a PEM text, or nothing when it is not one.
pub(crate) fn certificates(text: &str) -> Option<Vec<Vec<u8>>> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .map(|certificate| certificate.ok().map(|der| der.to_vec()))
        .collect()
}

/// One certificate as PEM.
pub(crate) fn encode(der: &[u8]) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let body = STANDARD.encode(der);
    let mut out = String::with_capacity(body.len() + 64);
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = body.as_str();
    // RFC 7468 §2: lines of 64 characters.
    while let Some((line, more)) = rest.split_at_checked(64) {
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    if !rest.is_empty() {
        out.push_str(rest);
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
