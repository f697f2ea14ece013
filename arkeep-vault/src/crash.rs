//! Places at which a test can end the process.
//!
//! With feature `failpoints` each is a point of the crate `fail`; without it there is nothing.

macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}

pub(crate) use crash_point;

/// The names of all of them, in no order.
///
/// For tests, behind feature `failpoints`: each is a point of the crate `fail`.
#[cfg(feature = "failpoints")]
pub const CRASH_POINTS: [&str; 11] = [
    "file-created",
    "file-half-written",
    "file-written",
    "file-synced",
    "file-linked",
    "file-replaced",
    "file-renamed",
    "directory-synced",
    "rekey-key-made",
    "rekey-begun",
    "rekey-renamed",
];
