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

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use zeroize::{Zeroize, Zeroizing};

use crate::chars::is_invisible;

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
        for byte in piece.bytes() {
            self.step(byte, at);
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

/// Aho and Corasick's automaton over every form of every secret.
struct Automaton {
    nodes: Vec<Node>,
    roots: Vec<u32>,
}

#[derive(Clone, Copy, Default, Zeroize)]
struct Node {
    byte: u8,
    child: u32,
    sibling: u32,
    fail: u32,
    depth: u32,
    longest: u32,
}

impl Automaton {
    fn build(secrets: &Secrets) -> Self {
        let mut automaton = Self {
            nodes: vec![Node::default()],
            roots: vec![ROOT; 256],
        };
        for secret in secrets.values.iter() {
            let lines = secret
                .split(|byte| *byte == b'\n')
                .filter(|line| line.len() >= MIN_LINE);
            for part in std::iter::once(secret.as_slice()).chain(lines) {
                forms(part, |form| automaton.insert(form));
            }
        }
        automaton.link();
        automaton
    }

    fn insert(&mut self, form: &[u8]) {
        let mut at = ROOT;
        for &byte in form.iter().filter(|byte| **byte > b' ' && **byte != 0x7f) {
            at = match self.child(at, byte) {
                Some(next) => next,
                None => self.add(at, byte),
            };
        }
        if at != ROOT
            && let Some(node) = self.nodes.get_mut(at as usize)
        {
            node.longest = node.depth;
        }
    }

    fn add(&mut self, parent: u32, byte: u8) -> u32 {
        let new = u32::try_from(self.nodes.len()).unwrap_or(ROOT);
        let above = self.node(parent);
        let node = Node {
            byte,
            sibling: above.child,
            depth: above.depth + 1,
            ..Node::default()
        };
        if self.nodes.len() == self.nodes.capacity() {
            // By hand, so that the old copy is zeroed rather than freed as it is.
            let mut grown = Vec::with_capacity(self.nodes.len() * 2);
            grown.extend_from_slice(&self.nodes);
            self.nodes.zeroize();
            self.nodes = grown;
        }
        self.nodes.push(node);
        if let Some(above) = self.nodes.get_mut(parent as usize) {
            above.child = new;
        }
        if parent == ROOT
            && let Some(slot) = self.roots.get_mut(usize::from(byte))
        {
            *slot = new;
        }
        new
    }

    fn link(&mut self) {
        let mut queue = VecDeque::from([ROOT]);
        while let Some(at) = queue.pop_front() {
            let mut child = self.node(at).child;
            while child != ROOT {
                let node = self.node(child);
                let fail = if at == ROOT {
                    ROOT
                } else {
                    self.next(self.node(at).fail, node.byte)
                };
                let inherited = self.node(fail).longest;
                if let Some(node) = self.nodes.get_mut(child as usize) {
                    node.fail = fail;
                    node.longest = node.longest.max(inherited);
                }
                queue.push_back(child);
                child = node.sibling;
            }
        }
    }

    fn next(&self, mut at: u32, byte: u8) -> u32 {
        while at != ROOT {
            if let Some(child) = self.child(at, byte) {
                return child;
            }
            at = self.node(at).fail;
        }
        self.roots.get(usize::from(byte)).copied().unwrap_or(ROOT)
    }

    fn child(&self, at: u32, byte: u8) -> Option<u32> {
        let mut child = self.node(at).child;
        while child != ROOT {
            let node = self.node(child);
            if node.byte == byte {
                return Some(child);
            }
            child = node.sibling;
        }
        None
    }

    fn depths(&self, at: u32) -> (usize, usize) {
        let node = self.node(at);
        (node.depth as usize, node.longest as usize)
    }

    fn node(&self, at: u32) -> Node {
        self.nodes.get(at as usize).copied().unwrap_or_default()
    }
}

impl Drop for Automaton {
    fn drop(&mut self) {
        self.nodes.zeroize();
        self.roots.zeroize();
    }
}

/// Every form in which a secret may stand in a text without white space.
fn forms(secret: &[u8], mut found: impl FnMut(&[u8])) {
    let text = Zeroizing::new(String::from_utf8_lossy(secret).into_owned());
    let visible = Zeroizing::new(text.replace(|c| c != ' ' && is_invisible(c), ""));
    found(visible.as_bytes());
    if secret.len() < MIN_ENCODED {
        return;
    }
    found(secret);
    found(Zeroizing::new(visible.replace(' ', "+")).as_bytes());
    found(Zeroizing::new(visible.replace('\\', "\\\\").replace('"', "\\\"")).as_bytes());
    found(Zeroizing::new(hex(secret, b"0123456789abcdef")).as_slice());
    found(Zeroizing::new(hex(secret, b"0123456789ABCDEF")).as_slice());
    for engine in [&STANDARD, &URL_SAFE] {
        let padded = Zeroizing::new(engine.encode(secret));
        found(padded.as_bytes());
        found(padded.trim_end_matches('=').as_bytes());
    }
    for offset in 0..3 {
        let inner = Zeroizing::new(inner_base64(secret, offset));
        if inner.len() >= MIN_INNER {
            found(inner.as_bytes());
            found(Zeroizing::new(inner.replace('+', "-").replace('/', "_")).as_bytes());
        }
    }
}

/// The base64 characters that `secret` alone decides when `offset` bytes stand before it.
fn inner_base64(secret: &[u8], offset: usize) -> String {
    let mut bytes = Zeroizing::new(vec![0; offset]);
    bytes.reserve_exact(secret.len());
    bytes.extend_from_slice(secret);
    let encoded = Zeroizing::new(STANDARD_NO_PAD.encode(&bytes));
    let first = (offset * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    encoded.get(first..last).unwrap_or_default().to_owned()
}

fn hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let digit = |nibble: u8| digits.get(usize::from(nibble)).copied().unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

const PLACEHOLDER: &str = "[REDACTED]";
const ROOT: u32 = 0;
/// White space within a secret that is looked past: a line break of base64 with its indentation.
const MAX_GAP: u32 = 32;
const MIN_ENCODED: usize = 4;
const MIN_LINE: usize = 8;
const MIN_INNER: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(secrets: &[&str], text: &str) -> String {
        redact_pieces(secrets, &[text])
    }

    fn redact_pieces(secrets: &[&str], pieces: &[&str]) -> String {
        let mut redactor = Redactor::new(&Secrets::new(secrets.iter().copied()));
        let mut out = String::new();
        for piece in pieces {
            redactor.push(piece, &mut out);
        }
        redactor.finish(&mut out);
        out
    }

    mod redactor {
        use super::*;

        /// H9
        #[test]
        fn leaves_other_text_as_it_is() {
            let text = "100% of 3 files, ünïcode, a hun of ter %zz %4 %";

            assert_eq!(redact(&["hunter2!"], text), text);
            assert_eq!(redact(&[], text), text);
        }

        /// H9
        #[test]
        fn finds_the_plain_form() {
            assert_eq!(redact(&["hunter2"], "pw=hunter2;"), "pw=[REDACTED];");
            assert_eq!(
                redact(&["hunter2"], "hunter2hunter2"),
                "[REDACTED][REDACTED]"
            );
            assert_eq!(redact(&["x"], "axb"), "a[REDACTED]b");
        }

        /// H9
        #[test]
        fn finds_hex_in_both_cases() {
            assert_eq!(
                redact(&["key\u{1}z"], "6b6579017a 6B6579017A"),
                "[REDACTED] [REDACTED]"
            );
        }

        /// H9
        #[test]
        fn finds_base64_alone_and_inside_a_longer_text() {
            assert_eq!(redact(&["hunter2!"], "aHVudGVyMiE="), "[REDACTED]");
            for user in ["u", "us", "use"] {
                let header = STANDARD.encode(format!("{user}:hunter2!"));
                let out = redact(&["hunter2!"], &header);

                assert!(out.contains(PLACEHOLDER), "{header} gave {out}");
                assert!(
                    !out.contains("dGVy") && !out.contains("nRlc"),
                    "{header} gave {out}"
                );
            }
        }

        /// H9
        #[test]
        fn finds_base64_that_is_wrapped_and_url_safe() {
            let secret = "\u{3ff}\u{7ff}~~~~????>>>>".repeat(8);
            let wrapped: String = STANDARD
                .encode(&secret)
                .as_bytes()
                .chunks(76)
                .flat_map(|line| [std::str::from_utf8(line).unwrap(), "\n"])
                .collect();

            assert_eq!(redact(&[&secret], &wrapped), "[REDACTED]\n");
            assert_eq!(redact(&[&secret], &URL_SAFE.encode(&secret)), "[REDACTED]");
        }

        /// H9
        #[test]
        fn finds_any_mix_of_percent_encoding() {
            for text in [
                "p%40ss w%2Fd",
                "p@ss+w/d",
                "%70%40%73%73%20%77%2f%64",
                "p%40ss%20w/d",
            ] {
                assert_eq!(redact(&["p@ss w/d"], text), "[REDACTED]", "{text}");
            }
        }

        /// H9
        #[test]
        fn finds_each_line_of_a_long_secret() {
            let key = "-----BEGIN KEY-----\nMIIBVQIBADANBgkq\nhkiG9w0BAQEFAASC\n";

            assert_eq!(
                redact(&[key], "line: hkiG9w0BAQEFAASC."),
                "line: [REDACTED]."
            );
        }

        /// H9
        #[test]
        fn finds_a_secret_wherever_the_text_is_cut() {
            let text = "a hunter2! b aHVudGVyMiE= c 68756e7465723221 d hunter2%21 e %";
            let whole = redact(&["hunter2!", "nter2"], text);
            assert_eq!(whole.matches(PLACEHOLDER).count(), 4);

            for cut in 0..=text.len() {
                let (left, right) = text.split_at(cut);
                assert_eq!(redact_pieces(&["hunter2!", "nter2"], &[left, right]), whole);
            }
        }

        /// H9
        #[test]
        fn joins_secrets_that_overlap() {
            assert_eq!(redact(&["abcd", "cdef"], "xabcdefx"), "x[REDACTED]x");
            let pieces: Vec<_> = "xabcdefx".split("").collect();
            assert_eq!(redact_pieces(&["abcd", "cdef"], &pieces), "x[REDACTED]x");
        }

        /// H9
        #[test]
        fn holds_little_back_of_an_endless_text() {
            let mut redactor = Redactor::new(&Secrets::new(["aab", "aaaaaaaac"]));
            let mut out = String::new();

            for _ in 0..100 {
                redactor.push(&"a".repeat(1000), &mut out);
                redactor.push(&" ".repeat(1000), &mut out);
                assert!(redactor.pending.len() <= 9 * (MAX_GAP as usize + 1));
            }
        }

        #[test]
        fn does_not_show_secrets_when_printed() {
            let secrets = Secrets::new(["hunter2!"]);

            assert!(!format!("{secrets:?} {:?}", Redactor::new(&secrets)).contains("hunter2"));
        }
    }
}
