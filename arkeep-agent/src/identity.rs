//! Who this machine is, kept between two runs.
//!
//! | file           | what                                            |
//! |----------------|-------------------------------------------------|
//! | `identity.pem` | the private key, then the certificate           |
//! | `trust.pem`    | the roots by which the server proves itself     |
//! | `server`       | where to dial                                   |
//!
//! Key and certificate are one file, so that a renewal is one rename and they always belong
//! together.

use std::io;
use std::path::{Path, PathBuf};

use arkeep_core::SecretString;
use arkeep_core::secret::{ExposeSecret, SecretSlice};
use arkeep_transport::address::ServerAddress;
use arkeep_transport::client::{Credential, CredentialError, Enrolled};
use arkeep_transport::trust::TrustBundle;

use crate::files;

/// The directory in which the identity lies.
#[derive(Debug, Clone)]
pub struct IdentityDir {
    root: PathBuf,
}

/// An identity as it was kept.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Where the server is.
    pub server: ServerAddress,
    /// Key and certificate.
    pub credential: Credential,
    /// Whom to trust.
    pub trust: TrustBundle,
}

/// There is no identity that could be used. Enrol, or enrol again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// This machine has not enrolled.
    #[error(
        "this machine is not enrolled: run `arkeep-agent enroll --state-dir {}` with a join token",
        .state_dir.display()
    )]
    Missing {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// The disk did not give it.
    #[error("{} cannot be read or written", .file.display())]
    Disk {
        /// The file.
        file: PathBuf,
        /// What stands in the way.
        #[source]
        source: io::Error,
    },
    /// It is not what was written. Enrol again.
    #[error("{} is damaged: enrol again", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// Key or certificate cannot be used. Enrol again.
    #[error("the agent's identity cannot be used: enrol again")]
    Credential(#[from] CredentialError),
}

impl IdentityDir {
    /// The identity in this directory.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Reads the identity.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]; what to do is with each variant.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        let pem = SecretString::from(self.read(IDENTITY)?);
        let server = self.read(SERVER)?;
        let server = server.trim().parse().map_err(|_| self.damaged(SERVER))?;
        let trust = TrustBundle::from_pem(&self.read(TRUST)?).map_err(|_| self.damaged(TRUST))?;
        let (key, chain) = parts(pem.expose_secret()).ok_or_else(|| self.damaged(IDENTITY))?;
        let credential = Credential::from_pem(SecretString::from(key), chain)?;
        Ok(Identity {
            server,
            credential,
            trust,
        })
    }

    /// Keeps what enrolment gave, in place of what was there. On the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Disk`].
    pub fn save(&self, enrolled: &Enrolled) -> Result<(), IdentityError> {
        files::private_directory(&self.root).map_err(|source| IdentityError::Disk {
            file: self.root.clone(),
            source,
        })?;
        let server = format!("{}\n", enrolled.server);
        self.put(SERVER, server.as_bytes())?;
        self.renew(&enrolled.credential, &enrolled.trust)
    }

    /// Keeps a new credential and the roots that came with it.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Disk`]: what was there stays usable.
    pub fn renew(&self, credential: &Credential, trust: &TrustBundle) -> Result<(), IdentityError> {
        // The roots first: an old credential with new roots works, the other way round may not.
        self.trust(trust)?;
        let key = credential.key_pem().expose_secret();
        let chain = credential.chain_pem();
        let mut pem = Vec::with_capacity(key.len() + 1 + chain.len());
        pem.extend_from_slice(key.trim_end().as_bytes());
        pem.push(b'\n');
        pem.extend_from_slice(chain.as_bytes());
        let pem = SecretSlice::from(pem);
        self.put(IDENTITY, pem.expose_secret())
    }

    /// Keeps whom to trust.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Disk`].
    pub fn trust(&self, trust: &TrustBundle) -> Result<(), IdentityError> {
        self.put(TRUST, trust.to_pem().as_bytes())
    }

    fn read(&self, name: &str) -> Result<String, IdentityError> {
        let file = self.root.join(name);
        match files::read(&file, LONGEST) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| self.damaged(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(IdentityError::Missing {
                state_dir: self.root.parent().unwrap_or(Path::new("/")).to_owned(),
            }),
            Err(source) => Err(IdentityError::Disk { file, source }),
        }
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<(), IdentityError> {
        files::put(&self.root, name, content).map_err(|source| IdentityError::Disk {
            file: self.root.join(name),
            source,
        })
    }

    fn damaged(&self, name: &str) -> IdentityError {
        IdentityError::Damaged {
            file: self.root.join(name),
        }
    }
}

/// The key and what follows it.
fn parts(pem: &str) -> Option<(&str, &str)> {
    pem.split_at_checked(pem.find("-----BEGIN CERTIFICATE-----")?)
}

const IDENTITY: &str = "identity.pem";
const TRUST: &str = "trust.pem";
const SERVER: &str = "server";
const LONGEST: u64 = 1 << 20;
