//! How a receiver knows that a delivery is ours.
//!
//! The header `X-Arkeep-Signature` is `t=<unix>,v1=<hex>`: the time of sending, and the HMAC-SHA256 of
//! that time, a full stop and the body, under the channel's secret. A receiver computes the same,
//! compares in constant time, and refuses what was sent long ago.

use arkeep_core::{ExposeSecret as _, SecretString, Timestamp};
use aws_lc_rs::hmac;

/// The name of the header.
pub const HEADER: &str = "x-arkeep-signature";

/// The header's value for `body`, sent at `now`.
///
/// ```
/// # use arkeep_core::{SecretString, Timestamp};
/// # use arkeep_server::notify::signature::sign;
/// let secret = SecretString::from("key");
/// let signature = sign(&secret, Timestamp::from_unix_seconds(1_700_000_000), b"{}");
/// assert!(signature.starts_with("t=1700000000,v1="));
/// ```
#[must_use]
pub fn sign(secret: &SecretString, now: Timestamp, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let seconds = now.as_unix_seconds();
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    let tag = context.sign();
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={seconds},v1={hex}")
}
