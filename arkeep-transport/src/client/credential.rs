use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use arkeep_core::{AgentId, Entropy, ExposeSecret, SecretString, Timestamp};

use crate::certificate::{Leaf, provider};
use crate::identity::Serial;
use crate::pem;

/// An agent's private key and the certificate for it.
///
/// Keep it where only the agent reads: [`key_pem`](Self::key_pem) sealed or in a file of mode 0600,
/// [`chain_pem`](Self::chain_pem) beside it.
#[derive(Debug, Clone)]
pub struct Credential {
    key: SecretString,
    chain: Vec<Vec<u8>>,
    agent: AgentId,
    leaf: Leaf,
    usable: Arc<CertifiedKey>,
}

impl Credential {
    /// Takes up a credential from where it was kept.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] when a part cannot be read, or key and certificate do not belong
    /// together.
    pub fn from_pem(key: SecretString, chain: &str) -> Result<Self, CredentialError> {
        let chain = pem::certificates(chain).ok_or(CredentialError::Certificate)?;
        Self::assemble(key, chain)
    }

    pub(super) fn assemble(
        key: SecretString,
        chain: Vec<Vec<u8>>,
    ) -> Result<Self, CredentialError> {
        let leaf = chain.first().and_then(|leaf| Leaf::read(leaf));
        let leaf = leaf.ok_or(CredentialError::Certificate)?;
        let (_, agent) = leaf.agent().ok_or(CredentialError::Certificate)?;
        let private = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
            .map_err(|_| CredentialError::Key)?;
        let signing = provider()
            .key_provider
            .load_private_key(private)
            .map_err(|_| CredentialError::Key)?;
        let public = signing.public_key().ok_or(CredentialError::Key)?;
        if public.as_ref() != leaf.spki.as_slice() {
            return Err(CredentialError::Mismatch);
        }
        let ders = chain.iter().cloned().map(CertificateDer::from).collect();
        Ok(Self {
            key,
            chain,
            agent,
            leaf,
            usable: Arc::new(CertifiedKey::new(ders, signing)),
        })
    }

    /// The agent that it stands for.
    #[must_use]
    pub const fn agent(&self) -> AgentId {
        self.agent
    }

    /// The certificate's serial number.
    #[must_use]
    pub const fn serial(&self) -> Serial {
        self.leaf.serial
    }

    /// From when on it is valid.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.leaf.not_before
    }

    /// Until when it is valid.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.leaf.not_after
    }

    /// When to renew it: between two thirds and three quarters of its life, so that agents that
    /// enrolled together do not renew together.
    #[must_use]
    pub fn renew_at(&self, entropy: &dyn Entropy) -> Timestamp {
        let mut random = [0; 8];
        entropy.fill(&mut random);
        let life = self.not_after().since(self.not_before());
        let spread = u64::try_from((life / 12).as_millis()).unwrap_or(u64::MAX - 1);
        let jitter = Duration::from_millis(u64::from_le_bytes(random) % (spread + 1));
        self.not_before().plus(life * 2 / 3).plus(jitter)
    }

    /// The private key, as PKCS #8 PEM.
    #[must_use]
    pub const fn key_pem(&self) -> &SecretString {
        &self.key
    }

    /// The certificate and what leads up to a root, as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem::encode(der)).collect()
    }

    pub(super) fn usable(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.usable)
    }
}

/// A credential cannot be used.
///
/// No part of the key is in the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The certificate is not an agent's. Enrol again.
    #[error("the agent's certificate cannot be read")]
    Certificate,
    /// The key cannot be read. Enrol again.
    #[error("the agent's key cannot be read")]
    Key,
    /// The key is of another certificate: files of two enrolments were mixed. Enrol again.
    #[error("the agent's key does not belong to its certificate")]
    Mismatch,
}
