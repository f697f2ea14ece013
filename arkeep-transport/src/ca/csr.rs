use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A key, and the proof that whoever asks for a certificate holds its private half.
///
/// Nothing else of the signing request is kept in a form that can be read: its names and extensions
/// are wishes of a stranger.
#[derive(Clone)]
pub struct CheckedCsr {
    der: Vec<u8>,
    spki: Vec<u8>,
}

impl CheckedCsr {
    /// Checks a PKCS #10 signing request (RFC 2986).
    ///
    /// # Errors
    ///
    /// [`CsrError`] when the request is not signed by the key that it holds, or the key is neither
    /// of P-256 nor of Ed25519.
    pub fn check(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR {
            return Err(CsrError::Malformed);
        }
        let (rest, csr) =
            X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed);
        }
        let info = &csr.certification_request_info;
        let algorithm = algorithm_of(&info.subject_pki).ok_or(CsrError::Algorithm)?;
        if csr.signature_algorithm.algorithm != algorithm.signature {
            return Err(CsrError::Algorithm);
        }
        let signature = &csr.signature_value.data;
        if !is_spelled_out(der, info.raw, algorithm.spelling, signature) {
            return Err(CsrError::Malformed);
        }
        UnparsedPublicKey::new(algorithm.verify, &info.subject_pki.subject_public_key.data)
            .verify(info.raw, signature)
            .map_err(|_| CsrError::Signature)?;
        Ok(Self {
            der: der.to_vec(),
            spki: info.subject_pki.raw.to_vec(),
        })
    }

    /// The key: a SubjectPublicKeyInfo, as DER.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.spki
    }

    /// The whole request, for a CA that insists on one.
    ///
    /// # Security
    ///
    /// It may ask for any name, and to be a CA. A signer that honours what it asks for gives every
    /// agent to whoever holds one join token.
    #[must_use]
    pub fn dangerous_whole_request(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Debug for CheckedCsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedCsr").finish_non_exhaustive()
    }
}

/// A signing request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// It is not a PKCS #10 request, or is larger than one needs to be.
    #[error("not a signing request")]
    Malformed,
    /// Use a key of P-256 or Ed25519, and sign with it.
    #[error("the key of a signing request must be of P-256 or Ed25519")]
    Algorithm,
    /// It was not signed by the key that it holds.
    #[error("the signing request is not signed by its own key")]
    Signature,
}

struct Algorithm {
    signature: Oid<'static>,
    /// Its AlgorithmIdentifier, as DER.
    spelling: &'static [u8],
    verify: &'static dyn VerificationAlgorithm,
}

fn algorithm_of(key: &SubjectPublicKeyInfo<'_>) -> Option<Algorithm> {
    let oid = &key.algorithm.algorithm;
    if *oid == OID_SIG_ED25519 && key.algorithm.parameters.is_none() {
        return Some(Algorithm {
            signature: OID_SIG_ED25519,
            spelling: &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
            verify: &ED25519,
        });
    }
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    // RFC 5480 §2.2: an uncompressed point. One spelling for each key.
    let uncompressed = key.subject_public_key.data.first() == Some(&4);
    (*oid == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == OID_EC_P256 && uncompressed).then_some(
        Algorithm {
            signature: OID_SIG_ECDSA_WITH_SHA256,
            spelling: &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            verify: &ECDSA_P256_SHA256_ASN1,
        },
    )
}

// What stands around the signed part is covered by no signature, and the parser is lenient there.
fn is_spelled_out(der: &[u8], signed: &[u8], algorithm: &[u8], signature: &[u8]) -> bool {
    let Ok(length) = u8::try_from(signature.len() + 1) else {
        return false;
    };
    der.strip_suffix(signature)
        .and_then(|der| der.strip_suffix(&[3, length, 0]))
        .and_then(|der| der.strip_suffix(algorithm))
        .is_some_and(|der| der.ends_with(signed))
}

// Ours have about 300 bytes.
const MAX_CSR: usize = 8 * 1024;
