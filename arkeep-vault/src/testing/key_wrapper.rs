//! What every [`KeyWrapper`] promises.
//!
//! Each function takes a maker of guards; two that it made do not know each other's keys.

use secrecy::{ExposeSecret, SecretSlice};

use super::{Broken, Kept, kept};
use crate::{KeyWrapper, Keyring, UnlockError, UnwrapError, WrappedRing};

/// Makes a `#[test]` of each promise in this module.
#[macro_export]
macro_rules! key_wrapper_conformance {
    ($make:expr) => {
        $crate::conformance!(
            $crate::testing::key_wrapper,
            $make,
            [
                unwraps_what_it_wrapped,
                hides_the_ring_key,
                rejects_what_another_wrapped,
                rejects_what_was_altered,
                locks_a_ring,
            ]
        );
    };
}

/// What it wrapped comes back.
pub fn unwraps_what_it_wrapped<W: KeyWrapper>(make: impl Fn() -> W) -> Kept {
    let guard = make();
    let wrapped = guard.wrap(&ring_key()).map_err(Broken::because)?;
    let unwrapped = guard.unwrap(&wrapped).map_err(Broken::because)?;
    kept(
        unwrapped.expose_secret() == ring_key().expose_secret(),
        "another key came out",
    )
}

/// The wrapped key does not show the key.
pub fn hides_the_ring_key<W: KeyWrapper>(make: impl Fn() -> W) -> Kept {
    let wrapped = make().wrap(&ring_key()).map_err(Broken::because)?;
    let shown = wrapped
        .windows(8)
        .any(|window| ring_key().expose_secret().starts_with(window));
    kept(!shown, "the ring key is in clear")
}

/// What another guard wrapped is rejected.
pub fn rejects_what_another_wrapped<W: KeyWrapper>(make: impl Fn() -> W) -> Kept {
    let wrapped = make().wrap(&ring_key()).map_err(Broken::because)?;
    is_rejected(&make(), &wrapped)
}

/// A byte changed or missing at either end, and it is rejected.
pub fn rejects_what_was_altered<W: KeyWrapper>(make: impl Fn() -> W) -> Kept {
    let guard = make();
    let wrapped = guard.wrap(&ring_key()).map_err(Broken::because)?;
    let mut altered = wrapped.clone();
    altered.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
    is_rejected(&guard, &altered)?;
    is_rejected(&guard, wrapped.get(1..).unwrap_or_default())?;
    is_rejected(
        &guard,
        wrapped.split_last().map_or(&[][..], |(_, rest)| rest),
    )
}

/// A ring that it locked opens with it, and with no other.
pub fn locks_a_ring<W: KeyWrapper>(make: impl Fn() -> W) -> Kept {
    let guard = make();
    let ring = Keyring::generate(0).map_err(Broken::because)?;
    let locked = WrappedRing::lock(&ring, &guard).map_err(Broken::because)?;
    let stored = WrappedRing::parse(&locked.to_bytes()).map_err(Broken::because)?;
    let opened = stored.unlock(&guard).map_err(Broken::because)?;
    kept(opened.primary() == ring.primary(), "another ring came out")?;
    kept(
        matches!(stored.unlock(&make()), Err(UnlockError::WrongKey)),
        "another guard's key was not wrong",
    )
}

fn is_rejected(guard: &impl KeyWrapper, wrapped: &[u8]) -> Kept {
    match guard.unwrap(wrapped) {
        Err(UnwrapError::Rejected) => Ok(()),
        Err(error) => Err(Broken::because(error)),
        Ok(_) => Err(Broken::because("it was unwrapped")),
    }
}

fn ring_key() -> SecretSlice<u8> {
    (0..32).collect::<Vec<u8>>().into()
}
