use arkeep_core::engine::EngineInfo;
use arkeep_core::job::{Fence, LogLine, Progress};
use arkeep_core::snapshot::{Entry, EntryKind};

use crate::proto;
use crate::proto::{agent_message, hello, query, query_answer, server_message};
use crate::session::{
    Ack, AgentSaying, Answer, Cancel, DockerVolume, EngineStatus, Generation, Heartbeat, HeldJob,
    Hello, JobProgress, ListEntries, LogAck, LogBatch, Query, QueryAnswer, Question, Receipt,
    RequestId, ServerSaying, Welcome,
};
use crate::trust::{TrustBundle, TrustDigest};

use super::report::{TEXT, WORD};
use super::{Invalid, at_most, bytes, each, job_id, moment, present, uuid, word, words};

words!(EntryKind, proto::EntryKind, "kind", { File, Directory, Symlink, Other });
words!(Receipt, proto::Receipt, "receipt", { Stored, NotFound });

/// The most jobs that one agent can hold.
const HELD: usize = 1024;
/// The most log lines in one batch.
const LINES: usize = 4096;

fn held(jobs: Vec<proto::HeldJob>) -> Result<Vec<HeldJob>, Invalid> {
    if jobs.len() > HELD {
        return Err(Invalid("held"));
    }
    each(jobs, TryInto::try_into)
}

fn trust_digest(bytes: &[u8]) -> Result<TrustDigest, Invalid> {
    let bytes = bytes.try_into().map_err(|_| Invalid("trust_digest"))?;
    Ok(TrustDigest::from_bytes(bytes))
}

impl From<&Hello> for proto::Hello {
    fn from(hello: &Hello) -> Self {
        Self {
            agent_version: hello.agent_version.clone(),
            hostname: hello.hostname.clone(),
            os: hello.os.clone(),
            arch: hello.arch.clone(),
            engine: Some(match &hello.engine {
                EngineStatus::Found(EngineInfo { version, source }) => {
                    hello::Engine::EngineFound(proto::EngineInfo {
                        version: version.clone(),
                        source: source.clone(),
                    })
                }
                EngineStatus::Unusable(problem) => hello::Engine::EngineProblem(problem.clone()),
            }),
            hook_policy: hello.hook_policy.clone(),
            sandbox: hello.sandbox.clone(),
            docker: hello.docker,
            held: hello.held.iter().map(Into::into).collect(),
            trust_digest: hello.trust.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<proto::Hello> for Hello {
    type Error = Invalid;

    fn try_from(hello: proto::Hello) -> Result<Self, Invalid> {
        Ok(Self {
            agent_version: at_most(hello.agent_version, WORD, "agent_version")?,
            hostname: at_most(hello.hostname, WORD, "hostname")?,
            os: at_most(hello.os, WORD, "os")?,
            arch: at_most(hello.arch, WORD, "arch")?,
            engine: match present(hello.engine, "engine")? {
                hello::Engine::EngineFound(engine) => EngineStatus::Found(EngineInfo {
                    version: at_most(engine.version, WORD, "version")?,
                    source: at_most(engine.source, WORD, "source")?,
                }),
                hello::Engine::EngineProblem(problem) => {
                    EngineStatus::Unusable(at_most(problem, TEXT, "engine_problem")?)
                }
            },
            hook_policy: at_most(hello.hook_policy, WORD, "hook_policy")?,
            sandbox: at_most(hello.sandbox, WORD, "sandbox")?,
            docker: hello.docker,
            held: held(hello.held)?,
            trust: trust_digest(&hello.trust_digest)?,
        })
    }
}

impl TryFrom<&AgentSaying> for proto::AgentMessage {
    type Error = Invalid;

    fn try_from(saying: &AgentSaying) -> Result<Self, Invalid> {
        let saying = match saying {
            AgentSaying::Accepted(job) => agent_message::Saying::Accepted(job.into()),
            AgentSaying::Report(report) => agent_message::Saying::Report(report.try_into()?),
            AgentSaying::Logs(batch) => agent_message::Saying::Logs(proto::LogBatch {
                job: Some((&batch.job).into()),
                lines: batch.lines.iter().map(Into::into).collect(),
            }),
            AgentSaying::Progress(progress) => agent_message::Saying::Progress(progress.into()),
            AgentSaying::Heartbeat(heartbeat) => {
                agent_message::Saying::Heartbeat(proto::Heartbeat {
                    held: heartbeat.held.iter().map(Into::into).collect(),
                    trust_digest: heartbeat.trust.as_bytes().to_vec(),
                })
            }
            AgentSaying::Answer(answer) => agent_message::Saying::Answer(answer.into()),
        };
        Ok(Self {
            saying: Some(saying),
        })
    }
}

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

impl From<&JobProgress> for proto::JobProgress {
    fn from(JobProgress { job, progress }: &JobProgress) -> Self {
        Self {
            job: Some(job.into()),
            percent: progress.percent,
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
            files_done: progress.files_done,
            files_total: progress.files_total,
            seconds_left: progress.seconds_left,
            current: progress.current.clone(),
        }
    }
}

impl TryFrom<proto::JobProgress> for JobProgress {
    type Error = Invalid;

    fn try_from(message: proto::JobProgress) -> Result<Self, Invalid> {
        // NaN fails too.
        if !(0.0..=100.0).contains(&message.percent) {
            return Err(Invalid("percent"));
        }
        Ok(Self {
            job: present(message.job, "job")?.try_into()?,
            progress: Progress {
                percent: message.percent,
                bytes_done: message.bytes_done,
                bytes_total: message.bytes_total,
                files_done: message.files_done,
                files_total: message.files_total,
                seconds_left: message.seconds_left,
                current: message
                    .current
                    .map(|path| at_most(path, TEXT, "current"))
                    .transpose()?,
            },
        })
    }
}

impl From<&QueryAnswer> for proto::QueryAnswer {
    fn from(answer: &QueryAnswer) -> Self {
        Self {
            request_id: bytes(answer.id.as_uuid()),
            answer: Some(match &answer.answer {
                Answer::Entries { entries, truncated } => {
                    query_answer::Answer::Entries(proto::Entries {
                        entries: entries.iter().map(Into::into).collect(),
                        truncated: *truncated,
                    })
                }
                Answer::DockerVolumes(volumes) => {
                    let volumes = volumes.iter().map(|volume| proto::DockerVolume {
                        name: volume.name.clone(),
                        driver: volume.driver.clone(),
                    });
                    query_answer::Answer::Volumes(proto::DockerVolumes {
                        volumes: volumes.collect(),
                    })
                }
                Answer::Failed(error) => query_answer::Answer::Failed(error.into()),
            }),
        }
    }
}

impl TryFrom<proto::QueryAnswer> for QueryAnswer {
    type Error = Invalid;

    fn try_from(answer: proto::QueryAnswer) -> Result<Self, Invalid> {
        let id = RequestId::from_uuid(uuid(&answer.request_id, "request_id")?);
        let answer = match present(answer.answer, "answer")? {
            query_answer::Answer::Entries(entries) => Answer::Entries {
                entries: each(entries.entries, TryInto::try_into)?,
                truncated: entries.truncated,
            },
            query_answer::Answer::Volumes(volumes) => {
                Answer::DockerVolumes(each(volumes.volumes, |volume| {
                    Ok(DockerVolume {
                        name: at_most(volume.name, WORD, "name")?,
                        driver: at_most(volume.driver, WORD, "driver")?,
                    })
                })?)
            }
            query_answer::Answer::Failed(error) => Answer::Failed(error.try_into()?),
        };
        Ok(Self { id, answer })
    }
}

impl From<&Entry> for proto::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            name: entry.name.clone(),
            path: entry.path.clone(),
            kind: proto::EntryKind::from(entry.kind).into(),
            size: entry.size,
            modified_at: entry.modified_at.map(|at| at.as_unix_millis()),
        }
    }
}

impl TryFrom<proto::Entry> for Entry {
    type Error = Invalid;

    fn try_from(entry: proto::Entry) -> Result<Self, Invalid> {
        Ok(Self {
            name: at_most(entry.name, TEXT, "name")?,
            path: at_most(entry.path, TEXT, "path")?,
            kind: word::<proto::EntryKind, _>(entry.kind, "kind")?,
            size: entry.size,
            modified_at: entry
                .modified_at
                .map(|at| moment(at, "modified_at"))
                .transpose()?,
        })
    }
}

impl From<&Welcome> for proto::Welcome {
    fn from(welcome: &Welcome) -> Self {
        Self {
            generation: welcome.generation.0,
            server_time: welcome.server_time.as_unix_millis(),
        }
    }
}

impl TryFrom<&ServerSaying> for proto::ServerMessage {
    type Error = Invalid;

    fn try_from(saying: &ServerSaying) -> Result<Self, Invalid> {
        let saying = match saying {
            ServerSaying::Assignment(assignment) => {
                server_message::Saying::Assignment(assignment.as_ref().try_into()?)
            }
            ServerSaying::Cancel(cancel) => server_message::Saying::Cancel(proto::Cancel {
                job_id: bytes(cancel.job.as_uuid()),
                fence: cancel.fence.0,
            }),
            ServerSaying::Ack(ack) => server_message::Saying::Ack(proto::Ack {
                job_id: bytes(ack.job.as_uuid()),
                attempt: ack.attempt,
                sequence: ack.sequence,
                receipt: proto::Receipt::from(ack.receipt).into(),
            }),
            ServerSaying::LogAck(ack) => server_message::Saying::LogAck(proto::LogAck {
                job_id: bytes(ack.job.as_uuid()),
                attempt: ack.attempt,
                through: ack.through,
                receipt: proto::Receipt::from(ack.receipt).into(),
            }),
            ServerSaying::Query(query) => server_message::Saying::Query(query.into()),
            ServerSaying::Trust(bundle) => server_message::Saying::Trust(proto::TrustBundle {
                roots: bundle.roots().map(<[u8]>::to_vec).collect(),
            }),
        };
        Ok(Self {
            saying: Some(saying),
        })
    }
}

/// What a server says first, or later; nothing when a newer server says what we do not know.
pub(crate) enum FromServer {
    Welcome(Welcome),
    Saying(ServerSaying),
    Unknown,
}

impl TryFrom<proto::ServerMessage> for FromServer {
    type Error = Invalid;

    fn try_from(message: proto::ServerMessage) -> Result<Self, Invalid> {
        let Some(saying) = message.saying else {
            return Ok(Self::Unknown);
        };
        let saying = match saying {
            server_message::Saying::Welcome(welcome) => {
                return Ok(Self::Welcome(Welcome {
                    generation: Generation(welcome.generation),
                    server_time: moment(welcome.server_time, "server_time")?,
                }));
            }
            server_message::Saying::Assignment(assignment) => {
                ServerSaying::Assignment(Box::new(assignment.try_into()?))
            }
            server_message::Saying::Cancel(cancel) => ServerSaying::Cancel(Cancel {
                job: job_id(&cancel.job_id, "job_id")?,
                fence: Fence(cancel.fence),
            }),
            server_message::Saying::Ack(ack) => ServerSaying::Ack(Ack {
                job: job_id(&ack.job_id, "job_id")?,
                attempt: ack.attempt,
                sequence: ack.sequence,
                receipt: word::<proto::Receipt, _>(ack.receipt, "receipt")?,
            }),
            server_message::Saying::LogAck(ack) => ServerSaying::LogAck(LogAck {
                job: job_id(&ack.job_id, "job_id")?,
                attempt: ack.attempt,
                through: ack.through,
                receipt: word::<proto::Receipt, _>(ack.receipt, "receipt")?,
            }),
            server_message::Saying::Query(query) => ServerSaying::Query(query.try_into()?),
            server_message::Saying::Trust(bundle) => {
                ServerSaying::Trust(TrustBundle::new(bundle.roots).map_err(|_| Invalid("roots"))?)
            }
        };
        Ok(Self::Saying(saying))
    }
}

impl From<&Query> for proto::Query {
    fn from(query: &Query) -> Self {
        Self {
            request_id: bytes(query.id.as_uuid()),
            question: Some(match &query.question {
                Question::ListEntries(list) => query::Question::ListEntries(proto::ListEntries {
                    repository: Some((&list.repository).into()),
                    snapshot: list.snapshot.as_str().to_owned(),
                    path: list.path.clone(),
                    limit: list.limit,
                }),
                Question::DockerVolumes => {
                    query::Question::ListDockerVolumes(proto::ListDockerVolumes {})
                }
            }),
        }
    }
}

impl TryFrom<proto::Query> for Query {
    type Error = Invalid;

    fn try_from(query: proto::Query) -> Result<Self, Invalid> {
        Ok(Self {
            id: RequestId::from_uuid(uuid(&query.request_id, "request_id")?),
            question: match present(query.question, "question")? {
                query::Question::ListEntries(list) => {
                    Question::ListEntries(Box::new(ListEntries {
                        repository: present(list.repository, "repository")?.try_into()?,
                        snapshot: list.snapshot.parse().map_err(|_| Invalid("snapshot"))?,
                        path: list.path,
                        limit: list.limit,
                    }))
                }
                query::Question::ListDockerVolumes(proto::ListDockerVolumes {}) => {
                    Question::DockerVolumes
                }
            },
        })
    }
}
