//! Names of things: UUID version 7 (RFC 9562 §5.7), one type for each kind.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::{Builder, Uuid};

use crate::{Entropy, Timestamp};

/// The text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct ParseIdError;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id. Ids made later sort later, to the millisecond.
            #[must_use]
            pub fn mint(now: Timestamp, entropy: &dyn Entropy) -> Self {
                Self(uuid_v7(now, entropy))
            }

            /// Takes over an id that was made elsewhere, of any UUID version.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The id as a UUID, for a database driver.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0.as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.as_hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hyphenated(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

ids! {
    /// A machine that backs up.
    AgentId;
    /// A way to tell people and programs what happened.
    ChannelId;
    /// One thing that happened, on its way to one channel.
    DeliveryId;
    /// A place where repositories lie.
    DestinationId;
    /// One piece of work for one agent.
    JobId;
    /// What is backed up, when, and where to.
    PolicyId;
    /// A snapshot as the server knows it; restic's own id is a [`ResticId`](crate::snapshot::ResticId).
    SnapshotId;
    /// A person who logs in.
    UserId;
}

/// Makes a UUIDv7 for a thing that has no type of its own here.
#[must_use]
pub fn uuid_v7(now: Timestamp, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0; 10];
    entropy.fill(&mut random);
    let millis = u64::try_from(now.as_unix_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

// One spelling for each id: a second one would be a second cache key, log line or URL for one thing.
fn parse_hyphenated(text: &str) -> Result<Uuid, ParseIdError> {
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(ParseIdError);
    }
    Uuid::try_parse(text).map_err(|_| ParseIdError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    #[test]
    fn sorts_by_time_of_making() {
        let early = JobId::mint(Timestamp::from_unix_millis(1_000), &SystemEntropy);
        let late = JobId::mint(Timestamp::from_unix_millis(1_001), &SystemEntropy);

        assert!(early < late);
    }

    #[test]
    fn reads_what_it_prints() {
        let id = AgentId::mint(
            Timestamp::from_unix_millis(1_700_000_000_000),
            &SystemEntropy,
        );

        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn refuses_other_spellings() {
        for text in [
            "",
            "0190a0b0",
            "{0190a0b0-0000-7000-8000-000000000000}",
            "urn:uuid:0190a0b0-0000-7000-8000-000000000000",
            "0190a0b0000070008000000000000000",
        ] {
            assert_eq!(text.parse::<JobId>(), Err(ParseIdError), "{text}");
        }
    }
}
