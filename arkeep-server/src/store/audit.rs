//! Who did what, and how it ended: a list that only grows, in which each entry vouches for the one
//! before.
//!
//! An entry's hash is SHA-256 over these, one after the other:
//!
//! | part | bytes |
//! |---|---|
//! | domain | the text `arkeep audit entry v1` |
//! | previous hash | the 32 bytes of the entry before; of the first entry, zeros |
//! | sequence number | 8, big-endian |
//! | time | 8, big-endian, two's complement: milliseconds since 1970 |
//! | actor | kind, id?, name? |
//! | action | text |
//! | target | kind, id? |
//! | result | text |
//! | address? | text |
//! | request id? | text |
//! | changes | text: the JSON object as it is stored |
//!
//! A *text* is its length in bytes as 8 bytes, big-endian, and then UTF-8. What may be absent, marked `?`,
//! is one byte 0, or one byte 1 and the text. So no two different entries are the same bytes.
//!
//! [`Verifier`] finds what was changed, removed, added in between or moved. It cannot find what was
//! done by somebody who computes every later hash anew, or who takes entries off the end together
//! with the note of where the end is: for that, the head of the chain is noted somewhere else now
//! and then, and given to the verifier.

pub mod shape;
mod verifier;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Listed, Page};

pub use verifier::{Fault, Verifier, verify};

/// Something that was done or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: Actor,
    /// What, as a word such as `user.change`.
    pub action: Cow<'static, str>,
    /// To what.
    pub target: Target,
    /// `ok`, or the code of the problem that the caller was told.
    pub result: Cow<'static, str>,
    /// Where the caller was.
    pub address: Option<String>,
    /// The id under which the log knows the request.
    pub request_id: Option<String>,
    /// What was different afterwards, and other particulars.
    pub changes: Changes,
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `user`, `token`, `anonymous`, `operator` or `server`.
    pub kind: Cow<'static, str>,
    /// Of the user or the token.
    pub id: Option<String>,
    /// What people call them. Of somebody unknown, whom they said to be.
    pub name: Option<String>,
}

impl Target {
    /// A thing of this kind.
    #[must_use]
    pub fn new(kind: &'static str, id: Option<String>) -> Self {
        Self {
            kind: kind.into(),
            id,
        }
    }
}

/// What something was done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Such as `user`.
    pub kind: Cow<'static, str>,
    /// Which.
    pub id: Option<String>,
}

/// Particulars of an entry: a JSON object, kept as the text that is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes(String);

impl Changes {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self("{}".to_owned())
    }

    /// What a store has kept.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The object. What is none is shown as the text that it is.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_else(|_| Value::String(self.0.clone()))
    }
}

impl From<Value> for Changes {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

impl From<Map<String, Value>> for Changes {
    fn from(object: Map<String, Value>) -> Self {
        Self(Value::Object(object).to_string())
    }
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place, from 1, without a gap.
    pub seq: u64,
    /// What it says.
    pub says: NewEntry,
    /// The hash of the entry before it.
    pub previous_hash: ChainHash,
    /// Its own.
    pub hash: ChainHash,
}

impl Entry {
    /// Puts an entry after `head`.
    #[must_use]
    pub fn after(head: &Head, says: NewEntry) -> Self {
        let mut entry = Self {
            seq: head.seq.saturating_add(1),
            says,
            previous_hash: head.hash,
            hash: ChainHash::START,
        };
        entry.hash = entry.computed();
        entry
    }

    /// The hash that goes with what the entry says.
    #[must_use]
    pub fn computed(&self) -> ChainHash {
        let NewEntry {
            at,
            actor,
            action,
            target,
            result,
            address,
            request_id,
            changes,
        } = &self.says;
        let mut hash = Context::new(&SHA256);
        hash.update(DOMAIN);
        hash.update(&self.previous_hash.0);
        hash.update(&self.seq.to_be_bytes());
        hash.update(&at.as_unix_millis().to_be_bytes());
        text(&mut hash, &actor.kind);
        optional(&mut hash, actor.id.as_deref());
        optional(&mut hash, actor.name.as_deref());
        text(&mut hash, action);
        text(&mut hash, &target.kind);
        optional(&mut hash, target.id.as_deref());
        text(&mut hash, result);
        optional(&mut hash, address.as_deref());
        optional(&mut hash, request_id.as_deref());
        text(&mut hash, &changes.0);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        ChainHash(bytes)
    }

    /// Where the chain ends, if this is its last entry.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash,
        }
    }

    /// For [`Page`]s, whose cursors are ids.
    pub(super) const fn as_id(&self) -> Uuid {
        Uuid::from_u128(self.seq as u128)
    }
}

fn text(hash: &mut Context, text: &str) {
    hash.update(&(text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

fn optional(hash: &mut Context, value: Option<&str>) {
    hash.update(&[u8::from(value.is_some())]);
    if let Some(value) = value {
        text(hash, value);
    }
}

/// SHA-256 of an entry. Its text is hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    /// Before the first entry.
    pub const START: Self = Self([0; 32]);

    /// What a store has kept.
    #[must_use]
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a chain ends. Its text is `SEQ:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last entry; 0 when there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: ChainHash,
}

impl Head {
    /// Of a chain without entries.
    pub const START: Self = Self {
        seq: 0,
        hash: ChainHash::START,
    };
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// The text is no head of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number, a colon and 64 hexadecimal digits, as `audit verify` prints them")]
pub struct ParseHeadError;

impl FromStr for Head {
    type Err = ParseHeadError;

    fn from_str(text: &str) -> Result<Self, ParseHeadError> {
        let (seq, digits) = text.split_once(':').ok_or(ParseHeadError)?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits.len() != 64 || !plain(digits) || !plain(seq) {
            return Err(ParseHeadError);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = str::from_utf8(pair).map_err(|_| ParseHeadError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseHeadError)?;
        }
        Ok(Self {
            seq: seq.parse().map_err(|_| ParseHeadError)?,
            hash: ChainHash(hash),
        })
    }
}

/// Keeps the chain.
///
/// # Security
///
/// - What [`append`](Self::append) answered is on the disk, in its place, and never changes.
/// - Numbers have no gaps, however many append at once on however many replicas.
/// - An entry that cannot be written is an error. Whoever was to be answered is refused then.
///
/// # Cost
///
/// An `append` is one transaction under the lock of all writers, whatever the length of the chain.
#[async_trait]
pub trait AuditStore: fmt::Debug + Send + Sync {
    /// Puts an entry at the end of the chain.
    async fn append(&self, new: &NewEntry) -> Result<Entry, StoreError>;

    /// The entries, the newest first.
    async fn entries(&self, page: &Page) -> Result<Listed<Entry>, StoreError>;

    /// At most `limit` entries after a place, the oldest first.
    async fn following(&self, seq: u64, limit: u32) -> Result<Vec<Entry>, StoreError>;

    /// Where the chain ends, as it is noted beside the entries.
    async fn head(&self) -> Result<Head, StoreError>;
}

const DOMAIN: &[u8] = b"\0\0\0\0\0\0\0\x15arkeep audit entry v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> NewEntry {
        NewEntry {
            at: Timestamp::from_unix_millis(1_750_000_000_123),
            actor: Actor {
                kind: "user".into(),
                id: Some("1".to_owned()),
                name: None,
            },
            action: "user.change".into(),
            target: Target {
                kind: "user".into(),
                id: None,
            },
            result: "ok".into(),
            address: Some("192.0.2.1".to_owned()),
            request_id: None,
            changes: Changes::none(),
        }
    }

    /// S12: the encoding is what the module says, computed here from that text alone.
    #[test]
    fn the_hash_is_over_the_documented_bytes() {
        let text = |text: &str| [&(text.len() as u64).to_be_bytes()[..], text.as_bytes()].concat();
        let some = |value: &str| [&[1][..], &text(value)].concat();
        let none = || vec![0];
        let bytes = [
            text("arkeep audit entry v1"),
            vec![0; 32],
            1_u64.to_be_bytes().to_vec(),
            1_750_000_000_123_i64.to_be_bytes().to_vec(),
            text("user"),
            some("1"),
            none(),
            text("user.change"),
            text("user"),
            none(),
            text("ok"),
            some("192.0.2.1"),
            none(),
            text("{}"),
        ];

        let made = Entry::after(&Head::START, entry());

        let expected = aws_lc_rs::digest::digest(&SHA256, &bytes.concat());
        assert_eq!(made.hash.as_bytes()[..], *expected.as_ref());
        assert_eq!(made.seq, 1);
    }

    /// S12
    #[test]
    fn every_field_is_in_the_hash() {
        type Edit = fn(&mut NewEntry);
        let edits: [Edit; 10] = [
            |entry| entry.at = Timestamp::UNIX_EPOCH,
            |entry| entry.actor.kind = "token".into(),
            |entry| entry.actor.id = None,
            |entry| entry.actor.name = Some(String::new()),
            |entry| entry.action = "user.delete".into(),
            |entry| entry.target.id = Some("2".to_owned()),
            |entry| entry.result = "forbidden".into(),
            |entry| entry.address = None,
            |entry| entry.request_id = Some("r".to_owned()),
            |entry| entry.changes = Changes::from_stored("{ }".to_owned()),
        ];
        let first = Entry::after(&Head::START, entry());

        for (index, edit) in edits.iter().enumerate() {
            let mut other = first.clone();
            edit(&mut other.says);
            assert_ne!(other.computed(), first.hash, "edit {index}");
        }
        // What moves from one field to its neighbour is another entry.
        let mut moved = first.clone();
        moved.says.actor.name = moved.says.actor.id.take();
        assert_ne!(moved.computed(), first.hash);
    }

    #[test]
    fn a_head_is_read_back() {
        let head = Entry::after(&Head::START, entry()).head();

        assert_eq!(head.to_string().parse(), Ok(head));
        for text in ["", ":", "1:", "1:00", &format!("-1:{}", "0".repeat(64))] {
            assert_eq!(text.parse::<Head>(), Err(ParseHeadError), "{text}");
        }
    }
}
