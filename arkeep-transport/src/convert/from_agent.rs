use arkeep_core::job::LogLine;

use crate::proto;
use crate::proto::agent_message;
use crate::session::{AgentSaying, Heartbeat, Hello, LogBatch};

use super::agent::{held, trust_digest};
use super::{Invalid, each, present};

/// The most log lines in one batch.
const LINES: usize = 4096;

/// What an agent says first, or later.
pub(crate) enum FromAgent {
    Hello(Box<Hello>),
    Saying(AgentSaying),
}

impl TryFrom<proto::AgentMessage> for FromAgent {
    type Error = Invalid;

    fn try_from(message: proto::AgentMessage) -> Result<Self, Invalid> {
        let saying = match present(message.saying, "saying")? {
            agent_message::Saying::Hello(hello) => {
                return Ok(Self::Hello(Box::new(hello.try_into()?)));
            }
            agent_message::Saying::Accepted(job) => AgentSaying::Accepted(job.try_into()?),
            agent_message::Saying::Report(report) => AgentSaying::Report(report.try_into()?),
            agent_message::Saying::Logs(batch) => AgentSaying::Logs(batch.try_into()?),
            agent_message::Saying::Progress(progress) => {
                AgentSaying::Progress(progress.try_into()?)
            }
            agent_message::Saying::Heartbeat(heartbeat) => AgentSaying::Heartbeat(Heartbeat {
                held: held(heartbeat.held)?,
                trust: trust_digest(&heartbeat.trust_digest)?,
            }),
            agent_message::Saying::Answer(answer) => AgentSaying::Answer(answer.try_into()?),
        };
        Ok(Self::Saying(saying))
    }
}

impl TryFrom<proto::LogBatch> for LogBatch {
    type Error = Invalid;

    fn try_from(batch: proto::LogBatch) -> Result<Self, Invalid> {
        if batch.lines.is_empty() || batch.lines.len() > LINES {
            return Err(Invalid("lines"));
        }
        let lines: Vec<LogLine> = each(batch.lines, TryInto::try_into)?;
        let rising = lines
            .iter()
            .zip(lines.iter().skip(1))
            .all(|(a, b)| a.seq < b.seq);
        if !rising {
            return Err(Invalid("seq"));
        }
        Ok(Self {
            job: present(batch.job, "job")?.try_into()?,
            lines,
        })
    }
}
