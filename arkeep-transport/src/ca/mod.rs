//! Who vouches for agents, and for the server towards them.
//!
//! A [`CertificateAuthority`] signs two kinds of certificates, [`Subject::Agent`] and
//! [`Subject::Server`], and says which roots are in force. [`LocalCa`] is ours: one root key in this
//! process. A product with a CA of its own (an HSM, a cloud service, a company's PKI) implements the
//! trait and keeps everything else.
//!
//! A signing request arrives from a machine that nobody knows yet. What it asks for is ignored but
//! for one thing: its key, and the proof that the sender holds it. [`CheckedCsr`] is that proof; its
//! names, its validity, its wish to be a CA are not even readable.

mod csr;
mod local;
pub mod rotation;
mod swap;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use arkeep_core::{AgentId, Timestamp};

use crate::certificate::fingerprint_of;
use crate::trust::{SpkiFingerprint, TrustBundle};

pub use csr::{CheckedCsr, CsrError};
pub use local::{LoadCaError, LocalCa};
pub use swap::SwappableCa;

/// Signs certificates, and says which roots are in force.
///
/// Implement this to use a CA of your own; [`LocalCa`] is ours.
///
/// # Security
///
/// Whoever holds the signing key is every agent at once. The certificate must carry exactly what
/// the [`IssueRequest`] says: its key, its one name, its one purpose and its validity; and a random
/// serial number that no other certificate has. The caller reads the certificate back and refuses
/// to hand it out when the name, the key, the purpose or the validity is another.
///
/// # Cost
///
/// `issue` runs once for each enrolment and renewal; `trust_bundle` for each handshake of an agent
/// and must not wait for a network.
#[async_trait]
pub trait CertificateAuthority: fmt::Debug + Send + Sync {
    /// The roots that agents and servers trust now.
    ///
    /// While the CA is being replaced there are two.
    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError>;

    /// The root under which it signs now: join tokens name a CA by it.
    ///
    /// As it stands it suits a CA whose bundle holds one root.
    async fn fingerprint(&self) -> Result<SpkiFingerprint, IssueError> {
        let bundle = self.trust_bundle().await?;
        let root = bundle.roots().next().unwrap_or_default();
        fingerprint_of(root)
            .ok_or_else(|| IssueError::Refused("the root is not a certificate".to_owned()))
    }

    /// Signs a certificate: the leaf first, then what leads up to a root of
    /// [`trust_bundle`](Self::trust_bundle), the root left out.
    async fn issue(&self, request: IssueRequest<'_>) -> Result<CertificateChain, IssueError>;
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct IssueRequest<'a> {
    /// The key, and the proof that the subject holds it.
    pub csr: &'a CheckedCsr,
    /// Who it is for.
    pub subject: Subject,
    /// How long it is valid, from `now` on.
    pub validity: Duration,
    /// The present moment.
    pub now: Timestamp,
}

/// Who a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An agent: `clientAuth`, and this URI as its only name.
    Agent {
        /// The agent.
        agent: AgentId,
        /// Its name, `spiffe://<trust domain>/agent/<uuid>`.
        uri: String,
    },
    /// The server, on the port for agents: `serverAuth`, and this DNS name as its only name.
    Server {
        /// The name, [`SERVER_NAME`](crate::SERVER_NAME).
        dns_name: String,
    },
}

/// A certificate and what leads up to a root, as DER; the leaf first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateChain(pub Vec<Vec<u8>>);

/// A certificate was not issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The CA cannot be reached. Worth a retry.
    #[error("the certificate authority is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// The CA refuses, or what it signed is not what was asked for. The text says what.
    #[error("the certificate authority did not issue the certificate: {0}")]
    Refused(String),
}
