//! What a certificate says, once somebody else has checked its signature.

use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, SupportedProtocolVersion};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use arkeep_core::{AgentId, Clock, Timestamp};

#[cfg(feature = "server")]
use crate::identity::AgentIdentity;
use crate::identity::{Serial, TrustDomain};
use crate::trust::{SpkiFingerprint, TrustBundle};

/// The parts of a leaf certificate that we go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) name: Name,
    pub(crate) serial: Serial,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) spki: Vec<u8>,
    pub(crate) client_auth: bool,
    pub(crate) server_auth: bool,
}

/// The one name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Uri(String),
    Dns(String),
    /// None, several, or of a kind that we do not use.
    Other,
}

impl Leaf {
    /// Reads a certificate. Its signature is not looked at.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() || certificate.is_ca() {
            return None;
        }
        let names = certificate.subject_alternative_name().ok()?;
        let name = match names.map(|names| names.value.general_names.as_slice()) {
            Some([GeneralName::URI(uri)]) => Name::Uri((*uri).to_owned()),
            Some([GeneralName::DNSName(name)]) => Name::Dns((*name).to_owned()),
            _ => Name::Other,
        };
        let usage = certificate.extended_key_usage().ok()?;
        let usage = usage.map(|usage| usage.value);
        Some(Self {
            name,
            serial: serial(certificate.raw_serial()),
            not_before: moment(&certificate.validity().not_before),
            not_after: moment(&certificate.validity().not_after),
            spki: certificate.public_key().raw.to_vec(),
            client_auth: usage.is_some_and(|usage| usage.client_auth),
            server_auth: usage.is_some_and(|usage| usage.server_auth),
        })
    }

    /// The agent that the certificate names, in whatever trust domain.
    pub(crate) fn agent(&self) -> Option<(TrustDomain, AgentId)> {
        let Name::Uri(uri) = &self.name else {
            return None;
        };
        let domain: TrustDomain = uri
            .strip_prefix("spiffe://")?
            .split('/')
            .next()?
            .parse()
            .ok()?;
        let agent = domain.agent_of(uri)?;
        Some((domain, agent))
    }

    /// Whether the certificate's time is now.
    #[cfg(feature = "server")]
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

#[cfg(feature = "server")]
impl AgentIdentity {
    /// Reads an identity from a certificate whose signatures were verified against our own roots.
    pub(crate) fn from_verified(leaf: &Leaf, ours: &TrustDomain) -> Option<Self> {
        let (domain, agent) = leaf.agent()?;
        (domain == *ours && leaf.client_auth).then_some(Self::new(
            agent,
            leaf.serial,
            leaf.not_after,
        ))
    }
}

// DER drops leading zeroes, and puts one before a set top bit. A CA that is not ours may use up to
// 20 octets (RFC 5280 §4.1.2.2): such a number goes by 128 bits of its hash.
fn serial(raw: &[u8]) -> Serial {
    let significant = raw
        .iter()
        .position(|byte| *byte != 0)
        .and_then(|first| raw.get(first..))
        .unwrap_or_default();
    let mut bytes = [0; 16];
    let start = bytes.len().saturating_sub(significant.len());
    let hash = digest(&SHA256, significant);
    let source = match significant.len() {
        ..=16 => significant,
        _ => hash.as_ref(),
    };
    for (to, from) in bytes.iter_mut().skip(start).zip(source) {
        *to = *from;
    }
    Serial::from_bytes(bytes)
}

fn moment(time: &x509_parser::time::ASN1Time) -> Timestamp {
    Timestamp::from_unix_seconds(time.timestamp())
}

/// What a join token knows a root by.
pub(crate) fn fingerprint_of(root: &[u8]) -> Option<SpkiFingerprint> {
    let (_, certificate) = X509Certificate::from_der(root).ok()?;
    Some(SpkiFingerprint::of(certificate.public_key().raw))
}

/// TLS 1.3, and nothing before it.
pub(crate) static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// HTTP/2, and nothing before it.
pub(crate) const ALPN: &[u8] = b"h2";

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The roots of a bundle as rustls wants them, or nothing when one is not a certificate.
pub(crate) fn root_store(bundle: &TrustBundle) -> Option<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    for root in bundle.roots() {
        store.add(CertificateDer::from(root.to_vec())).ok()?;
    }
    Some(Arc::new(store))
}

/// Lets rustls ask our clock.
#[derive(Debug)]
pub(crate) struct OurTime(pub(crate) Arc<dyn Clock>);

impl TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

pub(crate) fn unix_time(moment: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(moment.since(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_read_as_it_was_drawn() {
        let drawn = [0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let written = [&[0], drawn.as_slice()].concat();
        assert_eq!(serial(&written), Serial::from_bytes(drawn));

        let mut small = [0; 16];
        small[15] = 7;
        assert_eq!(serial(&[7]), Serial::from_bytes(small));
    }

    /// T10
    #[test]
    fn longer_serial_numbers_are_told_apart() {
        assert_ne!(
            serial(&[1; 20]),
            serial(&[&[2], [1; 19].as_slice()].concat())
        );
        assert_ne!(serial(&[1; 20]), serial(&[1; 16]));
    }
}
