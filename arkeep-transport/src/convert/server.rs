use crate::proto;
use crate::proto::{query, server_message};
use crate::session::{Query, Question, Receipt, ServerSaying, Welcome};

use super::{Invalid, bytes, words};

words!(Receipt, proto::Receipt, "receipt", { Stored, NotFound });

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
            ServerSaying::Renew => server_message::Saying::Renew(proto::Renew {}),
        };
        Ok(Self {
            saying: Some(saying),
        })
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
