//! What is kept of a hook's output.
//!
//! Text for a job log: decoded, without control characters, without secrets, and never more than
//! the first and the last 32 KiB, however much the hook writes.

use std::collections::VecDeque;
use std::fmt;

use crate::chars::is_invisible;
use crate::redact::{Redactor, Secrets};

/// Takes a hook's output as it comes, and keeps what a reader will want.
///
/// Secrets are looked for after control characters are gone, so that a NUL in the middle does not
/// hide one; and before anything is left out, so that none is cut in half and missed.
///
/// # Cost
///
/// At most 64 KiB and what the longest secret asks for.
pub struct Capture {
    decoder: Vec<u8>,
    redactor: Redactor,
    head: String,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Capture {
    /// A capture for one hook.
    pub fn new(secrets: &Secrets) -> Self {
        Self {
            decoder: Vec::new(),
            redactor: Redactor::new(secrets),
            head: String::new(),
            tail: VecDeque::new(),
            left_out: 0,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.decoder.extend_from_slice(bytes);
        let decoder = std::mem::take(&mut self.decoder);
        let mut rest = decoder.as_slice();
        let mut text = String::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    if let Some(bad) = error.error_len() {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = after.get(bad..).unwrap_or_default();
                        continue;
                    }
                }
            }
            break;
        }
        self.decoder = rest.to_vec();
        self.take(&text);
    }

    /// The kept text.
    pub fn finish(mut self) -> String {
        if !self.decoder.is_empty() {
            self.take("\u{fffd}");
        }
        let mut last = String::new();
        let redactor = std::mem::replace(&mut self.redactor, Redactor::new(&Secrets::default()));
        redactor.finish(&mut last);
        self.keep(&last);

        let mut text = self.head;
        // The tail may begin inside a character; that one goes as well.
        let broken = self
            .tail
            .iter()
            .take_while(|byte| **byte & 0xC0 == 0x80)
            .count();
        self.tail.drain(..broken);
        let left_out = self.left_out + broken as u64;
        if left_out > 0 {
            text.push_str(&format!("\n[… {left_out} bytes left out …]\n"));
        }
        let (front, back) = self.tail.as_slices();
        text.push_str(&String::from_utf8_lossy(&[front, back].concat()));
        text
    }

    fn take(&mut self, text: &str) {
        // Most output is plain text, and takes no second look.
        let ascii = text
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
        if ascii {
            return self.pass(text);
        }
        let visible: String = text
            .chars()
            .filter(|c| matches!(c, '\n' | '\t') || !is_invisible(*c))
            .collect();
        self.pass(&visible);
    }

    fn pass(&mut self, visible: &str) {
        let mut free = String::with_capacity(visible.len());
        self.redactor.push(visible, &mut free);
        self.keep(&free);
    }

    fn keep(&mut self, text: &str) {
        let mut room = EACH_END.saturating_sub(self.head.len()).min(text.len());
        while !text.is_char_boundary(room) {
            room -= 1;
        }
        if !self.tail.is_empty() || self.left_out > 0 {
            room = 0;
        }
        let (head, rest) = text.split_at(room);
        self.head.push_str(head);
        let skipped = rest.len().saturating_sub(EACH_END);
        let rest = rest.as_bytes().get(skipped..).unwrap_or_default();
        let pushed_out = (self.tail.len() + rest.len()).saturating_sub(EACH_END);
        self.tail.drain(..pushed_out);
        self.tail.extend(rest);
        self.left_out += (skipped + pushed_out) as u64;
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

const EACH_END: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(pieces: &[&[u8]]) -> String {
        let mut capture = Capture::new(&Secrets::new(["hunter2!"]));
        for piece in pieces {
            capture.push(piece);
        }
        capture.finish()
    }

    /// H9
    #[test]
    fn strips_what_controls_a_terminal() {
        assert_eq!(capture(&[b"a\x1b[2Jb\0\r\n\tc\x07"]), "a[2Jb\n\tc");
        assert_eq!(
            capture(&["a\u{202e}b\u{2028}c\u{feff}d\u{9b}e".as_bytes()]),
            "abcde"
        );
    }

    /// H9
    #[test]
    fn finds_a_secret_that_a_control_character_hides() {
        assert_eq!(capture(&[b"hun\0te\x1br2!"]), "[REDACTED]");
    }

    /// H9
    #[test]
    fn puts_characters_together_that_two_reads_cut() {
        let text = "grüße 🦀".as_bytes();
        for cut in 0..=text.len() {
            let (left, right) = text.split_at(cut);
            assert_eq!(capture(&[left, right]), "grüße 🦀");
        }
        assert_eq!(capture(&[b"a\xffb\xc3"]), "a\u{fffd}b\u{fffd}");
    }

    /// H9
    #[test]
    fn keeps_the_first_and_the_last_32_kib() {
        let mut capture = Capture::new(&Secrets::default());
        capture.push(&[b'a'; EACH_END]);
        for _ in 0..1000 {
            capture.push(&[b'x'; 10_000]);
        }
        capture.push(&[b'z'; EACH_END]);

        let kept = capture.finish();

        let middle = "\n[… 10000000 bytes left out …]\n";
        assert_eq!(
            kept,
            format!("{}{middle}{}", "a".repeat(EACH_END), "z".repeat(EACH_END))
        );
    }

    /// H9
    #[test]
    fn leaves_nothing_out_of_64_kib() {
        let text: String = ('a'..='z').cycle().take(2 * EACH_END).collect();

        assert_eq!(capture(&[text.as_bytes()]), text);
    }

    /// H9
    #[test]
    fn does_not_show_a_secret_that_lies_where_the_tail_begins() {
        let mut text = vec![b'.'; EACH_END * 2 + 4];
        text.extend_from_slice(b"hunter2!");
        text.extend_from_slice(&vec![b'.'; EACH_END - 4]);

        assert!(!capture(&[&text]).contains("r2!"));
    }
}
