//! An entry as it is shown and exported.

use std::borrow::Cow;

use arkeep_core::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::Entry;

/// An [`Entry`] as the HTTP API and `audit export` write it.
#[derive(Debug, Serialize)]
pub struct EntryBody {
    seq: u64,
    at: Timestamp,
    actor: ActorBody,
    action: Cow<'static, str>,
    target: TargetBody,
    result: Cow<'static, str>,
    address: Option<String>,
    request_id: Option<String>,
    changes: Value,
    hash: String,
    previous_hash: String,
}

#[derive(Debug, Serialize)]
struct ActorBody {
    kind: Cow<'static, str>,
    id: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct TargetBody {
    kind: Cow<'static, str>,
    id: Option<String>,
}

impl From<Entry> for EntryBody {
    fn from(entry: Entry) -> Self {
        let says = entry.says;
        Self {
            seq: entry.seq,
            at: says.at,
            actor: ActorBody {
                kind: says.actor.kind,
                id: says.actor.id,
                name: says.actor.name,
            },
            action: says.action,
            target: TargetBody {
                kind: says.target.kind,
                id: says.target.id,
            },
            result: says.result,
            address: says.address,
            request_id: says.request_id,
            changes: says.changes.to_value(),
            hash: entry.hash.to_string(),
            previous_hash: entry.previous_hash.to_string(),
        }
    }
}
