//! Characters that a reader cannot see.

/// Whether a character belongs to one of the Unicode categories Cc, Cf, Zl and Zp: it controls
/// the terminal, changes the reading order, breaks the line or is not there at all.
pub(crate) fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || (c > '\u{7f}' && is_format(c))
}

/// Category Cf of Unicode 16. U+2065 is not assigned and stands between two that are.
fn is_format(c: char) -> bool {
    matches!(u32::from(c),
        0xAD
        | 0x600..=0x605
        | 0x61C
        | 0x6DD
        | 0x70F
        | 0x890..=0x891
        | 0x8E2
        | 0x180E
        | 0x200B..=0x200F
        | 0x202A..=0x202E
        | 0x2060..=0x206F
        | 0xFEFF
        | 0xFFF9..=0xFFFB
        | 0x110BD
        | 0x110CD
        | 0x13430..=0x1343F
        | 0x1BCA0..=0x1BCA3
        | 0x1D173..=0x1D17A
        | 0xE0001
        | 0xE0020..=0xE007F)
}
