//! The key that guards the ring.
//!
//! Data keys are many and live in the ring file. What protects that file is one key from outside
//! the database and outside the data directory's backups: the key-encryption key. It wraps a
//! random *ring key*, and the ring key encrypts the ring, so that changing the one leaves the
//! other alone.
//!
//! | source | made with |
//! |---|---|
//! | a file of 32 bytes, or of 64 hexadecimal digits | [`KeyEncryptionKey::from_file`] |
//! | a systemd credential | [`KeyEncryptionKey::from_systemd_credential`] |
//! | the environment, 64 hexadecimal digits | [`KeyEncryptionKey::from_env_value`] |
//! | a passphrase, by Argon2id | [`KeyEncryptionKey::from_passphrase`], [`KeyEncryptionKey::from_passphrase_file`] |
//! | memory | [`KeyEncryptionKey::from_bytes`] |
//! | a key management service | your own [`KeyWrapper`] |

mod file;
mod passphrase;

use std::fmt;
use std::path::Path;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::KeyLengthError;
use crate::files::directory;
use crate::hex;
use crate::xaes::{KEY_LEN, Refused, XaesKey};
use file::{Audience, Origin};

pub use file::KeyFileError;
pub use passphrase::{PassphraseCost, PassphraseError};

/// Guards the ring key.
///
/// Implement this to let a key management service do it: one call to wrap 32 bytes, one to get
/// them back. [`KeyEncryptionKey`] is the implementation that needs no service.
///
/// # Security
///
/// - `wrap` must encrypt *and* authenticate: `unwrap` answers [`UnwrapError::Rejected`] for
///   whatever `wrap` did not make.
/// - Answer [`UnwrapError::Unavailable`] when the service cannot be asked. The program then does
///   not start, and says so, instead of blaming the key.
///
/// # Cost
///
/// Each runs once when a ring is opened or rekeyed, never while secrets are sealed. A wait of
/// seconds is fine.
pub trait KeyWrapper: fmt::Debug + Send + Sync {
    /// What kind of guard this is: at most 64 printable ASCII characters without a space, such as
    /// `transit:arkeep`.
    ///
    /// It stands in the ring file in clear. A ring guarded by another kind is not tried.
    fn kind(&self) -> &str;

    /// Encrypts the ring key; at most 4096 bytes.
    fn wrap(&self, ring_key: &SecretSlice<u8>) -> Result<Vec<u8>, WrapError>;

    /// Decrypts what [`wrap`](Self::wrap) made.
    fn unwrap(&self, wrapped: &[u8]) -> Result<SecretSlice<u8>, UnwrapError>;
}

/// The ring key could not be wrapped. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrapError {
    /// What guards the key cannot be asked now.
    #[error("the ring key cannot be wrapped now")]
    Unavailable {
        /// What stands in the way.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The ring key could not be unwrapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// Wrapped by another key, or altered. A retry changes nothing.
    #[error("the wrapped ring key was rejected")]
    Rejected,

    /// What guards the key cannot be asked now. Worth a retry.
    #[error("the ring key cannot be unwrapped now")]
    Unavailable {
        /// What stands in the way.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A key-encryption key that this process holds.
///
/// Its bytes are wiped when it is dropped, and nothing prints them.
pub struct KeyEncryptionKey {
    inner: Inner,
}

enum Inner {
    Key {
        key: Box<XaesKey>,
        origin: Option<Origin>,
    },
    Passphrase(passphrase::Passphrase),
}

impl KeyEncryptionKey {
    /// Takes 32 bytes that are already in memory.
    ///
    /// # Errors
    ///
    /// When they are not 32.
    pub fn from_bytes(key: &SecretSlice<u8>) -> Result<Self, KeyLengthError> {
        let key = key.expose_secret();
        let length = key.len();
        let key = key.try_into().map_err(|_| KeyLengthError { length })?;
        Ok(Self::from_array(key))
    }

    /// Reads a key file: 32 bytes, or 64 hexadecimal digits with or without a line end.
    ///
    /// When the key later turns out not to open a ring, the file is read again: another process
    /// may have changed both.
    ///
    /// The file must be a regular one that nobody but its owner may read, write or execute.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] names the file and says what to do.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        Origin::new(path.as_ref(), Audience::Owner).read()
    }

    /// Reads the credential `name` from the directory that systemd made for this service, which is
    /// the value of `CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] names the file and says what to do. A name with a slash in it is
    /// [`KeyFileError::Missing`].
    pub fn from_systemd_credential(
        name: &str,
        credentials_directory: impl AsRef<Path>,
    ) -> Result<Self, KeyFileError> {
        let path = credentials_directory.as_ref().join(name);
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(KeyFileError::Missing { path });
        }
        Origin::new(&path, Audience::Group).read()
    }

    /// Takes the value of an environment variable: 64 hexadecimal digits.
    ///
    /// Other processes of the same user can read the environment. Prefer a file.
    ///
    /// # Errors
    ///
    /// When the value is anything else. The value is not in the error.
    pub fn from_env_value(value: &SecretString) -> Result<Self, KeyValueError> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        match hex::decode(value.expose_secret().as_bytes(), &mut *key) {
            true => Ok(Self::from_array(&key)),
            false => Err(KeyValueError),
        }
    }

    /// Derives the key from a passphrase by Argon2id.
    ///
    /// `cost` is for wrapping. The salt and the cost of a ring that exists are read from the ring,
    /// so the same passphrase opens it whatever is passed here.
    ///
    /// # Errors
    ///
    /// When the passphrase is empty, or the cost is outside of what is allowed.
    pub fn from_passphrase(
        passphrase: SecretString,
        cost: PassphraseCost,
    ) -> Result<Self, PassphraseError> {
        let passphrase = passphrase::Passphrase::new(passphrase, cost)?;
        Ok(Self {
            inner: Inner::Passphrase(passphrase),
        })
    }

    /// Derives the key from the passphrase in a file: one line of text, of at most 4 KiB, with or
    /// without its end.
    ///
    /// The file must be a regular one that nobody but its owner may read, write or execute.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] names the file and says what to do.
    pub fn from_passphrase_file(
        path: impl AsRef<Path>,
        cost: PassphraseCost,
    ) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let text = Origin::new(path, Audience::Owner).read_passphrase()?;
        let path = path.to_owned();
        Self::from_passphrase(text, cost)
            .map_err(|source| KeyFileError::Passphrase { path, source })
    }

    /// Makes a key file with 32 random bytes, mode 0600, and takes the key.
    ///
    /// The file is on the disk when this returns. Made by root, it belongs to whoever owns the
    /// directory.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Exists`] when anything is at the path; it is never overwritten.
    pub fn generate_file(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        Self::generate_file_like(path, directory(path))
    }

    /// The same, for whoever owns `like`.
    pub(crate) fn generate_file_like(path: &Path, like: &Path) -> Result<Self, KeyFileError> {
        let origin = Origin::new(path, Audience::Owner);
        origin.generate(like)?;
        origin.read()
    }

    fn from_array(key: &[u8; KEY_LEN]) -> Self {
        let key = XaesKey::new(key);
        let origin = None;
        Self {
            inner: Inner::Key { key, origin },
        }
    }
}

impl KeyWrapper for KeyEncryptionKey {
    fn kind(&self) -> &str {
        match self.inner {
            Inner::Key { .. } => "key",
            Inner::Passphrase(_) => "passphrase",
        }
    }

    fn wrap(&self, ring_key: &SecretSlice<u8>) -> Result<Vec<u8>, WrapError> {
        match &self.inner {
            Inner::Key { key, .. } => key
                .seal_message(KEY_DOMAIN, ring_key.expose_secret())
                .map_err(no_randomness),
            Inner::Passphrase(passphrase) => passphrase.wrap(ring_key),
        }
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<SecretSlice<u8>, UnwrapError> {
        match &self.inner {
            Inner::Key { key, origin } => key
                .open_message(KEY_DOMAIN, wrapped)
                // Another process may have changed the key in the file since it was read.
                .or_else(|refused| match origin {
                    Some(origin) => origin.read_again()?.open_message(KEY_DOMAIN, wrapped),
                    None => Err(refused),
                })
                .map_err(|Refused| UnwrapError::Rejected),
            Inner::Passphrase(passphrase) => passphrase.unwrap(wrapped),
        }
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEncryptionKey({}, [REDACTED])", self.kind())
    }
}

/// A value that is not a key. It is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the value is not a key: give 64 hexadecimal digits, as `openssl rand -hex 32` prints them"
)]
pub struct KeyValueError;

/// Boxes a cause for [`WrapError::Unavailable`].
fn no_randomness(source: getrandom::Error) -> WrapError {
    WrapError::Unavailable {
        source: Box::new(source),
    }
}

const KEY_DOMAIN: &[u8] = b"arkeep-vault 1 ring key, wrapped by a key";

#[cfg(test)]
mod tests {
    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn opens(one: &KeyEncryptionKey, other: &KeyEncryptionKey) -> Result<bool, WrapError> {
        let wrapped = one.wrap(&vec![9; 32].into())?;
        Ok(other.unwrap(&wrapped).is_ok())
    }

    mod from_env_value {
        use super::*;

        /// V5
        #[test]
        fn takes_sixty_four_digits() -> TestResult {
            let value = SecretString::from("0F".repeat(32));

            let key = KeyEncryptionKey::from_env_value(&value)?;

            let same = KeyEncryptionKey::from_bytes(&vec![0x0f; 32].into())?;
            assert!(opens(&key, &same)?);
            Ok(())
        }

        /// V5: and the value is not in the error.
        #[test]
        fn refuses_anything_else_and_keeps_it_to_itself() {
            for value in [
                "",
                "hunter2",
                &"0f".repeat(31),
                &"0f".repeat(33),
                &"0g".repeat(32),
            ] {
                let error = KeyEncryptionKey::from_env_value(&SecretString::from(value));

                let error = error.map(|_| ()).unwrap_err();
                assert!(error.to_string().contains("64 hexadecimal digits"));
                assert!(value.is_empty() || !format!("{error:?} {error}").contains(value));
            }
        }
    }

    mod from_bytes {
        use super::*;

        /// V5
        #[test]
        fn has_exactly_thirty_two() {
            for length in [0, 16, 31, 33, 64] {
                let made = KeyEncryptionKey::from_bytes(&vec![0; length].into()).map(|_| ());

                assert_eq!(made, Err(KeyLengthError { length }));
            }
        }
    }

    mod debug {
        use super::*;

        /// V8
        #[test]
        fn names_the_kind_and_nothing_else() -> TestResult {
            let key = KeyEncryptionKey::from_bytes(&vec![0x41; 32].into())?;
            let passphrase = KeyEncryptionKey::from_passphrase(
                SecretString::from("open sesame"),
                PassphraseCost::default(),
            )?;

            assert_eq!(format!("{key:?}"), "KeyEncryptionKey(key, [REDACTED])");
            assert_eq!(
                format!("{passphrase:?}"),
                "KeyEncryptionKey(passphrase, [REDACTED])"
            );
            Ok(())
        }
    }

    mod unwrap {
        use super::*;

        /// V7: a process that runs on while another changes the key in the file.
        #[test]
        fn reads_the_file_again_when_its_key_is_refused() -> TestResult {
            let directory = tempfile::tempdir()?;
            let path = directory.path().join("vault.key");
            let running = KeyEncryptionKey::generate_file(&path)?;
            let old = running.wrap(&vec![9; 32].into())?;
            std::fs::remove_file(&path)?;
            let new = KeyEncryptionKey::generate_file(&path)?;

            assert!(opens(&new, &running)?);
            assert!(running.unwrap(&old).is_ok(), "what it knew it still knows");
            std::fs::remove_file(&path)?;
            assert!(!opens(&new, &running)?);
            Ok(())
        }
    }
}
