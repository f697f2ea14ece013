use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for its agent.
    Queued,
    /// Given to its agent, which has not begun.
    Leased,
    /// The agent has begun.
    Running,
    /// Everything asked for was done and proven.
    Succeeded,
    /// Something was done and proven, but not all that was asked for.
    Partial,
    /// Nothing was proven.
    Failed,
    /// Someone stopped it.
    Cancelled,
    /// Its time passed while its agent was away, and its policy does not catch up.
    Missed,
    /// Its deadline passed before it began.
    Expired,
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEvent {
    /// It was given to its agent.
    Leased,
    /// The lease ran out at `until` without a sign of the agent.
    LeaseLost {
        /// When the lease ended.
        until: Timestamp,
    },
    /// The agent began.
    Started,
    /// The agent ended it.
    Finished(Outcome),
    /// Someone took it back before it began.
    Withdrawn,
    /// The next tick came and the policy does not catch up.
    Missed,
    /// Its deadline passed.
    DeadlinePassed {
        /// When the job was to have ended.
        deadline: Timestamp,
    },
}

/// How an agent ended a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything asked for was done and proven.
    Succeeded,
    /// Something was done and proven, but not all.
    Partial,
    /// Nothing was proven.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl From<Outcome> for JobState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Partial => Self::Partial,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Leased,
        Self::Running,
        Self::Succeeded,
        Self::Partial,
        Self::Failed,
        Self::Cancelled,
        Self::Missed,
        Self::Expired,
    ];

    /// Whether nothing can happen to the job any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Leased | Self::Running)
    }

    /// The state after `event` at the moment `now`.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`] when the event cannot happen in this state: the job has ended, or the
    /// moment has not come. Nothing may be changed then; a result that came late is kept beside
    /// the job.
    pub fn after(self, event: &JobEvent, now: Timestamp) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Queued, JobEvent::Leased) => Ok(Self::Leased),
            (Self::Leased, JobEvent::LeaseLost { until }) if now >= *until => Ok(Self::Queued),
            (Self::Leased, JobEvent::Started) => Ok(Self::Running),
            // An agent that could not even begin, or whose first report was its last.
            (Self::Leased | Self::Running, JobEvent::Finished(outcome)) => Ok((*outcome).into()),
            (Self::Queued | Self::Leased, JobEvent::Withdrawn) => Ok(Self::Cancelled),
            (Self::Queued, JobEvent::Missed) => Ok(Self::Missed),
            (Self::Queued, JobEvent::DeadlinePassed { deadline }) if now >= *deadline => {
                Ok(Self::Expired)
            }
            (Self::Leased | Self::Running, JobEvent::DeadlinePassed { deadline })
                if now >= *deadline =>
            {
                Ok(Self::Failed)
            }
            (from, event) => Err(IllegalTransition {
                from,
                event: event.clone(),
            }),
        }
    }

    /// The word that stands for it in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Missed => "missed",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(UnknownWord)
    }
}

/// The word stands for nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown word")]
pub struct UnknownWord;

/// An event that cannot happen to a job in its state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to a job that is {from}")]
pub struct IllegalTransition {
    /// The state, which stays.
    pub from: JobState,
    /// The event, which is not applied.
    pub event: JobEvent,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Take a snapshot of a policy's sources.
    Backup,
    /// Put files of a snapshot back.
    Restore,
    /// Check a repository.
    Verify,
    /// Apply retention, then prune.
    Forget,
    /// Restore a sample elsewhere and compare.
    Drill,
    /// Open a repository, to see that it can be opened.
    Test,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Backup,
        Self::Restore,
        Self::Verify,
        Self::Forget,
        Self::Drill,
        Self::Test,
    ];

    /// Whether one job that waits may stand for several requests. A restore or a test is asked for
    /// with parameters of its own, so each is done.
    #[must_use]
    pub const fn folds(self) -> bool {
        matches!(
            self,
            Self::Backup | Self::Verify | Self::Forget | Self::Drill
        )
    }

    /// The word that stands for it in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::Forget => "forget",
            Self::Drill => "drill",
            Self::Test => "test",
        }
    }
}

impl FromStr for JobKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownWord)
    }
}

/// Who wanted a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobSource {
    /// The policy's schedule, on the server.
    Schedule,
    /// A person or a program, through the API.
    Manual,
    /// The policy's schedule, on an agent that could not reach the server.
    Offline,
}

impl JobSource {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::Schedule, Self::Manual, Self::Offline];

    /// The word that stands for it in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
            Self::Offline => "offline",
        }
    }
}

impl FromStr for JobSource {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|source| source.as_str() == text)
            .ok_or(UnknownWord)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events() -> impl Strategy<Value = JobEvent> {
        let moments = (-5_i64..5).prop_map(Timestamp::from_unix_millis);
        prop_oneof![
            Just(JobEvent::Leased),
            moments
                .clone()
                .prop_map(|until| JobEvent::LeaseLost { until }),
            Just(JobEvent::Started),
            Just(JobEvent::Finished(Outcome::Succeeded)),
            Just(JobEvent::Finished(Outcome::Partial)),
            Just(JobEvent::Finished(Outcome::Failed)),
            Just(JobEvent::Finished(Outcome::Cancelled)),
            Just(JobEvent::Withdrawn),
            Just(JobEvent::Missed),
            moments.prop_map(|deadline| JobEvent::DeadlinePassed { deadline }),
        ]
    }

    proptest! {
        /// S4, S5
        #[test]
        fn a_terminal_state_never_changes(events in prop::collection::vec(events(), 0..30)) {
            let now = Timestamp::UNIX_EPOCH;
            let mut state = JobState::Queued;
            for event in events {
                let next = state.after(&event, now);
                if state.is_terminal() {
                    prop_assert!(next.is_err());
                }
                state = next.unwrap_or(state);
            }
        }

        /// S4
        #[test]
        fn success_comes_only_from_an_agent_that_said_so(state in 0_usize..9, event in events()) {
            let next = JobState::ALL[state].after(&event, Timestamp::UNIX_EPOCH);

            if next == Ok(JobState::Succeeded) {
                prop_assert_eq!(event, JobEvent::Finished(Outcome::Succeeded));
            }
        }
    }

    #[test]
    fn a_lease_is_lost_when_its_time_has_come() {
        let event = JobEvent::LeaseLost {
            until: Timestamp::from_unix_millis(10),
        };

        assert!(
            JobState::Leased
                .after(&event, Timestamp::from_unix_millis(9))
                .is_err()
        );
        assert_eq!(
            JobState::Leased.after(&event, Timestamp::from_unix_millis(10)),
            Ok(JobState::Queued)
        );
    }

    #[test]
    fn a_running_job_outlives_its_lease() {
        let event = JobEvent::LeaseLost {
            until: Timestamp::UNIX_EPOCH,
        };

        assert!(
            JobState::Running
                .after(&event, Timestamp::from_unix_millis(1))
                .is_err()
        );
    }

    #[test]
    fn words_are_read_back() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        for kind in JobKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        for source in JobSource::ALL {
            assert_eq!(source.as_str().parse(), Ok(source));
        }
    }
}
