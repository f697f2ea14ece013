//! HTTPS: with the operator's certificate, or with one of our own authority that renews itself.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arkeep_core::{Clock, Timestamp};
use arkeep_transport::ca::{
    CertificateAuthority, CheckedCsr, CsrError, IssueError, IssueRequest, Subject,
};
use arkeep_transport::trust::SpkiFingerprint;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, sign::any_supported_type};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// HTTPS cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file of the operator's cannot be read as PEM. Exit with 3.
    #[error("{0} is not the PEM file that it should be", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// Certificate and key do not go together, or are of a kind that is not spoken. Exit with 3.
    #[error("the certificate cannot be served")]
    Certificate(#[from] rustls::Error),

    /// No key was made.
    #[error("no key could be made for HTTPS")]
    Key(#[from] rcgen::Error),

    /// Our authority did not accept our own request.
    #[error("no certificate could be asked for")]
    Request(#[from] CsrError),

    /// Our authority issued nothing.
    #[error("no certificate was issued for HTTPS")]
    Issue(#[from] IssueError),
}

/// Serves the chain of one file with the key of another.
pub(super) fn from_files(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let file = |path: &Path, error: rustls::pki_types::pem::Error| TlsError::File {
        path: path.to_owned(),
        source: io::Error::other(error),
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(certificate, error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, error))?;
    let config = builder()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(speaking_http(config))
}

/// Serves what `certificate` holds at the moment.
pub(super) fn from_own(certificate: Arc<OwnCertificate>) -> Result<ServerConfig, TlsError> {
    let config = builder()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    Ok(speaking_http(config))
}

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, rustls::Error> {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
}

fn speaking_http(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// A certificate of our own authority for one host name.
pub(super) struct OwnCertificate {
    authority: Arc<dyn CertificateAuthority>,
    clock: Arc<dyn Clock>,
    host: String,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    certified: Arc<CertifiedKey>,
    signed_under: SpkiFingerprint,
    renew_at: Timestamp,
}

impl OwnCertificate {
    /// Issues the first one.
    pub(super) async fn issue(
        authority: Arc<dyn CertificateAuthority>,
        clock: Arc<dyn Clock>,
        host: String,
    ) -> Result<Self, TlsError> {
        let first = certified(authority.as_ref(), clock.as_ref(), &host).await?;
        let current = RwLock::new(first);
        Ok(Self {
            authority,
            clock,
            host,
            current,
        })
    }

    /// Issues the next one when a day has passed, or another root signs. Connections from then on
    /// get it.
    pub(super) async fn keep_current(&self) -> Result<(), TlsError> {
        let current = self.current();
        let root = self.authority.fingerprint().await?;
        if root == current.signed_under && self.clock.now() < current.renew_at {
            return Ok(());
        }
        let next = certified(self.authority.as_ref(), self.clock.as_ref(), &self.host).await?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    fn current(&self) -> Current {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified)
    }
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificate")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

async fn certified(
    authority: &dyn CertificateAuthority,
    clock: &dyn Clock,
    host: &str,
) -> Result<Current, TlsError> {
    let now = clock.now();
    // Asked first: a root that changes in between makes the next look issue once more.
    let signed_under = authority.fingerprint().await?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = CheckedCsr::check(params.serialize_request(&key)?.der())?;
    let request = IssueRequest {
        csr: &csr,
        subject: Subject::Server {
            dns_name: host.to_owned(),
        },
        validity: VALIDITY,
        now,
    };
    let chain = authority
        .issue(request)
        .await?
        .0
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let certified = CertifiedKey::new(chain, any_supported_type(&key)?);
    Ok(Current {
        certified: Arc::new(certified),
        signed_under,
        renew_at: now.plus(RENEWAL),
    })
}

/// How often to renew: long before the end, so that a failure has time to be mended.
const RENEWAL: Duration = Duration::from_secs(24 * 60 * 60);

const VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
