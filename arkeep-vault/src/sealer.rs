//! The joint between a program and its vault.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::{Binding, KeyError, MAX_SECRET_LEN, ParseError, Sealed};

/// Seals secrets before they are stored and opens them afterwards.
///
/// Programs that store secrets take an `Arc<dyn Sealer>` and know nothing of keys. [`Vault`] is
/// the one that comes with this crate. Implement the trait to bring cryptography of your own, such
/// as a service that encrypts for you; [`Sealed::foreign`] makes the blobs.
///
/// # Security
///
/// - `open` returns a secret only when nobody without the key could have made the blob, and only
///   for the binding that it was sealed for.
/// - Whatever is wrong, a wrong key, another binding or altered bytes, `open` returns
///   [`OpenError::Rejected`]: a caller that can tell them apart can ask questions about blobs that
///   it cannot read.
/// - Sealing the same secret twice gives different bytes.
/// - No error, in any form, holds a part of the secret.
///
/// # Cost
///
/// Both may be called from asynchronous code without stepping aside: they compute for about as
/// long as AES-GCM does, and wait for nothing.
///
/// [`Vault`]: crate::Vault
pub trait Sealer: fmt::Debug + Send + Sync {
    /// Seals `secret` for this place, however short it is: the empty string too.
    fn seal(&self, secret: &SecretSlice<u8>, binding: &Binding) -> Result<Sealed, SealError>;

    /// Opens what was sealed for this place.
    fn open(&self, sealed: &Sealed, binding: &Binding) -> Result<SecretSlice<u8>, OpenError>;

    /// Seals a text.
    fn seal_str(&self, secret: &SecretString, binding: &Binding) -> Result<Sealed, SealError> {
        // A boxed copy of exact length: it is wiped when dropped, and nothing is left behind by a
        // reallocation.
        let bytes = SecretSlice::from(secret.expose_secret().as_bytes().to_owned());
        self.seal(&bytes, binding)
    }

    /// Opens a text.
    fn open_str(&self, sealed: &Sealed, binding: &Binding) -> Result<SecretString, OpenError> {
        text(&self.open(sealed, binding)?)
    }

    /// Opens what a database returned.
    ///
    /// Bytes that are no sealed secret are [`OpenError::Rejected`] too, so that one error covers
    /// every way in which stored bytes can be wrong. [`Sealed::parse`] tells what they are.
    fn open_bytes(&self, stored: &[u8], binding: &Binding) -> Result<SecretSlice<u8>, OpenError> {
        let sealed = Sealed::parse(stored).map_err(|_: ParseError| OpenError::Rejected)?;
        self.open(&sealed, binding)
    }
}

/// A secret was not sealed. Nothing was stored, and nothing of it is in the error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key to seal with could not be had. Worth a retry when the cause is
    /// [`KeyError::Unavailable`].
    #[error("the key to seal with could not be had")]
    Key(#[from] KeyError),

    /// The secret is longer than a vault is meant for. Store it elsewhere, encrypted under a key
    /// that is sealed here.
    #[error("the secret is longer than {MAX_SECRET_LEN} bytes")]
    TooLong,

    /// The operating system gave no random bytes. Do not go on without them.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

/// A sealed secret did not open.
///
/// Whatever went wrong, no part of the secret is in the error: not in `Debug`, not in `Display`,
/// not in the chain of causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The key that sealed this secret is known and could not be had.
    ///
    /// Worth a retry when the cause is [`KeyError::Unavailable`]; an operator's decision when it
    /// is [`KeyError::Disabled`].
    #[error("the key for this secret could not be had")]
    Key(#[source] KeyError),

    /// Authentication failed: another key, another binding, or altered bytes.
    ///
    /// One variant on purpose, see [`Sealer`]. A retry changes nothing.
    #[error("the sealed secret was rejected")]
    Rejected,

    /// The secret is genuine and is not text. Open it as bytes.
    #[error("the secret is not text")]
    NotText,
}

/// An id that no key has is what altered bytes and a wrong ring look like, so it is rejected like
/// them.
impl From<KeyError> for OpenError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unknown { .. } => Self::Rejected,
            error => Self::Key(error),
        }
    }
}

fn text(secret: &SecretSlice<u8>) -> Result<SecretString, OpenError> {
    // The error of `from_utf8` is dropped: it says where in the secret the fault lies.
    let text = str::from_utf8(secret.expose_secret()).map_err(|_| OpenError::NotText)?;
    Ok(SecretString::from(text))
}
