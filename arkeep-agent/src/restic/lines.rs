//! Lines of any length, read in bounded memory.

/// Cuts a stream of bytes into lines and keeps at most [`LONGEST`] bytes of each.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes and hands over every line that ends in them, without its end.
    pub(super) fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(&str)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (head, tail) = bytes.split_at(end);
            self.grow(head);
            self.finish(&mut each);
            bytes = tail.get(1..).unwrap_or_default();
        }
        self.grow(bytes);
    }

    /// Hands over what came after the last line's end.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end_matches('\r');
        if !text.is_empty() {
            each(text);
        }
        self.line.clear();
    }

    fn grow(&mut self, bytes: &[u8]) {
        let room = LONGEST.saturating_sub(self.line.len());
        self.line
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// Long enough for a message about two paths of the longest kind, each byte of them escaped.
pub(super) const LONGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.take(chunk, |line| seen.push(line.to_owned()));
        }
        lines.finish(|line| seen.push(line.to_owned()));
        seen
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        assert_eq!(
            lines(&[b"one\ntw", b"o\r\n\n", b"thr", b"ee"]),
            ["one", "two", "three"]
        );
    }

    /// G4
    #[test]
    fn a_line_without_end_takes_no_more_memory_than_the_longest() {
        let mut lines = Lines::default();
        for _ in 0..1_000 {
            lines.take(&[b'x'; 16 * 1024], |_| {});
        }

        assert!(lines.line.capacity() <= 2 * LONGEST);
        let mut seen = Vec::new();
        lines.take(b"\nnext\n", |line| seen.push(line.len()));
        assert_eq!(seen, [LONGEST, 4]);
    }
}
