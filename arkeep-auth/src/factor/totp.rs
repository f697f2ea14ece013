use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use arkeep_core::{Entropy, Timestamp};
use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The secret that a user's authenticator shares with us: 160 bits, as RFC 4226 recommends.
#[derive(Clone)]
pub struct TotpSecret(Zeroizing<[u8; 20]>);

/// A step of 30 seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TotpStep(i64);

impl TotpStep {
    /// Takes over a number that a store keeps.
    #[must_use]
    pub const fn from_i64(number: i64) -> Self {
        Self(number)
    }

    /// The number, for a store.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    fn at(now: Timestamp) -> Self {
        Self(now.as_unix_seconds().div_euclid(STEP_SECONDS))
    }
}

impl TotpSecret {
    /// How long a code is shown by an authenticator.
    pub const STEP: Duration = Duration::from_secs(30);

    /// Makes a new one.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 20]);
        entropy.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Takes up a secret that was stored: 20 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut secret = Zeroizing::new([0; 20]);
        if bytes.len() != secret.len() {
            return None;
        }
        secret.copy_from_slice(bytes);
        Some(Self(secret))
    }

    /// The secret, to be sealed and stored.
    #[must_use]
    pub fn expose(&self) -> &[u8; 20] {
        &self.0
    }

    /// The secret as a user types it where there is no camera: base32.
    #[must_use]
    pub fn to_base32(&self) -> Zeroizing<String> {
        base32(self.0.as_slice())
    }

    /// The secret as a picture for a camera says it: an `otpauth` URI.
    #[must_use]
    pub fn uri(&self, issuer: &str, account: &str) -> Zeroizing<String> {
        let (issuer, account) = (percent(issuer), percent(account));
        let secret = self.to_base32();
        // The parameters have their default values; authenticators that read them exist all the same.
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits=6&period=30",
            secret.as_str()
        ))
    }

    /// The code that an authenticator shows.
    #[must_use]
    pub fn code_at(&self, now: Timestamp) -> String {
        self.code(TotpStep::at(now))
    }

    /// The step that a code belongs to: this one, the one before, or the one after.
    ///
    /// RFC 6238 §5.2 recommends to allow for one step of delay; clocks of telephones run fast too.
    #[must_use]
    pub fn step_of(&self, code: &str, now: Timestamp) -> Option<TotpStep> {
        let TotpStep(present) = TotpStep::at(now);
        let mut found = None;
        // All three are compared, so that the time taken tells nothing of which.
        for step in [-1, 0, 1].map(|away| TotpStep(present.saturating_add(away))) {
            if bool::from(self.code(step).as_bytes().ct_eq(code.as_bytes())) {
                found = Some(step);
            }
        }
        found
    }

    // RFC 4226 §5.3 with the counter of RFC 6238 §4.2.
    fn code(&self, step: TotpStep) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.as_slice());
        let tag = hmac::sign(&key, &step.0.to_be_bytes());
        let tag = tag.as_ref();
        let offset = tag.last().map_or(0, |last| usize::from(last & 0x0f));
        let number = tag
            .iter()
            .skip(offset)
            .take(4)
            .fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
        format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret([REDACTED])")
    }
}

// RFC 4648 §6, without padding: the lengths used here need none.
pub(super) fn base32(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 8 / 5 + 1));
    for chunk in bytes.chunks(5) {
        let bits = chunk
            .iter()
            .chain(std::iter::repeat_n(&0, 5 - chunk.len()))
            .fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        for place in (0..8).rev().take((chunk.len() * 8).div_ceil(5)) {
            let index = usize::try_from((bits >> (place * 5)) & 31).unwrap_or(0);
            text.extend(ALPHABET.get(index).copied().map(char::from));
        }
    }
    text
}

pub(crate) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}

const STEP_SECONDS: i64 = 30;
pub(super) const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> TotpSecret {
        TotpSecret(Zeroizing::new(*b"12345678901234567890"))
    }

    /// A12
    #[test]
    fn gives_the_codes_of_rfc_6238() {
        // Appendix B, SHA-1; the last six of its eight digits.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(
                secret().code_at(Timestamp::from_unix_seconds(seconds)),
                code
            );
        }
    }

    /// A12
    #[test]
    fn a_code_is_good_one_step_early_and_one_late() {
        let at = |step: i64| Timestamp::from_unix_seconds(step * 30);
        let code = secret().code_at(at(1_000));

        let seen: Vec<bool> = (997..=1_003)
            .map(|step| secret().step_of(&code, at(step)).is_some())
            .collect();

        assert_eq!(seen, [false, false, true, true, true, false, false]);
        assert_eq!(secret().step_of(&code, at(999)), Some(TotpStep(1_000)));
        assert_eq!(secret().step_of(&code, at(1_001)), Some(TotpStep(1_000)));
    }

    /// A12
    #[test]
    fn only_the_six_digits_are_the_code() {
        let now = Timestamp::from_unix_seconds(59);

        for text in [
            "",
            "287082 ",
            " 287082",
            "287 082",
            "2870820",
            "28708",
            "94287082",
            "２８７０８２",
        ] {
            assert_eq!(secret().step_of(text, now), None, "{text:?}");
        }
    }

    #[test]
    fn is_written_as_authenticators_read_it() {
        assert_eq!(*secret().to_base32(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(*base32(b"f"), "MY");
        assert_eq!(*base32(b"foobar"), "MZXW6YTBOI");
        assert_eq!(
            *secret().uri("Our backup", "ada&eve@example.com"),
            "otpauth://totp/Our%20backup:ada%26eve@example.com\
             ?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Our%20backup\
             &algorithm=SHA1&digits=6&period=30"
        );
        assert_eq!(format!("{:?}", secret()), "TotpSecret([REDACTED])");
    }
}
