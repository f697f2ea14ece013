//! A policy as it is sent and shown.

use arkeep_core::policy::{CatchUp, Hooks, Limits, Retention, Schedule, Source};
use arkeep_core::repository::RelativePath;
use arkeep_core::{AgentId, DestinationId, PolicyId, SecretString, Timestamp};
use serde::{Deserialize, Serialize};

use crate::http::problem::Problem;
use crate::store::policies::{
    DrillPlan, Policy, PolicyDestination, PolicySettings, VerifyPlan, Window,
};

/// A policy as somebody wants it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Sent {
    pub(super) name: String,
    pub(super) agent_id: AgentId,
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    pub(super) sources: Vec<Source>,
    #[serde(default)]
    pub(super) excludes: Vec<String>,
    #[serde(default)]
    pub(super) exclude_larger_than: Option<u64>,
    #[serde(default)]
    pub(super) one_file_system: bool,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) schedule: Option<Schedule>,
    #[serde(default)]
    pub(super) catch_up: CatchUp,
    #[serde(default = "an_hour")]
    pub(super) offline_grace: u64,
    pub(super) destinations: Vec<SentDestination>,
    #[serde(default)]
    pub(super) repository_password: Option<SecretString>,
    #[serde(default)]
    pub(super) retention: Retention,
    #[serde(default)]
    pub(super) hooks: Hooks,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) window: Option<Window>,
    #[serde(default)]
    pub(super) verify: Option<VerifyPlan>,
    #[serde(default)]
    pub(super) drill: Option<DrillPlan>,
    #[serde(default)]
    pub(super) max_age: Option<u64>,
    #[serde(default)]
    pub(super) deadline: Option<u64>,
}

/// One repository as somebody wants it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SentDestination {
    pub(super) destination_id: DestinationId,
    #[serde(default)]
    pub(super) path: Option<RelativePath>,
    #[serde(default)]
    pub(super) retention: Option<Retention>,
}

const fn yes() -> bool {
    true
}

const fn an_hour() -> u64 {
    3_600
}

impl Sent {
    /// The names of everything that can be sent.
    pub(super) const FIELDS: [&str; 21] = [
        "name",
        "agent_id",
        "enabled",
        "sources",
        "excludes",
        "exclude_larger_than",
        "one_file_system",
        "tags",
        "schedule",
        "catch_up",
        "offline_grace",
        "destinations",
        "repository_password",
        "retention",
        "hooks",
        "limits",
        "window",
        "verify",
        "drill",
        "max_age",
        "deadline",
    ];

    /// Where to, and everything else. A repository whose path nobody chose lies under the policy's
    /// id.
    pub(super) fn split(
        self,
        id: PolicyId,
    ) -> Result<(Vec<PolicyDestination>, PolicySettings), Problem> {
        let mut destinations = Vec::with_capacity(self.destinations.len());
        for sent in self.destinations {
            let path = match sent.path {
                Some(path) => path,
                None => id.to_string().parse().map_err(
                    |error: arkeep_core::repository::ParseRelativePathError| {
                        Problem::invalid("destinations", error.to_string())
                    },
                )?,
            };
            destinations.push(PolicyDestination {
                destination_id: sent.destination_id,
                path,
                retention: sent.retention,
            });
        }
        let settings = PolicySettings {
            sources: self.sources,
            excludes: self.excludes,
            exclude_larger_than: self.exclude_larger_than,
            one_file_system: self.one_file_system,
            tags: self.tags,
            schedule: self.schedule,
            catch_up: self.catch_up,
            offline_grace: self.offline_grace,
            retention: self.retention,
            hooks: self.hooks,
            limits: self.limits,
            window: self.window,
            verify: self.verify,
            drill: self.drill,
            max_age: self.max_age,
            deadline: self.deadline,
        };
        Ok((destinations, settings))
    }
}

/// What of a policy can be written and read.
#[derive(Serialize)]
pub(super) struct Writable {
    name: String,
    agent_id: AgentId,
    enabled: bool,
    destinations: Vec<PolicyDestination>,
    #[serde(flatten)]
    settings: PolicySettings,
}

impl From<Policy> for Writable {
    fn from(policy: Policy) -> Self {
        Self {
            name: policy.name,
            agent_id: policy.agent,
            enabled: policy.enabled,
            destinations: policy.destinations,
            settings: policy.settings,
        }
    }
}

/// A policy as it is shown. Its password is not.
#[derive(Serialize)]
pub(in crate::http) struct PolicyBody {
    id: PolicyId,
    version: u64,
    #[serde(flatten)]
    policy: Writable,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Policy> for PolicyBody {
    fn from(policy: Policy) -> Self {
        Self {
            id: policy.id,
            version: policy.version,
            created_at: policy.created_at,
            updated_at: policy.updated_at,
            policy: Writable::from(policy),
        }
    }
}
