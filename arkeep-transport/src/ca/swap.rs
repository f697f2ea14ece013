use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use crate::trust::{SpkiFingerprint, TrustBundle};

use super::{CertificateAuthority, CertificateChain, IssueError, IssueRequest};

/// A CA that can be exchanged while it is in use.
///
/// The port for agents notices by itself: its own certificate is signed anew at the next handshake,
/// and agents that are connected are told of the roots in force.
#[derive(Debug)]
pub struct SwappableCa(RwLock<Arc<dyn CertificateAuthority>>);

impl SwappableCa {
    /// Begins with this CA.
    #[must_use]
    pub fn new(ca: Arc<dyn CertificateAuthority>) -> Self {
        Self(RwLock::new(ca))
    }

    /// Goes on with another. What is under way ends with the one before.
    pub fn swap(&self, ca: Arc<dyn CertificateAuthority>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ca;
    }

    fn current(&self) -> Arc<dyn CertificateAuthority> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl CertificateAuthority for SwappableCa {
    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        self.current().trust_bundle().await
    }

    async fn fingerprint(&self) -> Result<SpkiFingerprint, IssueError> {
        self.current().fingerprint().await
    }

    async fn issue(&self, request: IssueRequest<'_>) -> Result<CertificateChain, IssueError> {
        self.current().issue(request).await
    }
}
