use arkeep_core::engine::EngineInfo;
use arkeep_core::job::Progress;
use arkeep_core::snapshot::{Entry, EntryKind};

use crate::proto;
use crate::proto::{agent_message, hello, query_answer};
use crate::session::{
    AgentSaying, Answer, DockerVolume, EngineStatus, HeldJob, Hello, JobProgress, QueryAnswer,
    RequestId,
};
use crate::trust::TrustDigest;

use super::report::{TEXT, WORD};
use super::{Invalid, at_most, bytes, each, moment, present, uuid, word, words};

words!(EntryKind, proto::EntryKind, "kind", { File, Directory, Symlink, Other });

/// The most jobs that one agent can hold.
const HELD: usize = 1024;

pub(super) fn held(jobs: Vec<proto::HeldJob>) -> Result<Vec<HeldJob>, Invalid> {
    if jobs.len() > HELD {
        return Err(Invalid("held"));
    }
    each(jobs, TryInto::try_into)
}

pub(super) fn trust_digest(bytes: &[u8]) -> Result<TrustDigest, Invalid> {
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
