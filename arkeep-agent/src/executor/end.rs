use arkeep_core::job::{JobError, JobState, Outcome};

use super::outcome::{Proof, error, outcome};
use super::run::Run;
use super::stop::StopReason;

/// How a job ended, apart from its parts.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) outcome: Outcome,
    pub(super) error: Option<JobError>,
}

impl End {
    /// The end that follows from the parts, unless something stood in the way of beginning.
    pub(super) fn of(
        run: &Run<'_>,
        asked: usize,
        proof: Proof,
        obstacle: Option<JobError>,
    ) -> Self {
        let (results, hooks) = (&run.done.results, &run.done.hooks);
        let reason = run.stop.reason();
        if let Some(obstacle) = obstacle {
            return Self {
                outcome: Outcome::Failed,
                error: Some(obstacle),
            };
        }
        match (outcome(asked, results, hooks, proof), reason) {
            (Outcome::Succeeded, _) => Self {
                outcome: Outcome::Succeeded,
                error: None,
            },
            (Outcome::Cancelled, reason) => Self::stopped(reason.unwrap_or(StopReason::Cancelled)),
            (outcome, _) => Self {
                outcome,
                error: error(results, hooks).or_else(|| Self::nothing().error),
            },
        }
    }

    pub(super) fn stopped(reason: StopReason) -> Self {
        Self {
            outcome: match reason {
                StopReason::Deadline => Outcome::Failed,
                StopReason::Cancelled | StopReason::Shutdown => Outcome::Cancelled,
            },
            error: Some(reason.error()),
        }
    }

    pub(super) fn failed(code: &str, detail: &str) -> Self {
        Self {
            outcome: Outcome::Failed,
            error: Some(JobError {
                code: code.to_owned(),
                detail: detail.to_owned(),
            }),
        }
    }

    fn nothing() -> Self {
        Self::failed("nothing_done", "the job has no destination")
    }

    pub(super) fn lost() -> Self {
        Self::failed(
            "record_damaged",
            "the agent's record of the job was damaged, and what came of it is not known; run it \
             again",
        )
    }

    pub(super) fn fault() -> Self {
        Self::failed(
            "agent_fault",
            "the agent failed while it worked on the job; its own log says where",
        )
    }

    pub(super) fn state(&self) -> &'static str {
        JobState::from(self.outcome).as_str()
    }
}
