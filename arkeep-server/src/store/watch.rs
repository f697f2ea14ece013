//! What happens without anybody doing it: time passes.
//!
//! That a backup did not come, or that an agent is not heard of any more, is no change in the
//! database; somebody must look. Each time that it begins or ends is written down once, however many
//! look and however often they are started anew, and told of by the tables like everything else.

use std::fmt;

use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;

/// Looks out for what does not happen.
///
/// # Cost
///
/// Two statements for all policies and two for all agents, every few seconds. Each reads by an
/// index what is younger than a promise, and writes nothing unless something has begun or ended.
#[async_trait]
pub trait WatchStore: fmt::Debug + Send + Sync {
    /// Notes the policies that have no good snapshot younger than they promise, and forgets those
    /// that have one again. A snapshot is good when the repository lists it and the job that took it
    /// succeeded. A policy that never had one is as old as it is.
    async fn watch_policies(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Notes the agents that were not heard of for [`Agent::ABSENCE`](super::agents::Agent::ABSENCE), and
    /// forgets those that are back.
    async fn watch_agents(&self, now: Timestamp) -> Result<(), StoreError>;
}
