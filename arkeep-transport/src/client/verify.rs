use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use arkeep_core::Timestamp;

use crate::SERVER_NAME;
use crate::certificate::{Leaf, Name, fingerprint_of, unix_time};
use crate::trust::SpkiFingerprint;

/// Checks that the server is ours: its chain leads to a root that we go by, and its certificate is
/// for the fixed server name and for servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) anchor: Anchor,
    pub(super) provider: Arc<CryptoProvider>,
}

/// What we go by.
#[derive(Debug)]
pub(super) enum Anchor {
    /// Roots that we hold.
    Roots(Arc<RootCertStore>),
    /// A root that we know by its key alone. The server shows it along with its own certificate.
    Fingerprint(SpkiFingerprint),
}

/// What is wrong with a server, in words that its owner can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Distrust {
    #[error("not an Arkeep server")]
    Foreign,
    #[error("an Arkeep server of another CA")]
    AnotherCa,
    #[error("not valid at this time")]
    Dates {
        not_before: Timestamp,
        not_after: Timestamp,
    },
}

impl From<Distrust> for rustls::Error {
    fn from(distrust: Distrust) -> Self {
        CertificateError::Other(OtherError(Arc::new(distrust))).into()
    }
}

impl Distrust {
    /// What a TLS error stands for, when the verifier above made it.
    pub(super) fn of(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
                other.0.downcast_ref().copied()
            }
            _ => None,
        }
    }
}

impl Anchor {
    fn roots(&self, shown: &[CertificateDer<'_>]) -> Option<Arc<RootCertStore>> {
        match self {
            Self::Roots(roots) => Some(Arc::clone(roots)),
            Self::Fingerprint(fingerprint) => {
                let root = shown
                    .iter()
                    .find(|der| fingerprint_of(der) == Some(*fingerprint))?;
                let mut store = RootCertStore::empty();
                store.add(root.clone().into_owned()).ok()?;
                Some(Arc::new(store))
            }
        }
    }
}

impl ServerVerifier {
    fn verify(
        &self,
        leaf_der: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Distrust> {
        let leaf = Leaf::read(leaf_der).ok_or(Distrust::Foreign)?;
        if leaf.name != Name::Dns(SERVER_NAME.to_owned()) || !leaf.server_auth {
            return Err(Distrust::Foreign);
        }
        let roots = self.anchor.roots(shown).ok_or(Distrust::AnotherCa)?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|_| Distrust::AnotherCa)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|_| Distrust::Foreign)?;
        let at = |moment| verifier.verify_server_cert(leaf_der, shown, &name, &[], moment);
        // Judged first at a time when it was good: a stranger's certificate must not be taken for
        // a clock that is off.
        at(unix_time(leaf.not_after)).map_err(|_| Distrust::AnotherCa)?;
        at(now).map_err(|_| Distrust::Dates {
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        })?;
        Ok(())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // TLS 1.3 only: nobody gets here.
        Err(Distrust::Foreign.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
