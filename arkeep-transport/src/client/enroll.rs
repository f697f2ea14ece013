use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tonic::Status;

use arkeep_core::{AgentId, Clock, SecretString};

use crate::address::ServerAddress;
use crate::certificate::{Leaf, fingerprint_of, provider, root_store, unix_time};
use crate::convert::agent_id;
use crate::key::FreshKey;
use crate::proto::EnrollRequest;
use crate::proto::enrollment_client::EnrollmentClient;
use crate::status::Refusal;
use crate::token::JoinToken;
use crate::trust::{SpkiFingerprint, TrustBundle};

use super::dial::{Dial, Dialed, Pings, origin};
use super::verify::Anchor;
use super::{Credential, EnrollError};

/// What a machine is after it has enrolled. Make it durable before anything else.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// The agent that the machine now is.
    pub agent: AgentId,
    /// Where its server is.
    pub server: ServerAddress,
    /// Its key and certificate.
    pub credential: Credential,
    /// The roots that it trusts.
    pub trust: TrustBundle,
}

/// Turns this machine into an agent.
///
/// The key is made here and never leaves. The server must prove itself by the root that the token
/// names before the token's secret is sent.
///
/// # Errors
///
/// [`EnrollError`], whose text tells the machine's owner what to do.
pub async fn enroll(token: &JoinToken, clock: &Arc<dyn Clock>) -> Result<Enrolled, EnrollError> {
    let key = FreshKey::generate().map_err(|_| EnrollError::Key)?;
    let csr = key.csr().map_err(|_| EnrollError::Key)?;
    let dial = Dial {
        server: token.server(),
        anchor: Anchor::Fingerprint(token.fingerprint()),
        credential: None,
        clock,
        pings: Pings::default(),
    };
    let dialed = dial.connect().await?;
    let request = EnrollRequest {
        token_id: token.id().as_uuid().into_bytes().to_vec(),
        secret: token.secret().to_vec(),
        csr,
    };
    let mut client = EnrollmentClient::with_origin(dialed.channel.clone(), origin());
    let answer = tokio::time::timeout(CALL_TIMEOUT, client.enroll(request))
        .await
        .map_err(|elapsed| EnrollError::Interrupted(Box::new(elapsed)))?
        .map_err(|status| explain(&dialed, status))?
        .into_inner();

    let agent = agent_id(&answer.agent_id, "agent_id").map_err(|_| EnrollError::Answer)?;
    let trust = TrustBundle::new(answer.trust_bundle).map_err(|_| EnrollError::Answer)?;
    let credential = accept(key.pem(), &key.spki(), answer.certificate_chain, &trust)
        .filter(|credential| credential.agent() == agent)
        .ok_or(EnrollError::Answer)?;
    if !holds(&trust, token.fingerprint()) {
        return Err(EnrollError::Answer);
    }
    Ok(Enrolled {
        agent,
        server: token.server().clone(),
        credential,
        trust,
    })
}

fn explain(dialed: &Dialed, status: Status) -> EnrollError {
    match Refusal::of(&status) {
        Some(Refusal::TokenExpired) => EnrollError::TokenExpired,
        Some(Refusal::TokenUsed) => EnrollError::TokenUsed,
        Some(Refusal::Token | Refusal::Unwelcome) => EnrollError::TokenRefused,
        Some(Refusal::TooOften(seconds)) => {
            EnrollError::TooOften(Duration::from_secs(u64::from(seconds)))
        }
        Some(Refusal::Unavailable | Refusal::Stopping) => EnrollError::Unavailable,
        Some(_) => EnrollError::Answer,
        None => match dialed.seen.explain() {
            Some(error) => EnrollError::Dial(error),
            None => EnrollError::Interrupted(Box::new(status)),
        },
    }
}

/// Looks whether a certificate is for our key and one that our server will accept.
pub(super) fn accept(
    key: SecretString,
    spki: &[u8],
    chain: Vec<Vec<u8>>,
    trust: &TrustBundle,
) -> Option<Credential> {
    let leaf = Leaf::read(chain.first()?)?;
    if leaf.spki != spki {
        return None;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(root_store(trust)?, provider())
        .build()
        .ok()?;
    let mut ders = chain.iter().cloned().map(CertificateDer::from);
    let first = ders.next()?;
    let rest: Vec<_> = ders.collect();
    // The server's clock decides about dates, not ours.
    let then = unix_time(leaf.not_after);
    verifier.verify_client_cert(&first, &rest, then).ok()?;
    Credential::assemble(key, chain).ok()
}

fn holds(trust: &TrustBundle, fingerprint: SpkiFingerprint) -> bool {
    trust
        .roots()
        .any(|root| fingerprint_of(root) == Some(fingerprint))
}

pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
