use std::fmt;

use arkeep_core::Entropy;
use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::totp::{ALPHABET, base32};

/// A code on paper, for the day the authenticator is lost: 80 random bits.
pub struct RecoveryCode(Zeroizing<String>);

impl RecoveryCode {
    /// So many are given out at once.
    pub const COUNT: usize = 10;

    pub(super) fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 10]);
        entropy.fill(bytes.as_mut_slice());
        Self(base32(bytes.as_slice()))
    }

    /// The code as it is printed: four groups of four.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(LENGTH + 3));
        for (at, letter) in self.0.chars().enumerate() {
            if at > 0 && at % 4 == 0 {
                text.push('-');
            }
            text.push(letter.to_ascii_lowercase());
        }
        text
    }

    /// What is kept in its place.
    #[must_use]
    pub fn digest(&self) -> RecoveryDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref());
        RecoveryDigest(bytes)
    }

    /// Reads what a user typed, with or without hyphens and blanks, in any case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // Longer than anybody would type it.
        if text.len() > 4 * LENGTH {
            return None;
        }
        let mut code = Zeroizing::new(String::with_capacity(LENGTH));
        for letter in text.chars().filter(|letter| !matches!(letter, '-' | ' ')) {
            let letter = letter.to_ascii_uppercase();
            let known = u8::try_from(letter).is_ok_and(|byte| ALPHABET.contains(&byte));
            if !known || code.len() == LENGTH {
                return None;
            }
            code.push(letter);
        }
        (code.len() == LENGTH).then_some(Self(code))
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode([REDACTED])")
    }
}

/// What is kept in place of a [`RecoveryCode`]: its SHA-256. 80 random bits are not guessed, so a
/// slow hash would add nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecoveryDigest([u8; 32]);

impl RecoveryDigest {
    /// Takes over a digest that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest, to be stored and looked up.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

const LENGTH: usize = 16;

#[cfg(test)]
mod tests {
    use arkeep_core::SystemEntropy;

    use super::*;

    /// A12
    #[test]
    fn is_read_as_people_type_it() {
        let code = RecoveryCode::generate(&SystemEntropy);
        let printed = code.expose();

        for typed in [
            printed.to_string(),
            printed.to_uppercase(),
            printed.replace('-', ""),
            printed.replace('-', " "),
            format!(" {} ", printed.as_str()),
        ] {
            let read = RecoveryCode::parse(&typed).map(|read| read.digest());
            assert_eq!(read, Some(code.digest()), "{typed}");
        }
        for wrong in [
            "",
            "123456",
            &printed[1..],
            &format!("{}a", printed.as_str()),
        ] {
            assert!(RecoveryCode::parse(wrong).is_none(), "{wrong}");
        }
        assert!(RecoveryCode::parse(&"-".repeat(100_000)).is_none());
        // A letter that no code has, in the place of one.
        assert!(RecoveryCode::parse(&format!("1{}", &printed[1..])).is_none());
        assert!(RecoveryCode::parse(&format!("\u{e9}{}", &printed[1..])).is_none());
        // With as many blanks as are read, and one more.
        let wide = |length: usize| format!("{:length$}", printed.as_str());
        assert!(RecoveryCode::parse(&wide(4 * LENGTH)).is_some());
        assert!(RecoveryCode::parse(&wide(4 * LENGTH + 1)).is_none());
        let groups: Vec<usize> = printed.split('-').map(str::len).collect();
        assert_eq!(groups, [4, 4, 4, 4]);
        assert_eq!(format!("{code:?}"), "RecoveryCode([REDACTED])");
    }
}
