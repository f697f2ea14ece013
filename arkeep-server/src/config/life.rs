//! Lengths of time, as options name them.

use std::time::Duration;

use arkeep_auth::token::KeyLife;

/// A number and a unit: `90d`, `12h`, `90m`, `3600s`.
pub(super) fn token_key_life(text: &str) -> Result<KeyLife, &'static str> {
    length(text).and_then(KeyLife::new).ok_or(REFUSED)
}

fn length(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let number = text.get(..text.len() - 1)?;
    // `parse` would take a sign.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    Some(Duration::from_secs(seconds))
}

const REFUSED: &str = "give a number and one of s, m, h and d, from 1h to 3650d";

#[cfg(test)]
mod tests {
    use super::*;

    /// A1
    #[test]
    fn a_life_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("3600s", 3_600),
            ("60m", 3_600),
            ("1h", 3_600),
            ("90d", 7_776_000),
            ("3650d", 315_360_000),
        ] {
            let life = KeyLife::new(Duration::from_secs(seconds));
            assert_eq!(token_key_life(text).ok(), life, "{text}");
        }
        assert_eq!(token_key_life("90d"), Ok(KeyLife::default()));
        for text in [
            "",
            "d",
            "90",
            "90 d",
            "+90d",
            "-1d",
            "1.5d",
            "90D",
            "90w",
            "90dd",
            "59m",
            "3651d",
            "0d",
            "9999999999999999999999d",
            "999999999999999999d",
            "\u{0663}d",
            "90\u{e9}",
        ] {
            assert_eq!(token_key_life(text), Err(REFUSED), "{text}");
        }
    }
}
