use std::sync::Arc;
use std::time::Duration;

use arkeep_core::job::JobReport;
use arkeep_core::{AgentId, StoreError, Timestamp};
use arkeep_transport::ca::rotation::Phase;
use arkeep_transport::gateway::{AgentGateway, AgentHandle, GatewayError};
use arkeep_transport::identity::AgentIdentity;
use arkeep_transport::session::{
    Generation, Heartbeat, HeldJob, Hello, JobProgress, LogBatch, QueryAnswer,
};
use arkeep_transport::trust::TrustDigest;
use async_trait::async_trait;

use super::{Authority, RotateError};

/// An agent that has a stream here.
#[derive(Debug)]
pub(super) struct Connected {
    generation: Generation,
    handle: AgentHandle,
    trust: TrustDigest,
    asked_at: Option<Timestamp>,
}

impl Authority {
    fn came(&self, agent: AgentId, connected: Connected) {
        let mut all = self.connected();
        let newer = |there: &Connected| there.generation > connected.generation;
        if !all.get(&agent).is_some_and(newer) {
            all.insert(agent, connected);
        }
        drop(all);
        self.follows();
    }

    fn went(&self, agent: AgentId, generation: Generation) {
        let mut all = self.connected();
        let same = |there: &Connected| there.generation == generation;
        if all.get(&agent).is_some_and(same) {
            all.remove(&agent);
        }
    }

    /// Notes what an agent says that it trusts, if that is news.
    async fn heard(&self, agent: AgentId, trust: TrustDigest) -> Result<(), GatewayError> {
        let is_news = match self.connected().get(&agent) {
            Some(connected) => connected.trust != trust,
            None => false,
        };
        if is_news {
            self.parts.rotations.trusts(agent, trust).await?;
            if let Some(connected) = self.connected().get_mut(&agent) {
                connected.trust = trust;
            }
            self.follows();
        }
        let bundle = self.answer(trust).await.map_err(unavailable)?;
        if trust != bundle.digest()
            && let Some(connected) = self.connected().get(&agent)
            && let Err(error) = connected.handle.trust(&bundle)
        {
            // It hears of them at its next sign of life.
            tracing::debug!(%agent, %error, "an agent was not told of the roots in force");
        }
        Ok(())
    }

    fn follows(&self) {
        if self.rotation().phase != Phase::Settled {
            self.due.notify_one();
        }
    }

    /// Asks agents that are behind with their certificates for new ones: some at a time, and each
    /// now and then until it has followed.
    pub(super) fn ask_for_renewals(&self, behind: &[AgentId]) {
        if self.rotation().phase != Phase::Issuing {
            return;
        }
        let now = self.parts.clock.now();
        let mut connected = self.connected();
        let mut asked = 0;
        for agent in behind {
            let Some(connected) = connected.get_mut(agent) else {
                continue;
            };
            let again = |at: Timestamp| now >= at.plus(ASK_AGAIN);
            if !connected.asked_at.is_none_or(again) {
                continue;
            }
            if let Err(error) = connected.handle.renew() {
                tracing::debug!(%agent, %error, "an agent was not asked to renew");
                continue;
            }
            connected.asked_at = Some(now);
            asked += 1;
            if asked == ASKED_AT_ONCE {
                return;
            }
        }
    }
}

/// Hears what agents trust, and passes everything on.
#[derive(Debug)]
pub(crate) struct Following<G> {
    pub(crate) gateway: G,
    pub(crate) authority: Arc<Authority>,
}

#[async_trait]
impl<G: AgentGateway> AgentGateway for Following<G> {
    async fn connected(
        &self,
        agent: &AgentIdentity,
        hello: Hello,
        handle: AgentHandle,
    ) -> Result<Generation, GatewayError> {
        let trust = hello.trust;
        let rotations = &self.authority.parts.rotations;
        rotations.trusts(agent.agent(), trust).await?;
        // Before the port compares, and tells the agent of what is in force here.
        let answer = self.authority.answer(trust).await;
        answer.map_err(unavailable)?;
        let generation = self.gateway.connected(agent, hello, handle.clone()).await?;
        let connected = Connected {
            generation,
            handle,
            trust,
            asked_at: None,
        };
        self.authority.came(agent.agent(), connected);
        Ok(generation)
    }

    async fn accepted(&self, agent: &AgentIdentity, job: HeldJob) -> Result<(), GatewayError> {
        self.gateway.accepted(agent, job).await
    }

    async fn report(&self, agent: &AgentIdentity, report: JobReport) -> Result<(), GatewayError> {
        self.gateway.report(agent, report).await
    }

    async fn logs(&self, agent: &AgentIdentity, batch: LogBatch) -> Result<u64, GatewayError> {
        self.gateway.logs(agent, batch).await
    }

    async fn progress(&self, agent: &AgentIdentity, progress: JobProgress) {
        self.gateway.progress(agent, progress).await;
    }

    async fn heartbeat(
        &self,
        agent: &AgentIdentity,
        heartbeat: Heartbeat,
    ) -> Result<(), GatewayError> {
        let trust = heartbeat.trust;
        self.gateway.heartbeat(agent, heartbeat).await?;
        self.authority.heard(agent.agent(), trust).await
    }

    async fn answered(&self, agent: &AgentIdentity, answer: QueryAnswer) {
        self.gateway.answered(agent, answer).await;
    }

    async fn disconnected(&self, agent: &AgentIdentity, generation: Generation) {
        self.authority.went(agent.agent(), generation);
        self.gateway.disconnected(agent, generation).await;
    }
}

fn unavailable(error: RotateError) -> GatewayError {
    GatewayError::Store(StoreError::unavailable(error))
}

/// How long an agent may take before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// How many are asked at a time: each makes a handshake and has a certificate signed.
const ASKED_AT_ONCE: usize = 200;
