//! What is backed up, when, and where to.

use std::fmt;

use arkeep_core::policy::{CatchUp, Hooks, Limits, Retention, Schedule, Source};
use arkeep_core::repository::RelativePath;
use arkeep_core::{AgentId, DestinationId, PolicyId, StoreError, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Listed, Page, WriteError};

/// Keeps policies.
#[async_trait]
pub trait PolicyStore: fmt::Debug + Send + Sync {
    /// Adds a policy. Names are unique without regard to case of ASCII letters.
    ///
    /// Two policies may have their repository at one [`address`](super::address::address), whichever
    /// destinations they name, and then have one password: refused as [`Refusal::OtherPassword`]
    /// otherwise, also when they are written at the same time.
    ///
    /// [`Refusal::OtherPassword`]: super::Refusal::OtherPassword
    async fn create(
        &self,
        new: &NewPolicy,
        passwords: &dyn RepositoryPasswords,
    ) -> Result<Policy, WriteError>;

    /// The policy of this id.
    async fn find(&self, id: PolicyId) -> Result<Option<Policy>, StoreError>;

    /// Policies, newest first, of one agent or of all.
    async fn list(&self, agent: Option<AgentId>, page: &Page)
    -> Result<Listed<Policy>, StoreError>;

    /// Changes a policy that is still of the version that the edit was made from.
    ///
    /// What is promised of passwords in [`create`](Self::create) holds here too. A new one is refused as [`Refusal::Settled`] once a backup was given to the agent or a
    /// snapshot is known: the repositories have the old one, and nothing else here knows it.
    ///
    /// [`Refusal::Settled`]: super::Refusal::Settled
    async fn update(
        &self,
        edit: &PolicyEdit,
        passwords: &dyn RepositoryPasswords,
    ) -> Result<Policy, WriteError>;

    /// Removes a policy of which no job is with an agent.
    ///
    /// Its waiting jobs are cancelled. Its snapshots are no longer listed; they stay in their
    /// repositories, and the repository password that was shown for safe keeping opens them.
    async fn delete(
        &self,
        id: PolicyId,
        version: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError>;
}

/// Compares sealed passwords for a store, which cannot open them.
///
/// It is asked inside the transaction of a write, so that what it says is still true when the write
/// counts.
pub trait RepositoryPasswords: fmt::Debug + Send + Sync {
    /// Whether both are the same password.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when one cannot be opened: nothing is written then.
    fn agree(&self, one: &SealedPassword, other: &SealedPassword) -> Result<bool, StoreError>;
}

/// A policy's repository password, as it is stored.
#[derive(Debug, Clone)]
pub struct SealedPassword {
    /// The policy, to which it is sealed.
    pub policy: PolicyId,
    /// The sealed password.
    pub blob: Vec<u8>,
}

/// A policy to be.
#[derive(Debug, Clone)]
pub struct NewPolicy {
    /// Its id, to which the password is sealed.
    pub id: PolicyId,
    /// The agent that runs it.
    pub agent: AgentId,
    /// What people call it.
    pub name: String,
    /// Whether its schedule counts.
    pub enabled: bool,
    /// Where to, one repository each, no destination twice.
    pub destinations: Vec<PolicyDestination>,
    /// Sealed for
    /// [`sealed::policy_repository_password`](super::sealed::policy_repository_password).
    pub repository_password: Vec<u8>,
    /// Everything else.
    pub settings: PolicySettings,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its id.
    pub id: PolicyId,
    /// Grows by one with each change.
    pub version: u64,
    /// The agent that runs it.
    pub agent: AgentId,
    /// What people call it.
    pub name: String,
    /// Whether its schedule counts.
    pub enabled: bool,
    /// Where to, one repository each.
    pub destinations: Vec<PolicyDestination>,
    /// The password of its repositories, sealed.
    pub repository_password: Vec<u8>,
    /// Everything else.
    pub settings: PolicySettings,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a policy is to become. Its agent stays: repositories are tagged and locked by machine.
#[derive(Debug, Clone)]
pub struct PolicyEdit {
    /// Which one.
    pub id: PolicyId,
    /// The version that was read.
    pub version: u64,
    /// Its name from now on.
    pub name: String,
    /// Whether its schedule counts from now on.
    pub enabled: bool,
    /// Where to from now on.
    pub destinations: Vec<PolicyDestination>,
    /// A new password, sealed. None keeps the old one.
    pub repository_password: Option<Vec<u8>>,
    /// Everything else from now on.
    pub settings: PolicySettings,
    /// When it changes.
    pub at: Timestamp,
}

/// One repository of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDestination {
    /// The destination.
    pub destination_id: DestinationId,
    /// The repository's path below the destination's place.
    pub path: RelativePath,
    /// What is kept there, when it differs from the policy's retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// The part of a policy that no query asks about, as the HTTP API writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// What is backed up.
    pub sources: Vec<Source>,
    /// Patterns of what is left out, in restic's syntax.
    pub excludes: Vec<String>,
    /// Files of more bytes are left out.
    pub exclude_larger_than: Option<u64>,
    /// Mount points are not crossed.
    pub one_file_system: bool,
    /// Tags beside those of our own.
    pub tags: Vec<String>,
    /// When it runs by itself.
    pub schedule: Option<Schedule>,
    /// What happens to ticks that nobody could run.
    pub catch_up: CatchUp,
    /// Seconds without the server after which the agent runs the schedule by itself.
    pub offline_grace: u64,
    /// What is kept.
    pub retention: Retention,
    /// Commands around each backup.
    pub hooks: Hooks,
    /// How much of the machine a run may take.
    pub limits: Limits,
    /// The hours in which it may run.
    pub window: Option<Window>,
    /// When its repositories are checked.
    pub verify: Option<VerifyPlan>,
    /// When a sample is restored and compared.
    pub drill: Option<DrillPlan>,
    /// Seconds after which the want of a good snapshot is an alarm.
    pub max_age: Option<u64>,
    /// Seconds after it was queued in which a run must have ended.
    pub deadline: Option<u64>,
}

/// An hour of grace, and everything else empty or off.
impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            excludes: Vec::new(),
            exclude_larger_than: None,
            one_file_system: false,
            tags: Vec::new(),
            schedule: None,
            catch_up: CatchUp::default(),
            offline_grace: 3_600,
            retention: Retention::default(),
            hooks: Hooks::default(),
            limits: Limits::default(),
            window: None,
            verify: None,
            drill: None,
            max_age: None,
            deadline: None,
        }
    }
}

/// The hours of a day in which a policy may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// When it opens, such as `22:00`.
    pub from: String,
    /// When it closes, such as `06:00`; the next day, if that is earlier.
    pub to: String,
    /// An IANA time zone.
    pub timezone: String,
}

/// When repositories are checked, and how thoroughly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyPlan {
    /// When.
    pub schedule: Schedule,
    /// How much of the data is read back, 0 to 100.
    #[serde(default)]
    pub read_data_percent: u8,
}

/// When a sample is restored and compared, and how large it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillPlan {
    /// When.
    pub schedule: Schedule,
    /// How many files.
    pub sample_files: u32,
}
