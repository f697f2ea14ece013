use std::sync::Arc;

use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Streaming;

use arkeep_core::job::JobReport;

use crate::convert::FromAgent;
use crate::gateway::{AgentHandle, GatewayError};
use crate::identity::AgentIdentity;
use crate::proto::{AgentMessage, ServerMessage, server_message};
use crate::session::{
    Ack, AgentSaying, Cancel, HeldJob, Hello, LogAck, LogBatch, Receipt, ServerSaying, Welcome,
};
use crate::status::Refusal;
use crate::trust::TrustDigest;

use super::Shared;
use super::ending::{Ending, Reason};
use super::judge::Admitted;
use super::pace::Pace;

/// One agent's session, from its first message to its last.
///
/// Calls to the gateway are never cut off half-way: what ends a session is looked at between them.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) admitted: Admitted,
    pub(super) incoming: Streaming<AgentMessage>,
    /// Boxed, because a channel makes room for thirty-two at once.
    pub(super) outgoing: mpsc::Sender<Box<ServerMessage>>,
    pub(super) ending: Arc<Ending>,
}

impl Session {
    pub(super) async fn run(mut self, welcome: oneshot::Sender<ServerMessage>) {
        let reason = match self.hear_hello().await {
            Ok(hello) => self.serve(hello, welcome).await,
            Err(reason) => reason,
        };
        self.ending.end(reason);
    }

    async fn hear_hello(&mut self) -> Result<Hello, Reason> {
        let limit = self.shared.config.handshake_timeout;
        let first = tokio::select! {
            () = self.ending.ended() => return Err(Reason::Gone),
            first = tokio::time::timeout(limit, self.incoming.message()) => first,
        };
        let message = match first {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Err(Reason::Gone),
            Ok(Err(status)) => return Err(broken(&status)),
            Err(_) => return Err(Reason::Misbehaved("the first message took too long")),
        };
        match FromAgent::try_from(message) {
            Ok(FromAgent::Hello(hello)) => Ok(*hello),
            Ok(FromAgent::Saying(_)) => Err(Reason::Misbehaved("the first message must be hello")),
            Err(_) => Err(Reason::Misbehaved("the first message was not understood")),
        }
    }

    async fn serve(&mut self, hello: Hello, welcome: oneshot::Sender<ServerMessage>) -> Reason {
        let shared = Arc::clone(&self.shared);
        let identity = self.admitted.identity.clone();
        let agent = identity.agent();
        let gateway = &shared.parts.gateway;
        let trust = hello.trust;
        // Before anything else: the certificate has arrived, so those before it are over.
        if let Err(error) = shared.parts.store.confirm(agent, identity.serial()).await {
            tracing::warn!(%agent, %error, "a certificate could not be confirmed");
            return Reason::Unavailable;
        }
        let number = shared.registry.enter(agent, &self.ending);
        let handle = AgentHandle::new(agent, self.outgoing.clone(), Arc::clone(&self.ending));
        let reason = match gateway.connected(&identity, hello, handle).await {
            Ok(generation) => {
                let server_time = shared.parts.clock.now();
                let message = server_message::Saying::Welcome(
                    (&Welcome {
                        generation,
                        server_time,
                    })
                        .into(),
                );
                // Nobody listens any more: the loop below will see it.
                let _ = welcome.send(ServerMessage {
                    saying: Some(message),
                });
                tracing::debug!(%agent, %generation, "a session has begun");
                let reason = self.converse(&identity, trust).await;
                self.ending.end(reason);
                shared.registry.leave(agent, number);
                gateway.disconnected(&identity, generation).await;
                tracing::debug!(%agent, %generation, ?reason, "a session has ended");
                reason
            }
            Err(GatewayError::NotFound | GatewayError::Refused) => Reason::Refused,
            Err(GatewayError::Store(_)) => Reason::Unavailable,
        };
        shared.registry.leave(agent, number);
        reason
    }

    async fn converse(&mut self, identity: &AgentIdentity, trust: TrustDigest) -> Reason {
        match self.converse_until_error(identity, trust).await {
            Ok(()) => Reason::Gone,
            Err(reason) => reason,
        }
    }

    async fn converse_until_error(
        &mut self,
        identity: &AgentIdentity,
        trust: TrustDigest,
    ) -> Result<(), Reason> {
        let config = &self.shared.config;
        let (messages, bytes) = (config.messages_per_second, config.bytes_per_second);
        let mut pace = Pace::new(messages, bytes, Instant::now());
        let mut judging = tokio::time::interval(config.standing_ttl);
        judging.set_missed_tick_behavior(MissedTickBehavior::Delay);
        judging.reset();
        let mut told = self.offer_trust(trust).await?;
        loop {
            let message = tokio::select! {
                biased;
                () = self.ending.ended() => return Ok(()),
                // Also while the agent is silent: assignments go the other way.
                _ = judging.tick() => {
                    self.judge(identity).await?;
                    told = self.offer_trust(told).await?;
                    continue;
                }
                message = self.incoming.message() => message,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(status) => return Err(broken(&status)),
            };
            self.shared
                .judge_date(identity)
                .map_err(|_| Reason::Refused)?;
            let pause = pace.count(message.encoded_len(), Instant::now());
            self.take_in(identity, message).await?;
            if !pause.is_zero() {
                tokio::select! {
                    () = self.ending.ended() => return Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }

    async fn judge(&self, identity: &AgentIdentity) -> Result<(), Reason> {
        let refused = |refusal| match refusal {
            Refusal::Unavailable => Reason::Unavailable,
            _ => Reason::Refused,
        };
        self.shared.judge_date(identity).map_err(refused)?;
        let connection = &self.admitted.connection;
        let standing = self.shared.judge_standing(connection, identity).await;
        standing.map_err(refused)
    }

    /// Tells an agent which roots are in force, unless it holds them or was told of them.
    async fn offer_trust(&self, known: TrustDigest) -> Result<TrustDigest, Reason> {
        match self.shared.parts.ca.trust_bundle().await {
            Ok(bundle) if bundle.digest() != known => {
                let digest = bundle.digest();
                self.say(ServerSaying::Trust(bundle)).await?;
                Ok(digest)
            }
            Ok(_) => Ok(known),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the CA cannot be asked");
                Ok(known)
            }
        }
    }

    async fn take_in(&self, identity: &AgentIdentity, message: AgentMessage) -> Result<(), Reason> {
        let saying = match FromAgent::try_from(message) {
            Ok(FromAgent::Saying(saying)) => saying,
            Ok(FromAgent::Hello(_)) => return Err(Reason::Misbehaved("hello was said before")),
            Err(_) => return Err(Reason::Misbehaved("a message was not understood")),
        };
        let gateway = &self.shared.parts.gateway;
        match saying {
            AgentSaying::Accepted(job) => self.take_accepted(identity, job).await,
            AgentSaying::Report(report) => self.take_report(identity, report).await,
            AgentSaying::Logs(batch) => self.take_logs(identity, batch).await,
            AgentSaying::Progress(progress) => {
                gateway.progress(identity, progress).await;
                Ok(())
            }
            AgentSaying::Heartbeat(heartbeat) => {
                // A heartbeat names many jobs, so one that is unknown refuses nothing.
                ignore_not_found(gateway.heartbeat(identity, heartbeat).await)
            }
            AgentSaying::Answer(answer) => {
                gateway.answered(identity, answer).await;
                Ok(())
            }
        }
    }

    async fn take_accepted(&self, identity: &AgentIdentity, held: HeldJob) -> Result<(), Reason> {
        match receipt(self.shared.parts.gateway.accepted(identity, held).await)? {
            Receipt::Stored => Ok(()),
            Receipt::NotFound => {
                let HeldJob { job, fence, .. } = held;
                self.say(ServerSaying::Cancel(Cancel { job, fence })).await
            }
        }
    }

    async fn take_report(&self, identity: &AgentIdentity, report: JobReport) -> Result<(), Reason> {
        let (job, attempt, sequence) = (report.job, report.attempt, report.sequence);
        let receipt = receipt(self.shared.parts.gateway.report(identity, report).await)?;
        let ack = Ack {
            job,
            attempt,
            sequence,
            receipt,
        };
        self.say(ServerSaying::Ack(ack)).await
    }

    async fn take_logs(&self, identity: &AgentIdentity, batch: LogBatch) -> Result<(), Reason> {
        let HeldJob { job, attempt, .. } = batch.job;
        let last = batch.lines.last().map_or(0, |line| line.seq);
        let (through, receipt) = match self.shared.parts.gateway.logs(identity, batch).await {
            Ok(through) => (through, Receipt::Stored),
            Err(error) => (last, receipt(Err(error))?),
        };
        let ack = LogAck {
            job,
            attempt,
            through,
            receipt,
        };
        self.say(ServerSaying::LogAck(ack)).await
    }

    /// Queues what must not be lost; whoever leaves its queue full for long is let go.
    async fn say(&self, saying: ServerSaying) -> Result<(), Reason> {
        let message = ServerMessage::try_from(&saying)
            .map_err(|_| Reason::Misbehaved("the answer cannot be written"))?;
        let limit = self.shared.config.stall_timeout;
        tokio::select! {
            () = self.ending.ended() => Ok(()),
            sent = tokio::time::timeout(limit, self.outgoing.send(Box::new(message))) => match sent {
                Ok(_) => Ok(()),
                Err(_) => Err(Reason::Misbehaved("the agent does not read")),
            },
        }
    }
}

fn receipt(taken: Result<(), GatewayError>) -> Result<Receipt, Reason> {
    match taken {
        Ok(()) => Ok(Receipt::Stored),
        Err(GatewayError::NotFound) => Ok(Receipt::NotFound),
        Err(GatewayError::Refused) => Err(Reason::Refused),
        Err(GatewayError::Store(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what an agent said was not stored");
            Err(Reason::Unavailable)
        }
    }
}

fn ignore_not_found(taken: Result<(), GatewayError>) -> Result<(), Reason> {
    receipt(taken).map(drop)
}

fn broken(status: &tonic::Status) -> Reason {
    match status.code() {
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => {
            Reason::Misbehaved("the message is larger than 4 MiB")
        }
        tonic::Code::Internal if std::error::Error::source(status).is_none() => {
            Reason::Misbehaved("a message was not understood")
        }
        _ => Reason::Gone,
    }
}
