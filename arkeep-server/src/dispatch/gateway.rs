use std::sync::Arc;

use arkeep_core::AgentId;
use arkeep_core::job::JobReport;
use arkeep_transport::gateway::{AgentGateway, AgentHandle, GatewayError};
use arkeep_transport::identity::AgentIdentity;
use arkeep_transport::session::{
    EngineStatus, Generation, Heartbeat, HeldJob, Hello, JobProgress, LogBatch, QueryAnswer,
};
use async_trait::async_trait;

use super::{Change, Dispatcher, LEASE, Line};
use crate::store::agents::{AgentFacts, ResticFacts};
use crate::store::logs;

#[async_trait]
impl AgentGateway for Dispatcher {
    async fn connected(
        &self,
        agent: &AgentIdentity,
        hello: Hello,
        handle: AgentHandle,
    ) -> Result<Generation, GatewayError> {
        self.begin(agent, hello, Arc::new(handle)).await
    }

    async fn accepted(&self, agent: &AgentIdentity, job: HeldJob) -> Result<(), GatewayError> {
        let agent = self.welcome(agent)?;
        let parts = &self.0.parts;
        let until = parts.clock.now().plus(LEASE);
        let queue = &parts.stores.queue;
        if queue.extend(agent, job.job, job.fence, until).await? {
            self.0.roster.holds(agent, job);
            Ok(())
        } else {
            Err(GatewayError::NotFound)
        }
    }

    async fn report(&self, agent: &AgentIdentity, report: JobReport) -> Result<(), GatewayError> {
        let agent = self.welcome(agent)?;
        self.0.take_in(agent, report).await
    }

    async fn logs(&self, agent: &AgentIdentity, batch: LogBatch) -> Result<u64, GatewayError> {
        let agent = self.welcome(agent)?;
        let job = batch.job.job;
        let batch = logs::LogBatch {
            agent,
            job,
            attempt: batch.job.attempt,
            lines: batch.lines,
        };
        let kept = self.0.parts.stores.logs.append(&batch).await?;
        self.0.tell(Change::Log(job));
        kept.ok_or(GatewayError::NotFound)
    }

    async fn progress(&self, agent: &AgentIdentity, progress: JobProgress) {
        let JobProgress { job, progress } = progress;
        if self.0.roster.advance(agent.agent(), job, progress) {
            self.0.tell(Change::Job(job.job));
        }
    }

    async fn heartbeat(
        &self,
        agent: &AgentIdentity,
        heartbeat: Heartbeat,
    ) -> Result<(), GatewayError> {
        let agent = self.welcome(agent)?;
        let parts = &self.0.parts;
        parts.stores.agents.heard(agent, parts.clock.now()).await?;
        if let Some(line) = self.0.roster.line(agent) {
            self.0
                .reconcile(agent, &heartbeat.held, line.as_ref(), false)
                .await?;
        }
        self.0.roster.wake(agent);
        Ok(())
    }

    async fn answered(&self, agent: &AgentIdentity, answer: QueryAnswer) {
        let QueryAnswer { id, answer } = answer;
        self.0.roster.answered(id, agent.agent(), answer);
    }

    async fn disconnected(&self, agent: &AgentIdentity, generation: Generation) {
        let agent = agent.agent();
        if self.0.roster.leave(agent, generation) {
            tracing::info!(%agent, %generation, "an agent has gone");
            self.0.tell(Change::Agent(agent));
        }
    }
}

impl Dispatcher {
    /// Begins a session over any line.
    ///
    /// # Errors
    ///
    /// As [`AgentGateway::connected`].
    pub async fn begin(
        &self,
        agent: &AgentIdentity,
        hello: Hello,
        line: Arc<dyn Line>,
    ) -> Result<Generation, GatewayError> {
        let agent = self.welcome(agent)?;
        let Hello { held, .. } = &hello;
        let held = held.clone();
        let parts = &self.0.parts;
        let begun = parts
            .stores
            .agents
            .begin_session(agent, &facts(hello), parts.clock.now())
            .await?;
        let generation = begun.map(Generation).ok_or(GatewayError::Refused)?;
        // From here on the handle is reached: what changes from now on is not missed.
        let wake = self
            .0
            .roster
            .enter(agent, generation, &line)
            .ok_or(GatewayError::Refused)?;
        let reconciled = self.0.reconcile(agent, &held, line.as_ref(), true).await;
        if let Err(error) = reconciled {
            // `disconnected` is not called for a session that did not begin.
            self.0.roster.leave(agent, generation);
            return Err(error.into());
        }
        wake.notify_one();
        tokio::spawn(Arc::clone(&self.0).supply(agent, line, wake));
        tracing::info!(%agent, %generation, "an agent has come");
        self.0.tell(Change::Agent(agent));
        Ok(generation)
    }

    /// The agent, unless it was hung up on.
    fn welcome(&self, agent: &AgentIdentity) -> Result<AgentId, GatewayError> {
        let agent = agent.agent();
        if self.0.roster.is_banned(agent) {
            Err(GatewayError::Refused)
        } else {
            Ok(agent)
        }
    }
}

fn facts(hello: Hello) -> AgentFacts {
    let (restic, restic_problem) = match hello.engine {
        EngineStatus::Found(engine) => {
            let facts = ResticFacts {
                version: engine.version,
                source: engine.source,
            };
            (Some(facts), None)
        }
        EngineStatus::Unusable(problem) => (None, Some(problem)),
    };
    AgentFacts {
        hostname: Some(hello.hostname),
        os: Some(hello.os),
        arch: Some(hello.arch),
        agent_version: Some(hello.agent_version),
        restic,
        restic_problem,
        hook_policy: Some(hello.hook_policy),
        sandbox: Some(hello.sandbox),
        docker: Some(hello.docker),
    }
}
