//! A refusal below the text that it is about.

use crate::chars::is_invisible;
use crate::refusal::HookRefusal;

impl HookRefusal {
    /// Two lines for a terminal: the text that was judged, and a mark under what broke the rule.
    ///
    /// Nothing when the hook as a whole is meant. A character that a reader could not see is shown
    /// as `\u{fffd}`, and of a long text only what surrounds the mark.
    ///
    /// ```
    /// use arkeep_hooks::judge::judge;
    ///
    /// let line = "pg_dump $(cat name)";
    /// let refusal = judge(line).unwrap_err();
    ///
    /// assert_eq!(
    ///     refusal.underline(line).unwrap(),
    ///     "pg_dump $(cat name)\n        ^^"
    /// );
    /// ```
    pub fn underline(&self, line: &str) -> Option<String> {
        let span = self.span()?;
        let marked = |place: usize, c: char| place < span.end && place + c.len_utf8() > span.start;
        let before = line
            .char_indices()
            .take_while(|(place, c)| !marked(*place, *c) && *place < span.start)
            .count();
        let skipped = before.saturating_sub(BEFORE);
        let mut text = String::new();
        let mut marks = String::new();
        if skipped > 0 {
            text.push('…');
            marks.push(' ');
        }
        let mut rest = line.char_indices().skip(skipped);
        for (place, c) in rest.by_ref().take(SHOWN) {
            let shown = if is_invisible(c) { '\u{fffd}' } else { c };
            text.push(shown);
            let mark = if marked(place, c) { "^" } else { " " };
            marks.push_str(&mark.repeat(columns(shown)));
        }
        if rest.next().is_some() {
            text.push('…');
        }
        let marks = marks.trim_end();
        Some(match marks.is_empty() {
            true => format!("{text}\n^"),
            false => format!("{text}\n{marks}"),
        })
    }
}

/// How wide a terminal draws a character: two for those of East Asia and for pictures, none for
/// marks that join the letter before.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36F => 0,
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// Characters shown before the mark, and in all.
const BEFORE: usize = 40;
const SHOWN: usize = 76;

#[cfg(test)]
mod tests {
    use crate::judge::judge;

    fn underlined(line: &str) -> String {
        judge(line).unwrap_err().underline(line).unwrap()
    }

    /// H2
    #[test]
    fn puts_the_mark_under_what_it_means() {
        assert_eq!(underlined("ls *.sql"), "ls *.sql\n   ^");
        assert_eq!(underlined("cat /a/../b"), "cat /a/../b\n       ^^");
        assert_eq!(
            underlined("true && eval id"),
            "true && eval id\n        ^^^^"
        );
    }

    /// H2
    #[test]
    fn counts_columns_and_not_bytes() {
        assert_eq!(underlined("écho *"), "écho *\n     ^");
        assert_eq!(underlined("日本 *"), "日本 *\n     ^");
    }

    /// H1
    #[test]
    fn shows_that_something_invisible_is_there() {
        assert_eq!(underlined("a\u{202e}b"), "a\u{fffd}b\n ^");
        assert_eq!(underlined("a\nb"), "a\u{fffd}b\n ^");
        assert_eq!(underlined(""), "\n^");
    }

    /// H2
    #[test]
    fn shows_what_surrounds_the_mark_in_a_long_line() {
        let line = format!("echo {} * {}", "a".repeat(300), "b".repeat(300));

        let shown = underlined(&line);

        let (text, marks) = shown.split_once('\n').unwrap();
        assert!(text.chars().count() <= 80, "{text}");
        assert_eq!(text.chars().position(|c| c == '*'), marks.find('^'));
    }
}
