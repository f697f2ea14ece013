//! Between the words of the domain and the messages that travel.
//!
//! What arrives is checked here once: ids have 16 bytes, words are known, lists and texts are within
//! bounds. Nothing behind this module meets a protobuf message.

mod agent;
mod assignment;
#[cfg(feature = "server")]
mod from_agent;
#[cfg(feature = "client")]
mod from_server;
mod report;
mod repository;
mod server;

use uuid::Uuid;

#[cfg(feature = "server")]
pub(crate) use from_agent::FromAgent;
#[cfg(feature = "client")]
pub(crate) use from_server::FromServer;

use arkeep_core::{DestinationId, JobId, PolicyId, Timestamp};

/// A message cannot be what it claims to be. Names the field, never its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the field `{0}` is missing, out of bounds or not understood")]
pub struct Invalid(pub(crate) &'static str);

type Checked<T> = Result<T, Invalid>;

pub(crate) fn uuid(bytes: &[u8], field: &'static str) -> Checked<Uuid> {
    Uuid::from_slice(bytes).map_err(|_| Invalid(field))
}

macro_rules! ids {
    ($($function:ident -> $id:ident;)+) => {$(
        pub(crate) fn $function(bytes: &[u8], field: &'static str) -> Checked<$id> {
            uuid(bytes, field).map($id::from_uuid)
        }
    )+};
}

ids! {
    job_id -> JobId;
    policy_id -> PolicyId;
    destination_id -> DestinationId;
}

#[cfg(feature = "client")]
pub(crate) fn agent_id(bytes: &[u8], field: &'static str) -> Checked<arkeep_core::AgentId> {
    uuid(bytes, field).map(arkeep_core::AgentId::from_uuid)
}

fn bytes(id: Uuid) -> Vec<u8> {
    id.into_bytes().to_vec()
}

fn present<T>(value: Option<T>, field: &'static str) -> Checked<T> {
    value.ok_or(Invalid(field))
}

fn moment(millis: i64, field: &'static str) -> Checked<Timestamp> {
    let moment = Timestamp::from_unix_millis(millis);
    // Out of range would be clamped, and a clamped time is not what was said.
    if moment.as_unix_millis() == millis {
        Ok(moment)
    } else {
        Err(Invalid(field))
    }
}

fn each<T, U>(values: Vec<T>, convert: impl FnMut(T) -> Checked<U>) -> Checked<Vec<U>> {
    values.into_iter().map(convert).collect()
}

fn at_most(text: String, limit: usize, field: &'static str) -> Checked<String> {
    if text.len() <= limit {
        Ok(text)
    } else {
        Err(Invalid(field))
    }
}

/// Pairs each word of a core enum with one of the proto's, both ways, without a wildcard.
macro_rules! words {
    ($core:ty, $proto:ty, $field:literal, { $($word:ident),+ $(,)? }) => {
        impl From<$core> for $proto {
            fn from(word: $core) -> Self {
                match word {
                    $(<$core>::$word => Self::$word,)+
                }
            }
        }

        impl TryFrom<$proto> for $core {
            type Error = $crate::convert::Invalid;

            fn try_from(word: $proto) -> Result<Self, $crate::convert::Invalid> {
                match word {
                    $(<$proto>::$word => Ok(Self::$word),)+
                    <$proto>::Unspecified => Err($crate::convert::Invalid($field)),
                }
            }
        }
    };
}
use words;

/// Reads a word that prost keeps as a number.
fn word<P, C>(number: i32, field: &'static str) -> Checked<C>
where
    P: TryFrom<i32>,
    C: TryFrom<P, Error = Invalid>,
{
    P::try_from(number).map_err(|_| Invalid(field))?.try_into()
}
