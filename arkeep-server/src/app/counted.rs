//! Parts that are counted.

use std::sync::Arc;

use arkeep_core::SecretSlice;
use arkeep_core::job::JobReport;
use arkeep_transport::gateway::{AgentGateway, AgentHandle, GatewayError};
use arkeep_transport::identity::AgentIdentity;
use arkeep_transport::session::{
    Generation, Heartbeat, HeldJob, Hello, JobProgress, LogBatch, QueryAnswer,
};
use arkeep_vault::{Binding, OpenError, SealError, Sealed, Sealer};

use async_trait::async_trait;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::http::metrics::Metrics;

/// Counts what the vault behind it does.
#[derive(Debug)]
pub(crate) struct CountedSealer {
    pub(crate) sealer: Arc<dyn Sealer>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Sealer for CountedSealer {
    fn seal(&self, secret: &SecretSlice<u8>, binding: &Binding) -> Result<Sealed, SealError> {
        let sealed = aside(|| self.sealer.seal(secret, binding));
        self.metrics.vault_operation("seal", result(&sealed));
        sealed
    }

    fn open(&self, sealed: &Sealed, binding: &Binding) -> Result<SecretSlice<u8>, OpenError> {
        let opened = self.sealer.open(sealed, binding);
        self.metrics.vault_operation("open", result(&opened));
        opened
    }
}

/// Seals where waiting holds up nobody else: now and then it takes a write to the disk, under a lock
/// that another process may hold for seconds.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Counts what agents say to the gateway behind it.
#[derive(Debug)]
pub(crate) struct CountedGateway<G> {
    pub(crate) gateway: G,
    pub(crate) metrics: Arc<Metrics>,
}

#[async_trait]
impl<G: AgentGateway> AgentGateway for CountedGateway<G> {
    async fn connected(
        &self,
        agent: &AgentIdentity,
        hello: Hello,
        handle: AgentHandle,
    ) -> Result<Generation, GatewayError> {
        self.metrics.grpc_message("hello");
        self.gateway.connected(agent, hello, handle).await
    }

    async fn accepted(&self, agent: &AgentIdentity, job: HeldJob) -> Result<(), GatewayError> {
        self.metrics.grpc_message("accepted");
        self.gateway.accepted(agent, job).await
    }

    async fn report(&self, agent: &AgentIdentity, report: JobReport) -> Result<(), GatewayError> {
        self.metrics.grpc_message("report");
        self.gateway.report(agent, report).await
    }

    async fn logs(&self, agent: &AgentIdentity, batch: LogBatch) -> Result<u64, GatewayError> {
        self.metrics.grpc_message("logs");
        self.gateway.logs(agent, batch).await
    }

    async fn progress(&self, agent: &AgentIdentity, progress: JobProgress) {
        self.metrics.grpc_message("progress");
        self.gateway.progress(agent, progress).await;
    }

    async fn heartbeat(
        &self,
        agent: &AgentIdentity,
        heartbeat: Heartbeat,
    ) -> Result<(), GatewayError> {
        self.metrics.grpc_message("heartbeat");
        self.gateway.heartbeat(agent, heartbeat).await
    }

    async fn answered(&self, agent: &AgentIdentity, answer: QueryAnswer) {
        self.metrics.grpc_message("answer");
        self.gateway.answered(agent, answer).await;
    }

    async fn disconnected(&self, agent: &AgentIdentity, generation: Generation) {
        self.gateway.disconnected(agent, generation).await;
    }
}

fn result<T, E>(outcome: &Result<T, E>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(_) => "failed",
    }
}
