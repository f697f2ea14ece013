//! Hexadecimal digits, read without a look-up table that a cache could betray.

/// Fills `out` from exactly twice as many digits; false for anything else.
pub(crate) fn decode(digits: &[u8], out: &mut [u8]) -> bool {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != out.len() {
        return false;
    }
    let mut valid = true;
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        let (high, low) = (value(*high), value(*low));
        valid &= (high | low) < 16;
        *byte = (high << 4) | (low & 15);
    }
    valid
}

/// The digit's value, or more than 15. Every range is computed and none is branched on.
fn value(digit: u8) -> u8 {
    let within = |from: u8, to: u8| u8::from((from..=to).contains(&digit)).wrapping_neg();
    let number = digit.wrapping_sub(b'0') & within(b'0', b'9');
    let lower = digit.wrapping_sub(b'a').wrapping_add(10) & within(b'a', b'f');
    let upper = digit.wrapping_sub(b'A').wrapping_add(10) & within(b'A', b'F');
    let other = !(within(b'0', b'9') | within(b'a', b'f') | within(b'A', b'F'));
    number | lower | upper | (other & 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_has_its_value_and_nothing_else_has_one() {
        for digit in 0..=u8::MAX {
            let expected = char::from(digit).to_digit(16).map(|value| value as u8);

            assert_eq!(Some(value(digit)).filter(|v| *v < 16), expected, "{digit}");
        }
    }

    #[test]
    fn a_length_that_does_not_fit_is_refused() {
        let mut out = [0; 2];

        assert!(decode(b"0aF9", &mut out));
        assert_eq!(out, [0x0a, 0xf9]);
        for digits in [&b""[..], b"0a", b"0aF", b"0aF90", b"0aF900"] {
            assert!(!decode(digits, &mut out));
        }
    }

    #[test]
    fn a_stranger_in_either_half_is_refused() {
        let mut out = [0; 1];

        assert!(!decode(b"g0", &mut out));
        assert!(!decode(b"0g", &mut out));
    }
}
