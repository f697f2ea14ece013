use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use tokio::sync::Mutex;

use arkeep_core::Timestamp;

use crate::SERVER_NAME;
use crate::ca::{CertificateChain, CheckedCsr, CsrError, IssueError, IssueRequest, Subject};
use crate::certificate::{ALPN, Leaf, Name, OurTime, VERSIONS, provider, root_store, unix_time};
use crate::identity::AgentIdentity;
use crate::key::{FreshKey, KeyError};
use crate::trust::{SpkiFingerprint, TrustBundle, TrustDigest};

use super::Shared;

/// The server's side of TLS: its certificate and the roots in force, renewed as they age.
#[derive(Debug)]
pub(super) struct Tls {
    shared: Arc<Shared>,
    current: RwLock<Current>,
    refreshing: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Current {
    config: Arc<ServerConfig>,
    trust: TrustDigest,
    signed_under: SpkiFingerprint,
    renew_at: Timestamp,
}

impl Tls {
    pub(super) async fn issue(shared: Arc<Shared>) -> Result<Self, OpenPortError> {
        let bundle = shared.parts.ca.trust_bundle().await?;
        let root = shared.parts.ca.fingerprint().await?;
        let current = Current::issue(&shared, &bundle, root).await?;
        Ok(Self {
            shared,
            current: RwLock::new(current),
            refreshing: Mutex::new(()),
        })
    }

    /// What the next handshake is to use.
    ///
    /// A CA that cannot be reached does not end the service: the certificate at hand is used as long
    /// as agents accept it.
    pub(super) async fn config(&self) -> Arc<ServerConfig> {
        if let Err(error) = self.refresh().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the server's certificate was not renewed");
        }
        self.now_in_use().config
    }

    async fn refresh(&self) -> Result<(), OpenPortError> {
        let ca = &self.shared.parts.ca;
        let bundle = ca.trust_bundle().await?;
        let root = ca.fingerprint().await?;
        if !self.is_stale(&bundle, root) {
            return Ok(());
        }
        let _one_at_a_time = self.refreshing.lock().await;
        if self.is_stale(&bundle, root) {
            let fresh = Current::issue(&self.shared, &bundle, root).await?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            tracing::info!("the server's certificate was renewed");
        }
        Ok(())
    }

    fn is_stale(&self, bundle: &TrustBundle, root: SpkiFingerprint) -> bool {
        let current = self.now_in_use();
        current.trust != bundle.digest()
            || current.signed_under != root
            || self.shared.parts.clock.now() >= current.renew_at
    }

    fn now_in_use(&self) -> Current {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Current {
    async fn issue(
        shared: &Arc<Shared>,
        bundle: &TrustBundle,
        signed_under: SpkiFingerprint,
    ) -> Result<Self, OpenPortError> {
        let now = shared.parts.clock.now();
        let validity = shared.config.server_validity;
        let key = FreshKey::generate()?;
        let csr = CheckedCsr::check(&key.csr()?)?;
        let request = IssueRequest {
            csr: &csr,
            subject: Subject::Server {
                dns_name: SERVER_NAME.to_owned(),
            },
            validity,
            now,
        };
        let CertificateChain(mut chain) = shared.parts.ca.issue(request).await?;
        let leaf = chain.first().and_then(|leaf| Leaf::read(leaf));
        let fits = leaf.is_some_and(|leaf| {
            leaf.name == Name::Dns(SERVER_NAME.to_owned())
                && leaf.server_auth
                && leaf.spki == csr.public_key()
                && leaf.is_current(now)
        });
        if !fits {
            let what = "the certificate for the server is not what was asked for";
            return Err(IssueError::Refused(what.to_owned()).into());
        }
        // An enrolling machine knows a root by its fingerprint only, so the roots go along.
        chain.extend(bundle.roots().map(<[u8]>::to_vec));
        Ok(Self {
            config: Arc::new(server_config(shared, bundle, chain, &key)?),
            trust: bundle.digest(),
            signed_under,
            renew_at: now.plus(validity * 2 / 3),
        })
    }
}

fn server_config(
    shared: &Arc<Shared>,
    bundle: &TrustBundle,
    chain: Vec<Vec<u8>>,
    key: &FreshKey,
) -> Result<ServerConfig, OpenPortError> {
    let provider = provider();
    let roots = root_store(bundle).ok_or(OpenPortError::Roots)?;
    let agents = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .clear_root_hint_subjects()
        .build()
        .map_err(|_| OpenPortError::Roots)?;
    let verifier = AgentVerifier {
        agents,
        shared: Arc::clone(shared),
    };
    let time = Arc::new(OurTime(Arc::clone(&shared.parts.clock)));
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key.der())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would not show its certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Lets in agents of ours, strangers who want to enrol, and nobody else.
///
/// A certificate that has expired passes, when it was good until then: the judge lets its holder
/// ask for a new one, and do nothing else.
#[derive(Debug)]
struct AgentVerifier {
    agents: Arc<dyn ClientCertVerifier>,
    shared: Arc<Shared>,
}

impl ClientCertVerifier for AgentVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.agents.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let refused = || CertificateError::ApplicationVerificationFailure;
        let leaf = Leaf::read(end_entity).ok_or_else(refused)?;
        match self
            .agents
            .verify_client_cert(end_entity, intermediates, now)
        {
            Ok(_) => {}
            Err(error) if has_expired(&error) => {
                let then = unix_time(leaf.not_after);
                self.agents
                    .verify_client_cert(end_entity, intermediates, then)?;
            }
            Err(error) => return Err(error),
        }
        let identity = AgentIdentity::from_verified(&leaf, &self.shared.config.trust_domain)
            .ok_or_else(refused)?;
        if self.shared.registry.is_unwelcome(&identity) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.agents.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.agents.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.agents.supported_verify_schemes()
    }
}

fn has_expired(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        )
    )
}

/// The port for agents cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenPortError {
    /// Ask for a validity of 1 hour to 30 days.
    #[error("an agent's certificate must be valid for 1 hour to 30 days")]
    AgentValidity,

    /// The CA did not issue the server's certificate.
    #[error("the server has no certificate")]
    Issue(#[from] IssueError),

    /// A root of the CA's trust bundle is not a certificate.
    #[error("the trust bundle holds something that is not a root certificate")]
    Roots,

    /// The crypto provider made no key, or refuses the one that it made.
    #[error("the server's key cannot be used")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<rustls::Error> for OpenPortError {
    fn from(error: rustls::Error) -> Self {
        Self::Key(Box::new(error))
    }
}

impl From<KeyError> for OpenPortError {
    fn from(error: KeyError) -> Self {
        Self::Key(Box::new(error))
    }
}

impl From<CsrError> for OpenPortError {
    fn from(error: CsrError) -> Self {
        Self::Key(Box::new(error))
    }
}
