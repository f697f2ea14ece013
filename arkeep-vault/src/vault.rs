//! Sealing with the keys of a provider.

use std::sync::Arc;

use secrecy::zeroize::Zeroize;
use secrecy::{ExposeSecret, SecretSlice};

use crate::nonce;
use crate::sealed::{HEADER_LEN, Header, XAES_256_GCM};
use crate::xaes::{NONCE_LEN, Nonce, TAG_LEN};
use crate::{Binding, DataKey, KeyProvider, MAX_SECRET_LEN, OpenError, SealError, Sealed, Sealer};

/// Seals with XAES-256-GCM under the keys of a [`KeyProvider`].
///
/// Cheap to clone, and meant to be shared.
///
/// ```
/// use arkeep_vault::{Binding, Keyring, Sealer, SecretString, Vault};
/// use secrecy::ExposeSecret;
///
/// let vault = Vault::new(Keyring::generate(0)?);
/// let place = Binding::new("channels", "secret", "7");
///
/// let sealed = vault.seal_str(&SecretString::from("hunter2"), &place)?;
///
/// assert_eq!(vault.open_str(&sealed, &place)?.expose_secret(), "hunter2");
/// assert!(vault.open(&sealed, &Binding::new("channels", "secret", "8")).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Vault {
    keys: Arc<dyn KeyProvider>,
}

impl Vault {
    /// A vault over keys that nobody else needs to see.
    #[must_use]
    pub fn new(keys: impl KeyProvider + 'static) -> Self {
        Self::shared(Arc::new(keys))
    }

    /// A vault over keys that are used elsewhere too, such as a ring that is being rotated.
    #[must_use]
    pub fn shared(keys: Arc<dyn KeyProvider>) -> Self {
        Self { keys }
    }

    /// Seals a secret again with the current key, in its place.
    ///
    /// Write the result back only if the row still holds `sealed`; whoever changed the row in the
    /// meantime has sealed the newer secret, with the current key.
    ///
    /// # Errors
    ///
    /// [`ResealError`]. The row is best left as it is.
    pub fn reseal(&self, sealed: &Sealed, binding: &Binding) -> Result<Sealed, ResealError> {
        Ok(self.seal(&self.open(sealed, binding)?, binding)?)
    }
}

/// A secret was not sealed again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResealError {
    /// It did not open. It cannot be moved to another key.
    #[error("the secret did not open")]
    Open(#[from] OpenError),

    /// It opened, and could not be sealed.
    #[error("the secret was not sealed again")]
    Seal(#[from] SealError),
}

impl Sealer for Vault {
    fn seal(&self, secret: &SecretSlice<u8>, binding: &Binding) -> Result<Sealed, SealError> {
        let secret = secret.expose_secret();
        if secret.len() > MAX_SECRET_LEN {
            return Err(SealError::TooLong);
        }
        let key = self.keys.current()?;
        let nonce = nonce::fresh().map_err(|_| SealError::NoRandomness)?;
        seal_with(&key, &nonce, secret, binding)
    }

    fn open(&self, sealed: &Sealed, binding: &Binding) -> Result<SecretSlice<u8>, OpenError> {
        let parts = sealed.xaes_parts().ok_or(OpenError::Rejected)?;
        let key = self.keys.by_id(sealed.key_id())?;
        let mut buffer = parts.ciphertext.to_owned();
        key.cipher()
            .open(
                &parts.nonce,
                &binding.associated_data(parts.header),
                &mut buffer,
                parts.tag,
            )
            .map_err(|_| OpenError::Rejected)?;
        Ok(buffer.into())
    }
}

/// Seals under a nonce that the caller promises never to use again with this key.
pub(crate) fn seal_with(
    key: &DataKey,
    nonce: &Nonce,
    secret: &[u8],
    binding: &Binding,
) -> Result<Sealed, SealError> {
    let header = Header {
        algorithm: XAES_256_GCM,
        key_id: key.id(),
    };
    let header = header.to_bytes();
    // All the room at once: growing later would leave a copy of the secret behind.
    let mut bytes = Vec::with_capacity(HEADER_LEN + NONCE_LEN + secret.len() + TAG_LEN);
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(nonce.as_flattened());
    bytes.extend_from_slice(secret);
    let (_, body) = bytes.split_at_mut(HEADER_LEN + NONCE_LEN);
    let Ok(tag) = key
        .cipher()
        .seal(nonce, &binding.associated_data(&header), body)
    else {
        bytes.zeroize();
        return Err(SealError::TooLong);
    };
    bytes.extend_from_slice(&tag);
    Ok(Sealed::from_xaes(key.id(), bytes))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::{KeyError, KeyId, Keyring, ParseError};

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn vault() -> Result<Vault, Box<dyn std::error::Error>> {
        Ok(Vault::new(Keyring::generate(0)?))
    }

    fn here() -> Binding {
        Binding::new("destinations", "credentials", "one")
    }

    fn rejected(opened: Result<SecretSlice<u8>, OpenError>) -> bool {
        matches!(opened, Err(OpenError::Rejected))
    }

    mod seal {
        use super::*;

        /// V4
        #[test]
        fn treats_the_empty_string_like_any_other() -> TestResult {
            let vault = vault()?;

            let sealed = vault.seal_str(&SecretString::from(""), &here())?;

            assert_eq!(sealed.as_bytes().len(), 50);
            assert_eq!(vault.open_str(&sealed, &here())?.expose_secret(), "");
            assert!(rejected(vault.open(&sealed, &here().in_domain("other"))));
            Ok(())
        }

        /// V1
        #[test]
        fn never_gives_the_same_bytes_twice() -> TestResult {
            let vault = vault()?;
            let secret = SecretString::from("the same");

            let one = vault.seal_str(&secret, &here())?;
            let other = vault.seal_str(&secret, &here())?;

            assert_ne!(one.as_bytes()[10..34], other.as_bytes()[10..34]);
            assert_ne!(one.as_bytes()[34..], other.as_bytes()[34..]);
            Ok(())
        }

        #[test]
        fn refuses_what_is_longer_than_the_longest_secret() -> TestResult {
            let vault = vault()?;
            let longest = SecretSlice::from(vec![0; MAX_SECRET_LEN]);
            let longer = SecretSlice::from(vec![0; MAX_SECRET_LEN + 1]);

            assert!(vault.seal(&longest, &here()).is_ok());
            assert!(matches!(
                vault.seal(&longer, &here()),
                Err(SealError::TooLong)
            ));
            Ok(())
        }
    }

    mod open {
        use super::*;

        /// V3
        #[test]
        fn rejects_every_single_flipped_bit() -> TestResult {
            let vault = vault()?;
            let sealed = vault.seal_str(&SecretString::from("hunter2"), &here())?;
            let genuine = sealed.as_bytes();

            for bit in 0..genuine.len() * 8 {
                let mut bytes = genuine.to_owned();
                bytes[bit / 8] ^= 1 << (bit % 8);

                assert!(rejected(vault.open_bytes(&bytes, &here())), "bit {bit}");
            }
            assert!(vault.open_bytes(genuine, &here()).is_ok());
            Ok(())
        }

        /// V3
        #[test]
        fn rejects_every_truncation_and_every_addition() -> TestResult {
            let vault = vault()?;
            let sealed = vault.seal_str(&SecretString::from("hunter2"), &here())?;
            let genuine = sealed.as_bytes();

            for length in 0..genuine.len() {
                let cut = &genuine[..length];
                let tail = &genuine[genuine.len() - length..];

                assert!(rejected(vault.open_bytes(cut, &here())), "first {length}");
                assert!(rejected(vault.open_bytes(tail, &here())), "last {length}");
            }
            assert!(rejected(
                vault.open_bytes(&[genuine, &[0]].concat(), &here())
            ));
            Ok(())
        }

        /// V3
        #[test]
        fn gives_one_error_for_key_binding_and_bytes() -> TestResult {
            let id = KeyId::from_bytes([1; 8]);
            let with_key = |byte| Keyring::single(id, &vec![byte; 32].into(), 0);
            let vault = Vault::new(with_key(1)?);
            let sealed = vault.seal_str(&SecretString::from("hunter2"), &here())?;
            let mut altered = sealed.as_bytes().to_owned();
            *altered.last_mut().ok_or("empty")? ^= 1;

            let errors = [
                Vault::new(with_key(2)?).open(&sealed, &here()),
                super::vault()?.open(&sealed, &here()),
                vault.open(&sealed, &Binding::new("users", "credentials", "one")),
                vault.open_bytes(&altered, &here()),
                vault.open_bytes(b"", &here()),
                vault.open_bytes(b"plaintext", &here()),
            ]
            .map(|opened| opened.map(|_| ()).map_err(|e| format!("{e:?} {e}")));

            for error in &errors {
                assert_eq!(
                    error,
                    &Err("Rejected the sealed secret was rejected".to_owned())
                );
            }
            Ok(())
        }

        /// V2
        #[test]
        fn rejects_a_ciphertext_moved_to_another_row() -> TestResult {
            let vault = vault()?;
            let columns = [
                ("destinations", "credentials"),
                ("policies", "repository_password"),
                ("channels", "secret"),
                ("channels", "config"),
            ];
            let places: Vec<_> = (0..50u8)
                .flat_map(|row| columns.map(|(table, column)| Binding::new(table, column, [row])))
                .collect();
            let secret = SecretString::from("hunter2");
            let sealed: Vec<_> = places
                .iter()
                .map(|place| vault.seal_str(&secret, place))
                .collect::<Result<_, _>>()?;

            for (home, blob) in sealed.iter().enumerate() {
                for (target, place) in places.iter().enumerate() {
                    assert_eq!(vault.open(blob, place).is_ok(), home == target);
                }
            }
            Ok(())
        }

        #[test]
        fn rejects_a_blob_of_somebody_elses_algorithm() -> TestResult {
            let sealed = Sealed::foreign(200, KeyId::from_bytes([0; 8]), &[0; 64])?;

            assert!(rejected(vault()?.open(&sealed, &here())));
            Ok(())
        }

        #[test]
        fn says_when_the_key_is_disabled() -> TestResult {
            let mut ring = Keyring::generate(0)?;
            let old = ring.primary();
            let sealed = Vault::new(ring.clone()).seal_str(&SecretString::from("x"), &here())?;
            ring.rotate(1)?;
            ring.disable(old, 2)?;

            let opened = Vault::new(ring).open(&sealed, &here());

            assert!(matches!(opened, Err(OpenError::Key(KeyError::Disabled { id })) if id == old));
            Ok(())
        }

        /// V4: the error of a secret that is no text shows no byte of it.
        #[test]
        fn keeps_a_secret_that_is_not_text_out_of_the_error() -> TestResult {
            let vault = vault()?;
            let sealed = vault.seal(&vec![b'a', 0xff].into(), &here())?;

            let opened = vault.open_str(&sealed, &here());

            assert!(matches!(opened, Err(OpenError::NotText)));
            assert_eq!(vault.open(&sealed, &here())?.expose_secret(), [b'a', 0xff]);
            Ok(())
        }
    }

    mod reseal {
        use super::*;

        /// V7
        #[test]
        fn moves_a_secret_to_the_current_key() -> TestResult {
            let mut ring = Keyring::generate(0)?;
            let sealed = Vault::new(ring.clone()).seal_str(&SecretString::from("x"), &here())?;
            let new = ring.rotate(1)?;
            let vault = Vault::new(ring);

            let resealed = vault.reseal(&sealed, &here())?;

            assert_eq!(resealed.key_id(), new);
            assert_eq!(vault.open_str(&resealed, &here())?.expose_secret(), "x");
            Ok(())
        }

        /// V7
        #[test]
        fn leaves_alone_what_does_not_open() -> TestResult {
            let sealed = vault()?.seal_str(&SecretString::from("x"), &here())?;

            let resealed = vault()?.reseal(&sealed, &here());

            assert!(matches!(
                resealed,
                Err(ResealError::Open(OpenError::Rejected))
            ));
            Ok(())
        }
    }

    mod open_bytes {
        use super::*;

        #[test]
        fn hides_what_parse_would_tell() -> TestResult {
            assert_eq!(Sealed::parse(b""), Err(ParseError::TooShort));
            assert!(rejected(vault()?.open_bytes(b"", &here())));
            Ok(())
        }
    }
}
