//! Keeping secrets out of what a hook prints.
//!
//! A hook that runs `set -x`, or prints a connection string when the database is down, puts the
//! password into the job log. The agent knows which secrets the job has, so it can look for them
//! in what comes back. They rarely come back as they were: a header carries base64, a URL has
//! percent signs, a debugger prints hex, and each may be cut across two reads or two lines.
//!
//! [`Redactor`] looks for all of these in one pass, in memory that does not grow with the output:
//!
//! | form                | found                                                              |
//! |---------------------|--------------------------------------------------------------------|
//! | plain               | also with white space in between, also as JSON writes it           |
//! | base64              | both alphabets, padded or not, also inside a longer text           |
//! | hex                 | lower or upper case                                                |
//! | URL                 | any mix of plain and percent-encoded characters, `+` for a space   |
//!
//! Each line of a secret of several lines (a private key) counts as a secret of its own. Secrets
//! of fewer than four bytes are looked for in plain form only: encoded they would be everywhere.
//!
//! This stops accidents. A hook that wants to print a secret can spell it backwards.
//!
//! ```
//! use arkeep_hooks::redact::{Redactor, Secrets};
//!
//! let secrets = Secrets::new(["hunter2!"]);
//! let mut redactor = Redactor::new(&secrets);
//! let mut out = String::new();
//!
//! redactor.push("url: s3://u:hun", &mut out);
//! redactor.push("ter2%21@host", &mut out);
//! redactor.finish(&mut out);
//!
//! assert_eq!(out, "url: s3://u:[REDACTED]@host");
//! ```

mod automaton;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use automaton::{Automaton, ROOT};

/// The secrets that a job knows.
///
/// Zeroed on drop, and never printed.
#[derive(Clone, Default)]
pub struct Secrets {
    values: Arc<Vec<Zeroizing<Vec<u8>>>>,
}

impl Secrets {
    /// Takes over the secrets. Empty ones are left out.
    pub fn new<S: Into<Vec<u8>>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let values = secrets
            .into_iter()
            .map(|secret| Zeroizing::new(secret.into()))
            .filter(|secret| !secret.is_empty())
            .collect();
        Self {
            values: Arc::new(values),
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[REDACTED; {}]", self.values.len())
    }
}

/// Replaces secrets in a text that comes in pieces.
///
/// How the text is cut into pieces makes no difference to what comes out.
///
/// # Cost
///
/// A few nanoseconds for each byte. Memory is set by the longest secret, not by the text.
pub struct Redactor {
    automaton: Automaton,
    plain: View,
    decoded: View,
    escape: Escape,
    /// Text that may yet turn out to be the beginning of a secret.
    pending: Zeroizing<Vec<u8>>,
    /// Where `pending` begins in the whole text.
    base: u64,
    /// Found secrets, in `pending` or reaching into it: sorted, apart from one another.
    found: VecDeque<(u64, u64)>,
    /// Whether the first of `found` is already in the output.
    marked: bool,
}

impl Redactor {
    /// A redactor for one text.
    pub fn new(secrets: &Secrets) -> Self {
        Self {
            automaton: Automaton::build(secrets),
            plain: View::default(),
            decoded: View::default(),
            escape: Escape::default(),
            pending: Zeroizing::default(),
            base: 0,
            found: VecDeque::new(),
            marked: false,
        }
    }

    /// Takes the next piece and appends to `out` what is known to be free of secrets.
    pub fn push(&mut self, piece: &str, out: &mut String) {
        let mut at = self.base + self.pending.len() as u64;
        self.pending.extend_from_slice(piece.as_bytes());
        let mut rest = piece.as_bytes();
        loop {
            if self.is_idle() {
                let skipped = self.automaton.uninteresting(rest);
                rest = rest.get(skipped..).unwrap_or_default();
                at += skipped as u64;
            }
            let Some((byte, after)) = rest.split_first() else {
                break;
            };
            self.step(*byte, at);
            rest = after;
            at += 1;
        }
        self.release(self.settled(at), out);
    }

    /// Appends the rest.
    pub fn finish(mut self, out: &mut String) {
        let end = self.base + self.pending.len() as u64;
        for (byte, start) in self.escape.give_up() {
            self.decoded_step(byte, start, start + 1);
        }
        self.release(end, out);
    }

    /// Whether nothing that came so far could begin a secret.
    fn is_idle(&self) -> bool {
        self.plain.state == ROOT && self.decoded.state == ROOT && self.escape.held().is_none()
    }

    fn step(&mut self, byte: u8, at: u64) {
        if let Some(range) = self.plain.step(&self.automaton, byte, at, at + 1) {
            self.mark(range);
        }
        let (decoded, literal) = self.escape.step(byte, at);
        for (byte, start) in literal {
            self.decoded_step(byte, start, start + 1);
        }
        if let Some((byte, start)) = decoded {
            self.decoded_step(byte, start, at + 1);
        }
    }

    fn decoded_step(&mut self, byte: u8, start: u64, end: u64) {
        if let Some(range) = self.decoded.step(&self.automaton, byte, start, end) {
            self.mark(range);
        }
    }

    /// Adds a range, and joins it with those that it overlaps.
    fn mark(&mut self, (mut start, mut end): (u64, u64)) {
        let mut kept = self.found.len();
        while let Some(&(s, e)) = kept.checked_sub(1).and_then(|last| self.found.get(last)) {
            if e <= start {
                break;
            }
            kept -= 1;
            if s >= end {
                continue;
            }
            start = start.min(s);
            end = end.max(e);
        }
        let later: Vec<_> = self
            .found
            .split_off(kept)
            .into_iter()
            .filter(|&(s, _)| s >= end)
            .collect();
        self.found.push_back((start, end));
        self.found.extend(later);
    }

    /// Everything before this can no longer become part of a secret.
    fn settled(&self, end: u64) -> u64 {
        [self.plain.held(), self.decoded.held(), self.escape.held()]
            .into_iter()
            .flatten()
            .fold(end, u64::min)
    }

    fn release(&mut self, until: u64, out: &mut String) {
        let until = self.floor_char(until);
        let mut at = self.base;
        while at < until {
            match self.found.front().copied() {
                Some((start, end)) if start <= at => {
                    if !std::mem::replace(&mut self.marked, true) {
                        out.push_str(PLACEHOLDER);
                    }
                    at = end.min(until);
                    if end <= until {
                        self.found.pop_front();
                        self.marked = false;
                    }
                }
                next => {
                    let stop = next.map_or(until, |(start, _)| start.min(until));
                    self.copy(at, stop, out);
                    at = stop;
                }
            }
        }
        let done = self.index(until).min(self.pending.len());
        self.pending.drain(..done);
        self.base = until;
    }

    /// Where the character begins that `at` lies in, so that the cut makes no difference.
    fn floor_char(&self, at: u64) -> u64 {
        let inside = |at: u64| {
            self.pending
                .get(self.index(at))
                .is_some_and(|b| b & 0xC0 == 0x80)
        };
        (0..3).fold(at, |at, _| {
            if at > self.base && inside(at) {
                at - 1
            } else {
                at
            }
        })
    }

    fn index(&self, at: u64) -> usize {
        usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    fn copy(&self, from: u64, to: u64, out: &mut String) {
        let bytes = self
            .pending
            .get(self.index(from)..self.index(to))
            .unwrap_or_default();
        // A cut inside a character happens only where a secret begins or ends inside one.
        out.push_str(&String::from_utf8_lossy(bytes));
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

/// One way of reading the text: where the automaton stands, and where the bytes came from that
/// brought it there.
#[derive(Default)]
struct View {
    state: u32,
    starts: VecDeque<u64>,
    gap: u32,
}

impl View {
    fn step(
        &mut self,
        automaton: &Automaton,
        byte: u8,
        start: u64,
        end: u64,
    ) -> Option<(u64, u64)> {
        if byte <= b' ' || byte == 0x7f {
            self.gap += 1;
            if self.gap > MAX_GAP {
                self.state = ROOT;
                self.starts.clear();
            }
            return None;
        }
        self.gap = 0;
        self.state = automaton.next(self.state, byte);
        let (depth, longest) = automaton.depths(self.state);
        self.starts.push_back(start);
        while self.starts.len() > depth {
            self.starts.pop_front();
        }
        let first = self.starts.len().checked_sub(longest.max(1))?;
        if longest == 0 {
            return None;
        }
        self.starts.get(first).map(|&first| (first, end))
    }

    fn held(&self) -> Option<u64> {
        self.starts.front().copied()
    }
}

/// Undoes percent-encoding, one byte at a time.
#[derive(Default)]
struct Escape {
    start: u64,
    seen: [u8; 2],
    len: usize,
}

type Literal = std::iter::Take<std::array::IntoIter<(u8, u64), 2>>;

impl Escape {
    /// The byte that is now complete, and before it those that turned out to be no escape.
    fn step(&mut self, byte: u8, at: u64) -> (Option<(u8, u64)>, Literal) {
        if byte == b'%' {
            let literal = self.give_up();
            (self.start, self.seen, self.len) = (at, [b'%', 0], 1);
            return (None, literal);
        }
        match (self.len, hex_digit(byte)) {
            (1, Some(_)) => {
                self.seen = [b'%', byte];
                self.len = 2;
                (None, [(0, 0); 2].into_iter().take(0))
            }
            (2, Some(low)) => {
                let [_, high] = self.seen;
                self.len = 0;
                let byte = hex_digit(high).unwrap_or(0) << 4 | low;
                (Some((byte, self.start)), [(0, 0); 2].into_iter().take(0))
            }
            _ => {
                let literal = self.give_up();
                (Some((byte, at)), literal)
            }
        }
    }

    fn give_up(&mut self) -> Literal {
        let [first, second] = self.seen;
        let bytes = [(first, self.start), (second, self.start + 1)];
        bytes.into_iter().take(std::mem::take(&mut self.len))
    }

    fn held(&self) -> Option<u64> {
        (self.len > 0).then_some(self.start)
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

const PLACEHOLDER: &str = "[REDACTED]";
/// White space within a secret that is looked past: a line break of base64 with its indentation.
const MAX_GAP: u32 = 32;
