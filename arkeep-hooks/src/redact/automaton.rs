//! Looking for every form of every secret at once.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use zeroize::{Zeroize, Zeroizing};

use super::Secrets;
use crate::chars::is_invisible;

/// Aho and Corasick's automaton over every form of every secret.
pub(super) struct Automaton {
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
    /// The automaton for these secrets.
    pub(super) fn build(secrets: &Secrets) -> Self {
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

    /// How many bytes at the front neither begin a secret nor an escape.
    pub(super) fn uninteresting(&self, text: &[u8]) -> usize {
        let interesting = |byte: &u8| {
            *byte == b'%'
                || self
                    .roots
                    .get(usize::from(*byte))
                    .is_some_and(|root| *root != ROOT)
        };
        text.iter().position(interesting).unwrap_or(text.len())
    }

    /// The state after one more byte.
    pub(super) fn next(&self, mut at: u32, byte: u8) -> u32 {
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

    /// How many of the last bytes may still become a secret, and how many are one: the longest.
    pub(super) fn depths(&self, at: u32) -> (usize, usize) {
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

/// The state in which nothing has been seen.
pub(super) const ROOT: u32 = 0;
const MIN_ENCODED: usize = 4;
const MIN_LINE: usize = 8;
const MIN_INNER: usize = 6;
