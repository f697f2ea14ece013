use std::fmt;
use std::str::FromStr;

use arkeep_core::job::{
    DestinationResult, Fence, HookResult, JobError, LogLevel, LogLine, LogSource, Outcome,
    ReportBody,
};
use arkeep_core::{SecretSlice, Timestamp};
use serde::{Deserialize, Serialize};

use super::shelf::{self, TakeError};

/// What has been done of a job that has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoFar {
    /// Destinations that are done with, whatever came of them.
    pub results: Vec<DestinationResult>,
    /// Hooks that have ended.
    pub hooks: Vec<HookResult>,
}

/// The name of a file of a job. It says what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Assignment(u32, Fence),
    Started,
    SoFar,
    Finished,
    Acked,
    Log(u64, u64),
    Logged(u64),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assignment(attempt, Fence(fence)) => write!(f, "assignment.{attempt}.{fence}"),
            Self::Started => f.write_str("started"),
            Self::SoFar => f.write_str("so-far"),
            Self::Finished => f.write_str("finished"),
            Self::Acked => f.write_str("acked"),
            Self::Log(first, last) => write!(f, "log.{first}.{last}"),
            Self::Logged(last) => write!(f, "logged.{last}"),
        }
    }
}

/// No file of ours is called that.
#[derive(Debug)]
pub(super) struct NoName;

impl FromStr for Name {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let mut parts = text.split('.');
        let word = parts.next().unwrap_or_default();
        let mut numbers = parts.map(|part| part.parse::<u64>().map_err(|_| NoName));
        let mut number = || numbers.next().unwrap_or(Err(NoName));
        let name = match word {
            "assignment" => {
                let attempt = u32::try_from(number()?).map_err(|_| NoName)?;
                Self::Assignment(attempt, Fence(number()?))
            }
            "started" => Self::Started,
            "so-far" => Self::SoFar,
            "finished" => Self::Finished,
            "acked" => Self::Acked,
            "log" => Self::Log(number()?, number()?),
            "logged" => Self::Logged(number()?),
            _ => return Err(NoName),
        };
        // One spelling for each name: a second one would be a file that nobody removes.
        if name.to_string() == text {
            Ok(name)
        } else {
            Err(NoName)
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Started {
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Finished {
    at: Timestamp,
    outcome: Outcome,
    error: Option<JobError>,
    #[serde(flatten)]
    done: SoFar,
}

pub(super) fn started(at: Timestamp) -> Vec<u8> {
    encode(&Started { at })
}

pub(super) fn so_far(done: &SoFar) -> Vec<u8> {
    encode(done)
}

/// The record of an end; nothing for a report that is none.
pub(super) fn finished(at: Timestamp, body: &ReportBody) -> Option<Vec<u8>> {
    let ReportBody::Finished {
        outcome,
        error,
        results,
        hooks,
    } = body
    else {
        return None;
    };
    Some(encode(&Finished {
        at,
        outcome: *outcome,
        error: error.clone(),
        done: SoFar {
            results: results.clone(),
            hooks: hooks.clone(),
        },
    }))
}

/// What a `started` or `finished` file says.
pub(super) fn report(
    name: &Name,
    content: &SecretSlice<u8>,
) -> Result<(Timestamp, ReportBody), TakeError> {
    if *name == Name::Started {
        let Started { at } = shelf::json(content)?;
        return Ok((at, ReportBody::Started));
    }
    let finished: Finished = shelf::json(content)?;
    let body = ReportBody::Finished {
        outcome: finished.outcome,
        error: finished.error,
        results: finished.done.results,
        hooks: finished.done.hooks,
    };
    Ok((finished.at, body))
}

pub(super) fn log(lines: &[LogLine]) -> SecretSlice<u8> {
    shelf::bytes(encode(&lines))
}

/// Stands in for lines whose file was damaged, so that the numbers have no gap.
pub(super) fn lost_lines(first: u64, last: u64) -> Vec<LogLine> {
    let line = |seq| LogLine {
        seq,
        at: Timestamp::UNIX_EPOCH,
        level: LogLevel::Warn,
        source: LogSource::Agent,
        text: "this line was damaged on the agent's disk".to_owned(),
    };
    (first..=last).take(MOST_LINES).map(line).collect()
}

#[expect(
    clippy::expect_used,
    reason = "these types have string keys only and no serializer of theirs fails"
)]
fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a record is JSON")
}

pub(super) const STARTED_SEQUENCE: u64 = 1;
pub(super) const FINISHED_SEQUENCE: u64 = 2;
/// In one batch.
pub(super) const MOST_LINES: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        for name in [
            Name::Assignment(1, Fence(7)),
            Name::Started,
            Name::SoFar,
            Name::Finished,
            Name::Acked,
            Name::Log(1, 20),
            Name::Logged(20),
        ] {
            assert_eq!(name.to_string().parse::<Name>().ok(), Some(name));
        }
        for text in [
            "",
            "log",
            "log.1",
            "log.01.2",
            "log.1.2.3",
            "started.1",
            "assignment.+1.2",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
