use arkeep_core::job::{
    DestinationResult, Fence, HookResult, HookState, JobError, JobReport, LogLevel, LogLine,
    LogSource, Outcome, ReportBody,
};
use arkeep_core::policy::HookPhase;

use crate::proto;
use crate::session::HeldJob;

use super::{Invalid, at_most, bytes, destination_id, each, job_id, moment, present, word, words};

words!(Outcome, proto::Outcome, "outcome", { Succeeded, Partial, Failed, Cancelled });
words!(HookPhase, proto::HookPhase, "phase", { Before, After, OnFailure });
words!(HookState, proto::HookState, "hook_state", { Succeeded, Failed, TimedOut, Refused, Cancelled });
words!(LogLevel, proto::LogLevel, "level", { Debug, Info, Warn, Error });
words!(LogSource, proto::LogSource, "source", { Agent, Restic, Hook });

/// The longest name, code or word.
pub(super) const WORD: usize = 1024;
/// The longest text for people, and the longest path.
pub(super) const TEXT: usize = 128 * 1024;
/// The longest log line.
const LINE: usize = 64 * 1024;

impl From<&HeldJob> for proto::HeldJob {
    fn from(held: &HeldJob) -> Self {
        Self {
            job_id: bytes(held.job.as_uuid()),
            attempt: held.attempt,
            fence: held.fence.0,
        }
    }
}

impl TryFrom<proto::HeldJob> for HeldJob {
    type Error = Invalid;

    fn try_from(held: proto::HeldJob) -> Result<Self, Invalid> {
        Ok(Self {
            job: job_id(&held.job_id, "job_id")?,
            attempt: held.attempt,
            fence: Fence(held.fence),
        })
    }
}

impl TryFrom<&JobReport> for proto::JobReport {
    type Error = Invalid;

    fn try_from(report: &JobReport) -> Result<Self, Invalid> {
        let body = match &report.body {
            ReportBody::Started => proto::job_report::Body::Started(proto::Started {}),
            ReportBody::Finished {
                outcome,
                error,
                results,
                hooks,
            } => proto::job_report::Body::Finished(proto::Finished {
                outcome: proto::Outcome::from(*outcome).into(),
                error: error.as_ref().map(Into::into),
                results: results.iter().map(Into::into).collect(),
                hooks: hooks.iter().map(Into::into).collect(),
            }),
            _ => return Err(Invalid("body")),
        };
        Ok(Self {
            job: Some((&HeldJob::from(report)).into()),
            sequence: report.sequence,
            at: report.at.as_unix_millis(),
            body: Some(body),
        })
    }
}

impl TryFrom<proto::JobReport> for JobReport {
    type Error = Invalid;

    fn try_from(report: proto::JobReport) -> Result<Self, Invalid> {
        let held: HeldJob = present(report.job, "job")?.try_into()?;
        let body = match present(report.body, "body")? {
            proto::job_report::Body::Started(proto::Started {}) => ReportBody::Started,
            proto::job_report::Body::Finished(finished) => ReportBody::Finished {
                outcome: word::<proto::Outcome, _>(finished.outcome, "outcome")?,
                error: finished.error.map(TryInto::try_into).transpose()?,
                results: each(finished.results, TryInto::try_into)?,
                hooks: each(finished.hooks, TryInto::try_into)?,
            },
        };
        Ok(Self {
            job: held.job,
            attempt: held.attempt,
            fence: held.fence,
            sequence: report.sequence,
            at: moment(report.at, "at")?,
            body,
        })
    }
}

impl From<&JobError> for proto::JobError {
    fn from(error: &JobError) -> Self {
        Self {
            code: error.code.clone(),
            detail: error.detail.clone(),
        }
    }
}

impl TryFrom<proto::JobError> for JobError {
    type Error = Invalid;

    fn try_from(error: proto::JobError) -> Result<Self, Invalid> {
        Ok(Self {
            code: at_most(error.code, WORD, "code")?,
            detail: at_most(error.detail, TEXT, "detail")?,
        })
    }
}

impl From<&DestinationResult> for proto::DestinationResult {
    fn from(result: &DestinationResult) -> Self {
        Self {
            destination_id: bytes(result.destination_id.as_uuid()),
            state: proto::Outcome::from(result.state).into(),
            snapshot_id: result.snapshot_id.as_ref().map(|id| id.as_str().to_owned()),
            bytes_processed: result.bytes_processed,
            bytes_added: result.bytes_added,
            files_new: result.files_new,
            files_changed: result.files_changed,
            files_unmodified: result.files_unmodified,
            started_at: result.started_at.as_unix_millis(),
            ended_at: result.ended_at.as_unix_millis(),
            error: result.error.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::DestinationResult> for DestinationResult {
    type Error = Invalid;

    fn try_from(result: proto::DestinationResult) -> Result<Self, Invalid> {
        Ok(Self {
            destination_id: destination_id(&result.destination_id, "destination_id")?,
            state: word::<proto::Outcome, _>(result.state, "state")?,
            snapshot_id: result
                .snapshot_id
                .map(|id| id.parse().map_err(|_| Invalid("snapshot_id")))
                .transpose()?,
            bytes_processed: result.bytes_processed,
            bytes_added: result.bytes_added,
            files_new: result.files_new,
            files_changed: result.files_changed,
            files_unmodified: result.files_unmodified,
            started_at: moment(result.started_at, "started_at")?,
            ended_at: moment(result.ended_at, "ended_at")?,
            error: result.error.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&HookResult> for proto::HookResult {
    fn from(result: &HookResult) -> Self {
        Self {
            name: result.name.clone(),
            phase: proto::HookPhase::from(result.phase).into(),
            state: proto::HookState::from(result.state).into(),
            exit_code: result.exit_code,
            output: result.output.clone(),
            started_at: result.started_at.as_unix_millis(),
            ended_at: result.ended_at.as_unix_millis(),
        }
    }
}

impl TryFrom<proto::HookResult> for HookResult {
    type Error = Invalid;

    fn try_from(result: proto::HookResult) -> Result<Self, Invalid> {
        Ok(Self {
            name: at_most(result.name, WORD, "name")?,
            phase: word::<proto::HookPhase, _>(result.phase, "phase")?,
            state: word::<proto::HookState, _>(result.state, "hook_state")?,
            exit_code: result.exit_code,
            output: at_most(result.output, TEXT, "output")?,
            started_at: moment(result.started_at, "started_at")?,
            ended_at: moment(result.ended_at, "ended_at")?,
        })
    }
}

impl From<&LogLine> for proto::LogLine {
    fn from(line: &LogLine) -> Self {
        Self {
            seq: line.seq,
            at: line.at.as_unix_millis(),
            level: proto::LogLevel::from(line.level).into(),
            source: proto::LogSource::from(line.source).into(),
            text: line.text.clone(),
        }
    }
}

impl TryFrom<proto::LogLine> for LogLine {
    type Error = Invalid;

    fn try_from(line: proto::LogLine) -> Result<Self, Invalid> {
        Ok(Self {
            seq: line.seq,
            at: moment(line.at, "at")?,
            level: word::<proto::LogLevel, _>(line.level, "level")?,
            source: word::<proto::LogSource, _>(line.source, "source")?,
            text: at_most(line.text, LINE, "text")?,
        })
    }
}
