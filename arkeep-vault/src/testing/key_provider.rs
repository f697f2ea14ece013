//! What every [`KeyProvider`] promises.
//!
//! Each function takes a maker of providers; two that it made do not know each other's keys.

use secrecy::SecretSlice;

use super::{Broken, Kept, kept};
use crate::{Binding, KeyError, KeyProvider, Sealer, Vault};

/// Makes a `#[test]` of each promise in this module.
#[macro_export]
macro_rules! key_provider_conformance {
    ($make:expr) => {
        $crate::conformance!(
            $crate::testing::key_provider,
            $make,
            [
                finds_the_current_key_by_its_id,
                gives_one_id_to_one_key,
                does_not_know_the_keys_of_another,
                prints_no_key,
            ]
        );
    };
}

/// The key that seals can be had by its id, at once.
pub fn finds_the_current_key_by_its_id<P: KeyProvider>(make: impl Fn() -> P) -> Kept {
    let keys = make();
    let current = keys.current().map_err(Broken::because)?;
    let found = keys.by_id(current.id()).map_err(Broken::because)?;
    kept(found.id() == current.id(), "a key of another id came back")
}

/// An id stands for the same key, whenever it is asked for.
pub fn gives_one_id_to_one_key<P: KeyProvider + 'static>(make: impl Fn() -> P) -> Kept {
    let vault = Vault::new(make());
    let place = Binding::new("table", "column", "record");
    let secret = SecretSlice::from(vec![7; 32]);
    let sealed: Vec<_> = (0..8)
        .map(|_| vault.seal(&secret, &place))
        .collect::<Result<_, _>>()
        .map_err(Broken::because)?;
    for blob in sealed.iter().chain(&sealed) {
        vault.open(blob, &place).map_err(Broken::because)?;
    }
    Ok(())
}

/// An id of somebody else's key is unknown.
pub fn does_not_know_the_keys_of_another<P: KeyProvider>(make: impl Fn() -> P) -> Kept {
    let id = make().current().map_err(Broken::because)?.id();
    let found = make().by_id(id);
    kept(
        matches!(found, Err(KeyError::Unknown { id: i }) if i == id),
        "it was not unknown",
    )
}

/// What is printed of a provider does not change with its key bytes, other than by ids and counts.
pub fn prints_no_key<P: KeyProvider>(make: impl Fn() -> P) -> Kept {
    let keys = make();
    let key = keys.current().map_err(Broken::because)?;
    let printed = format!("{key:?}");
    kept(
        printed.contains("[REDACTED]"),
        "a data key prints more than its id",
    )
}
