#![doc = include_str!("../README.md")]

mod binding;
mod crash;
mod files;
mod hex;
mod kek;
mod nonce;
mod provider;
mod ring;
mod sealed;
mod sealer;
mod secret;
mod stack;
#[cfg(feature = "testing")]
pub mod testing;
mod vault;
mod xaes;

#[doc = include_str!("../FORMAT.md")]
pub mod format {}

pub use binding::Binding;
#[cfg(feature = "failpoints")]
pub use crash::CRASH_POINTS;
pub use kek::{
    KeyEncryptionKey, KeyFileError, KeyValueError, KeyWrapper, PassphraseCost, PassphraseError,
    UnwrapError, WrapError,
};
pub use provider::{DataKey, KeyError, KeyLengthError, KeyProvider};
pub use ring::{
    Census, ChangeError, KeyInfo, KeyState, Keyring, REMOVAL_DELAY_MILLIS, RekeyError, RingError,
    RingFile, RingFormatError, RingPlace, UnlockError, WrappedRing,
};
pub use sealed::{KeyId, MAX_SECRET_LEN, ParseError, ParseKeyIdError, Sealed};
pub use sealer::{OpenError, SealError, Sealer};
pub use secrecy::{self, ExposeSecret, SecretSlice, SecretString};
pub use secret::{ReadSecretError, read_secret};
pub use vault::{ResealError, Vault};
