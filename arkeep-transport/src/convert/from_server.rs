use arkeep_core::job::Fence;

use crate::proto;
use crate::proto::{query, server_message};
use crate::session::{
    Ack, Cancel, Generation, ListEntries, LogAck, Query, Question, RequestId, ServerSaying, Welcome,
};
use crate::trust::TrustBundle;

use super::{Invalid, job_id, moment, present, uuid, word};

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
            server_message::Saying::Renew(proto::Renew {}) => ServerSaying::Renew,
        };
        Ok(Self::Saying(saying))
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
