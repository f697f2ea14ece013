//! The dispatcher on a real SQLite file, with agents whose lines are recorded.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

mod build;
mod reports;
mod schedule;
mod sessions;
mod supply;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arkeep_core::job::{
    Assignment, DestinationResult, JobKind, JobReport, JobSource, Outcome, ReportBody,
};
use arkeep_core::queue::{JobQueue as _, NewJob};
use arkeep_core::testing::ManualClock;
use arkeep_core::{
    AgentId, Clock as _, DestinationId, JobId, PolicyId, SecretString, SystemEntropy,
};
use arkeep_server::dispatch::{Dispatcher, DispatcherParts, DispatcherStores, Line};
use arkeep_server::http::services::Fleet as _;
use arkeep_server::store::jobs::{Job, JobStore};
use arkeep_server::store::policies::{Policy, PolicyEdit, PolicyStore};
use arkeep_server::store::sealed;
use arkeep_transport::gateway::{AgentGateway as _, GatewayError, PushError};
use arkeep_transport::identity::{AgentIdentity, Serial};
use arkeep_transport::session::{
    Cancel, EngineStatus, Generation, Heartbeat, HeldJob, Hello, Query, ServerSaying,
};
use arkeep_transport::trust::TrustDigest;
use arkeep_vault::{Keyring, Sealer, Vault};
use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};

use crate::store::{NOON, SameBytes, Sandbox, new_policy};

/// A server's dispatcher, and the state below it.
struct Server {
    sandbox: Sandbox,
    dispatcher: Dispatcher,
    clock: Arc<ManualClock>,
    sealer: Arc<Vault>,
}

impl Server {
    async fn new() -> Self {
        let sandbox = Sandbox::new().await;
        let clock = Arc::new(ManualClock::at(NOON));
        let ring = Keyring::generate(0).expect("a key ring");
        let sealer = Arc::new(Vault::new(ring));
        let dispatcher = dispatcher(&sandbox, &clock, &sealer);
        Self {
            sandbox,
            dispatcher,
            clock,
            sealer,
        }
    }

    /// The same state under a dispatcher that knows nothing: as after a crash.
    fn restart(&mut self) {
        self.dispatcher = dispatcher(&self.sandbox, &self.clock, &self.sealer);
    }

    /// A policy with a password that opens, of a new agent.
    async fn policy(&self, destinations: usize) -> Policy {
        let agent = self.sandbox.agent().await.id;
        let mut ids = Vec::new();
        for _ in 0..destinations {
            ids.push(self.sandbox.destination().await.id);
        }
        self.policy_of(agent, &ids).await
    }

    async fn policy_of(&self, agent: AgentId, destinations: &[DestinationId]) -> Policy {
        let mut new = new_policy(agent, destinations);
        let place = sealed::policy_repository_password(new.id);
        let sealed = self
            .sealer
            .seal_str(&SecretString::from(PASSWORD), &place)
            .expect("a password is sealed");
        new.repository_password = sealed.into_bytes();
        PolicyStore::create(&self.sandbox.store, &new, &SameBytes)
            .await
            .expect("a new policy")
    }

    async fn edit_policy(&self, policy: &mut Policy, change: impl FnOnce(&mut PolicyEdit)) {
        let mut edit = PolicyEdit {
            id: policy.id,
            version: policy.version,
            name: policy.name.clone(),
            enabled: policy.enabled,
            destinations: policy.destinations.clone(),
            repository_password: None,
            settings: policy.settings.clone(),
            at: self.clock.now(),
        };
        change(&mut edit);
        *policy = PolicyStore::update(&self.sandbox.store, &edit, &SameBytes)
            .await
            .expect("an edit that fits");
    }

    async fn enqueue(&self, policy: &Policy) -> JobId {
        self.enqueue_as(JobKind::Backup, policy.agent, Some(policy.id), "{}")
            .await
    }

    async fn enqueue_as(
        &self,
        kind: JobKind,
        agent: AgentId,
        policy: Option<PolicyId>,
        parameters: &str,
    ) -> JobId {
        let now = self.clock.now();
        let job = NewJob {
            id: JobId::mint(now, &SystemEntropy),
            kind,
            agent,
            policy,
            scheduled_for: now,
            deadline: None,
            source: JobSource::Manual,
            parameters: parameters.to_owned(),
            created_at: now,
        };
        let enqueued = self.sandbox.store.enqueue(&job).await.expect("it is kept");
        self.dispatcher.wake(agent);
        enqueued.job().expect("its policy is there")
    }

    async fn job(&self, id: JobId) -> Job {
        JobStore::find(&self.sandbox.store, id)
            .await
            .expect("the store answers")
            .expect("a job that was enqueued")
    }

    async fn connect(&self, agent: AgentId, held: &[HeldJob]) -> Connected {
        let (line, heard) = recorder();
        let generation = self
            .dispatcher
            .begin(&identity(agent), hello(held), Arc::clone(&line) as _)
            .await
            .expect("a welcome agent");
        Connected {
            agent,
            generation,
            line,
            heard,
        }
    }

    /// Enqueues a backup, connects, and receives it.
    async fn received(&self, policy: &Policy) -> (Connected, Assignment) {
        self.enqueue(policy).await;
        let mut agent = self.connect(policy.agent, &[]).await;
        let assignment = agent.assignment().await;
        self.accept(&agent, &assignment).await;
        (agent, assignment)
    }

    async fn accept(&self, agent: &Connected, assignment: &Assignment) {
        self.dispatcher
            .accepted(&identity(agent.agent), HeldJob::from(assignment))
            .await
            .expect("a job that is still the agent's");
    }

    async fn report(
        &self,
        agent: AgentId,
        assignment: &Assignment,
        sequence: u64,
        body: ReportBody,
    ) -> Result<(), GatewayError> {
        let report = JobReport {
            job: assignment.job,
            attempt: assignment.attempt,
            fence: assignment.fence,
            sequence,
            at: self.clock.now(),
            body,
        };
        self.dispatcher.report(&identity(agent), report).await
    }

    async fn heartbeat(&self, agent: AgentId, held: &[HeldJob]) {
        let heartbeat = Heartbeat {
            held: held.to_vec(),
            trust: TrustDigest::from_bytes([0; 32]),
        };
        self.dispatcher
            .heartbeat(&identity(agent), heartbeat)
            .await
            .expect("a sign of life");
    }
}

fn dispatcher(sandbox: &Sandbox, clock: &Arc<ManualClock>, sealer: &Arc<Vault>) -> Dispatcher {
    Dispatcher::new(DispatcherParts {
        stores: DispatcherStores::on(Arc::new(sandbox.store.clone())),
        sealer: Arc::clone(sealer) as _,
        clock: Arc::clone(clock) as _,
        entropy: Arc::new(SystemEntropy),
    })
}

/// An agent's end.
struct Connected {
    agent: AgentId,
    generation: Generation,
    line: Arc<Recorder>,
    heard: mpsc::UnboundedReceiver<ServerSaying>,
}

impl Connected {
    async fn hear(&mut self) -> ServerSaying {
        tokio::time::timeout(PATIENCE, self.heard.recv())
            .await
            .expect("the server has something to say")
            .expect("the line lives as long as the test")
    }

    async fn assignment(&mut self) -> Assignment {
        match self.hear().await {
            ServerSaying::Assignment(assignment) => *assignment,
            other => panic!("expected an assignment, heard {other:?}"),
        }
    }

    async fn cancellation(&mut self) -> Cancel {
        match self.hear().await {
            ServerSaying::Cancel(cancel) => cancel,
            other => panic!("expected a cancellation, heard {other:?}"),
        }
    }

    fn heard_nothing_more(&mut self) -> bool {
        self.heard.try_recv().is_err()
    }
}

/// A line that writes down what is said over it.
#[derive(Debug)]
struct Recorder {
    said: mpsc::UnboundedSender<ServerSaying>,
    closed: AtomicBool,
    closing: Notify,
}

fn recorder() -> (Arc<Recorder>, mpsc::UnboundedReceiver<ServerSaying>) {
    let (said, heard) = mpsc::unbounded_channel();
    let line = Recorder {
        said,
        closed: AtomicBool::new(false),
        closing: Notify::new(),
    };
    (Arc::new(line), heard)
}

impl Recorder {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn say(&self, saying: ServerSaying) -> Result<(), PushError> {
        if self.is_closed() {
            return Err(PushError::Closed);
        }
        self.said.send(saying).map_err(|_| PushError::Closed)
    }
}

#[async_trait]
impl Line for Recorder {
    fn assign(&self, assignment: &Assignment) -> Result<(), PushError> {
        self.say(ServerSaying::Assignment(Box::new(assignment.clone())))
    }

    fn cancel(&self, cancel: Cancel) -> Result<(), PushError> {
        self.say(ServerSaying::Cancel(cancel))
    }

    fn ask(&self, query: &Query) -> Result<(), PushError> {
        self.say(ServerSaying::Query(query.clone()))
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
    }

    async fn closed(&self) {
        let closing = self.closing.notified();
        if !self.is_closed() {
            closing.await;
        }
    }
}

fn identity(agent: AgentId) -> AgentIdentity {
    AgentIdentity::for_testing(agent, Serial::from_bytes([1; 16]), NOON)
}

fn hello(held: &[HeldJob]) -> Hello {
    Hello {
        agent_version: "0.1.0".to_owned(),
        hostname: "db1".to_owned(),
        os: "Debian 12".to_owned(),
        arch: "x86_64".to_owned(),
        engine: EngineStatus::Unusable("there is no restic".to_owned()),
        hook_policy: "off".to_owned(),
        sandbox: "none".to_owned(),
        docker: false,
        held: held.to_vec(),
        trust: TrustDigest::from_bytes([0; 32]),
    }
}

fn finished(outcome: Outcome, results: Vec<DestinationResult>) -> ReportBody {
    ReportBody::Finished {
        outcome,
        error: None,
        results,
        hooks: Vec::new(),
    }
}

fn good(destination: DestinationId, snapshot: &str) -> DestinationResult {
    DestinationResult {
        destination_id: destination,
        state: Outcome::Succeeded,
        snapshot_id: Some(snapshot.parse().expect("hexadecimal digits")),
        bytes_processed: 100,
        bytes_added: 40,
        files_new: 3,
        files_changed: 2,
        files_unmodified: 1,
        started_at: NOON,
        ended_at: NOON,
        error: None,
    }
}

/// Waits until the condition holds, whoever makes it hold.
async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it comes true");
}

const PATIENCE: Duration = Duration::from_secs(10);
const PASSWORD: &str = "correct horse";
