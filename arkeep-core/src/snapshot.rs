//! What restic keeps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Timestamp;

/// A snapshot's id in its repository: 8 to 64 lower-case hexadecimal digits.
///
/// A value of this type can stand in an argument vector: it is never a flag, a path or empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResticId(String);

impl ResticId {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a snapshot id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot id of 8 to 64 lower-case hexadecimal digits")]
pub struct ParseResticIdError;

impl FromStr for ResticId {
    type Err = ParseResticIdError;

    fn from_str(text: &str) -> Result<Self, ParseResticIdError> {
        let hexadecimal = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hexadecimal && (8..=64).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseResticIdError)
        }
    }
}

impl fmt::Display for ResticId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResticId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResticId({})", self.0)
    }
}

impl Serialize for ResticId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ResticId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A snapshot as the repository lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySnapshot {
    /// The full id.
    pub id: ResticId,
    /// When the backup began.
    pub taken_at: Timestamp,
    /// The host it was taken on.
    pub hostname: String,
    /// What was backed up. Bytes that are not UTF-8 are replaced.
    pub paths: Vec<String>,
    /// Tags, in the order of the repository.
    pub tags: Vec<String>,
}

/// One entry of a directory in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The last component of the path. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// The whole path in the snapshot.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes; zero for everything but a file.
    pub size: u64,
    /// When its content last changed.
    pub modified_at: Option<Timestamp>,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G2
    #[test]
    fn an_id_is_hexadecimal_and_nothing_else() {
        for text in [
            "",
            "abc",
            "--repo",
            "ABCDEF01",
            "0123456",
            "latest",
            "../01234567",
            "0123456\n",
        ] {
            assert_eq!(text.parse::<ResticId>(), Err(ParseResticIdError), "{text}");
        }
        assert!("0123abcd".parse::<ResticId>().is_ok());
        assert!("0".repeat(64).parse::<ResticId>().is_ok());
        assert!("0".repeat(65).parse::<ResticId>().is_err());
    }
}
