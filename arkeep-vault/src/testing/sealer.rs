//! What every [`Sealer`] promises.
//!
//! Each function takes a maker of sealers; two that it made do not know each other's keys.

use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::{Broken, Kept, kept};
use crate::{Binding, OpenError, Sealed, Sealer};

/// Makes a `#[test]` of each promise in this module.
#[macro_export]
macro_rules! sealer_conformance {
    ($make:expr) => {
        $crate::conformance!(
            $crate::testing::sealer,
            $make,
            [
                opens_what_it_sealed,
                seals_the_empty_secret_like_any_other,
                seals_text,
                gives_different_bytes_each_time,
                shows_nothing_of_the_secret,
                opens_nothing_in_another_place,
                opens_nothing_that_another_sealed,
                opens_nothing_that_was_altered,
                opens_nothing_that_was_cut,
                opens_no_bytes_that_were_never_sealed,
                opens_after_a_stay_in_a_database,
            ]
        );
    };
}

/// Makes a `#[test]` of each function of a module. For the other macros.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance {
    ($suite:path, $make:expr, [$($promise:ident),* $(,)?]) => {
        $(
            #[test]
            fn $promise() -> $crate::testing::Kept {
                use $suite as suite;
                suite::$promise($make)
            }
        )*
    };
}

/// What was sealed for a place opens there.
pub fn opens_what_it_sealed<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    for length in [1, 15, 16, 17, 255, 4096] {
        let sealed = seal(&sealer, &vec![7; length])?;
        let opened = sealer.open(&sealed, &here()).map_err(Broken::because)?;
        kept(
            opened.expose_secret() == vec![7; length],
            "another secret came out",
        )?;
    }
    Ok(())
}

/// The empty secret is sealed, and tied to its place, like any other.
pub fn seals_the_empty_secret_like_any_other<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    let sealed = seal(&sealer, b"")?;
    let opened = sealer.open(&sealed, &here()).map_err(Broken::because)?;
    kept(opened.expose_secret().is_empty(), "something came out")?;
    is_rejected(sealer.open(&sealed, &there()))
}

/// A text comes back as that text, and bytes that are none do not.
pub fn seals_text<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    let text = SecretString::from("pässwörd");
    let sealed = sealer.seal_str(&text, &here()).map_err(Broken::because)?;
    let opened = sealer.open_str(&sealed, &here()).map_err(Broken::because)?;
    kept(
        opened.expose_secret() == text.expose_secret(),
        "another text came out",
    )?;
    let sealed = seal(&sealer, &[0xff])?;
    let opened = sealer.open_str(&sealed, &here());
    kept(
        matches!(opened, Err(OpenError::NotText)),
        "bytes were taken for text",
    )
}

/// Sealing the same secret twice gives different bytes.
pub fn gives_different_bytes_each_time<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    let (one, other) = (seal(&sealer, SECRET)?, seal(&sealer, SECRET)?);
    kept(one != other, "the same secret gave the same bytes")
}

/// The sealed bytes and what is printed of them hold no part of the secret.
pub fn shows_nothing_of_the_secret<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    let sealed = seal(&sealer, SECRET)?;
    kept(
        !contains(sealed.as_bytes(), SECRET),
        "the secret is in the blob",
    )?;
    for text in [format!("{sealed:?}"), format!("{sealer:?}")] {
        kept(!contains(text.as_bytes(), SECRET), "the secret is printed")?;
    }
    Ok(())
}

/// Another domain, table, column or record opens nothing, and says no more than that.
pub fn opens_nothing_in_another_place<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    let sealed = seal(&sealer, SECRET)?;
    for place in [
        here().in_domain("other"),
        Binding::new("other", "column", "record"),
        Binding::new("table", "other", "record"),
        Binding::new("table", "column", "other"),
        Binding::new("tablec", "olumn", "record"),
        there(),
    ] {
        is_rejected(sealer.open(&sealed, &place))?;
    }
    Ok(())
}

/// What another sealed does not open, and the error is that of a wrong place.
pub fn opens_nothing_that_another_sealed<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealed = seal(&make(), SECRET)?;
    is_rejected(make().open(&sealed, &here()))
}

/// One flipped bit, wherever it is, and nothing opens; the error is that of a wrong place.
pub fn opens_nothing_that_was_altered<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    let sealed = seal(&sealer, SECRET)?;
    for index in 0..sealed.as_bytes().len() {
        for bit in 0..8 {
            let mut bytes = sealed.as_bytes().to_owned();
            bytes
                .iter_mut()
                .skip(index)
                .take(1)
                .for_each(|byte| *byte ^= 1 << bit);
            is_rejected(sealer.open_bytes(&bytes, &here()))?;
        }
    }
    Ok(())
}

/// Bytes missing at either end, and nothing opens; the error is that of a wrong place.
pub fn opens_nothing_that_was_cut<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    let sealed = seal(&sealer, SECRET)?;
    for length in 0..sealed.as_bytes().len() {
        let first: Vec<_> = sealed.as_bytes().iter().copied().take(length).collect();
        let last: Vec<_> = sealed.as_bytes().iter().copied().skip(length + 1).collect();
        is_rejected(sealer.open_bytes(&first, &here()))?;
        is_rejected(sealer.open_bytes(&last, &here()))?;
    }
    Ok(())
}

/// Plaintext, and bytes of any kind, do not open; the error is that of a wrong place.
pub fn opens_no_bytes_that_were_never_sealed<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    for bytes in [b"".as_slice(), SECRET, &[0; 64], &[1; 64], &[0xff; 200]] {
        is_rejected(sealer.open_bytes(bytes, &here()))?;
    }
    Ok(())
}

/// The bytes are enough to open the secret again.
pub fn opens_after_a_stay_in_a_database<S: Sealer>(make: impl Fn() -> S) -> Kept {
    let sealer = make();
    let stored = seal(&sealer, SECRET)?.into_bytes();
    let read = Sealed::parse(&stored).map_err(Broken::because)?;
    for opened in [
        sealer.open(&read, &here()),
        sealer.open_bytes(&stored, &here()),
    ] {
        let opened = opened.map_err(Broken::because)?;
        kept(opened.expose_secret() == SECRET, "another secret came out")?;
    }
    Ok(())
}

fn seal(sealer: &impl Sealer, secret: &[u8]) -> Result<Sealed, Broken> {
    sealer
        .seal(&SecretSlice::from(secret.to_owned()), &here())
        .map_err(Broken::because)
}

fn is_rejected(opened: Result<SecretSlice<u8>, OpenError>) -> Kept {
    match opened {
        Err(OpenError::Rejected) => Ok(()),
        Err(error) => Err(Broken::because(format!("it said more than no: {error}"))),
        Ok(_) => Err(Broken::because("it opened")),
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn here() -> Binding {
    Binding::new("table", "column", "record")
}

fn there() -> Binding {
    Binding::new("table", "column", "record 2")
}

const SECRET: &[u8] = b"correct horse battery staple";
