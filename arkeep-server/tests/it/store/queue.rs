//! S1: the suite of the job queue.

use arkeep_core::queue::JobQueue;
use arkeep_core::testing::job_queue::JobQueueFixture;
use arkeep_core::{AgentId, PolicyId};
use async_trait::async_trait;

use super::Sandbox;

#[async_trait]
impl JobQueueFixture for Sandbox {
    fn queue(&self) -> &dyn JobQueue {
        &self.store
    }

    async fn agent(&self) -> AgentId {
        Sandbox::agent(self).await.id
    }

    async fn policy(&self, agent: AgentId) -> PolicyId {
        Sandbox::policy(self, agent, &[]).await.id
    }
}

arkeep_core::job_queue_conformance!(Sandbox::new());
