//! A product that has neither our server nor our agent: a machine enrols, connects, gets a job,
//! reports on it, and is sent away.
//!
//! `cargo run -p arkeep-transport --all-features --example enroll_and_call`

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arkeep_core::engine::EngineInfo;
use arkeep_core::job::{Assignment, DestinationWork, Fence, JobReport, Outcome, ReportBody, Work};
use arkeep_core::repository::{LocalLocation, Location, RelativePath, Repository};
use arkeep_core::{AgentId, Clock, DestinationId, ExposeSecret, JobId, SystemClock, SystemEntropy};
use arkeep_transport::ca::LocalCa;
use arkeep_transport::client::{Connector, ConnectorParts, enroll};
use arkeep_transport::enrollment::{EnrollmentStore, MemoryEnrollments};
use arkeep_transport::gateway::{AgentGateway, AgentHandle, GatewayError};
use arkeep_transport::identity::AgentIdentity;
use arkeep_transport::server::{AgentPort, PortConfig, PortParts};
use arkeep_transport::session::{
    AgentSaying, EngineStatus, Generation, Heartbeat, HeldJob, Hello, JobProgress, LogBatch,
    QueryAnswer, ServerSaying,
};
use arkeep_transport::token::{DEFAULT_VALIDITY, JoinToken, TokenTerms};
use async_trait::async_trait;
use tokio::net::TcpListener;

/// Gives everyone who connects one job, and prints what it hears.
#[derive(Debug, Default)]
struct Foreman(AtomicU64);

#[async_trait]
impl AgentGateway for Foreman {
    async fn connected(
        &self,
        agent: &AgentIdentity,
        hello: Hello,
        handle: AgentHandle,
    ) -> Result<Generation, GatewayError> {
        println!("server: {} ({}) is here", agent.agent(), hello.hostname);
        if let Err(error) = handle.assign(&job()) {
            println!("server: no job for it: {error}");
        }
        Ok(Generation(self.0.fetch_add(1, Ordering::SeqCst) + 1))
    }

    async fn accepted(&self, _: &AgentIdentity, held: HeldJob) -> Result<(), GatewayError> {
        println!("server: {} was accepted", held.job);
        Ok(())
    }

    async fn report(&self, _: &AgentIdentity, report: JobReport) -> Result<(), GatewayError> {
        println!("server: {} says {:?}", report.job, report.body);
        Ok(())
    }

    async fn logs(&self, _: &AgentIdentity, batch: LogBatch) -> Result<u64, GatewayError> {
        Ok(batch.lines.last().map_or(0, |line| line.seq))
    }

    async fn progress(&self, _: &AgentIdentity, _: JobProgress) {}

    async fn heartbeat(&self, _: &AgentIdentity, _: Heartbeat) -> Result<(), GatewayError> {
        Ok(())
    }

    async fn answered(&self, _: &AgentIdentity, _: QueryAnswer) {}

    async fn disconnected(&self, agent: &AgentIdentity, _: Generation) {
        println!("server: {} is gone", agent.agent());
    }
}

fn job() -> Assignment {
    let now = SystemClock.now();
    let location = Location::Local(LocalLocation {
        path: "/srv/backup".to_owned(),
        must_be_mounted: false,
    });
    Assignment {
        job: JobId::mint(now, &SystemEntropy),
        attempt: 1,
        fence: Fence(1),
        policy: None,
        deadline: None,
        work: Work::Test(Box::new(DestinationWork {
            destination: DestinationId::mint(now, &SystemEntropy),
            repository: Repository {
                location,
                path: RelativePath::default(),
                credentials: None,
                password: "correct horse battery staple".to_owned().into(),
            },
        })),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?.to_string().parse()?;

    let (ca, _root_key) = LocalCa::generate(clock.now())?;
    let fingerprint = ca.fingerprint();
    let store = Arc::new(MemoryEnrollments::default());
    let parts = PortParts {
        ca: Arc::new(ca),
        store: Arc::clone(&store) as _,
        gateway: Arc::new(Foreman::default()),
        clock: Arc::clone(&clock),
    };
    let port = AgentPort::open(parts, PortConfig::default()).await?;
    let control = port.control();
    tokio::spawn(port.serve(listener, std::future::pending()));

    let agent = AgentId::mint(clock.now(), &SystemEntropy);
    let terms = TokenTerms {
        server,
        fingerprint,
        validity: DEFAULT_VALIDITY,
    };
    let token = JoinToken::mint(terms, clock.now(), &SystemEntropy)?;
    store.offer(&token.offered_to(agent)).await?;
    let line = token.encode();

    let enrolled = enroll(&line.expose_secret().parse()?, &clock).await?;
    println!(
        "agent:  I am {}, until {}",
        enrolled.agent,
        enrolled.credential.not_after()
    );
    let connector = Connector::new(ConnectorParts {
        server: enrolled.server,
        credential: enrolled.credential,
        trust: enrolled.trust,
        clock: Arc::clone(&clock),
    })?;
    let hello = Hello {
        agent_version: "1.0".to_owned(),
        hostname: "web-1".to_owned(),
        os: "Debian 12".to_owned(),
        arch: "x86_64".to_owned(),
        engine: EngineStatus::Found(EngineInfo {
            version: "0.18.0".to_owned(),
            source: "path".to_owned(),
        }),
        hook_policy: "off".to_owned(),
        sandbox: "none".to_owned(),
        docker: false,
        held: Vec::new(),
        trust: connector.trust().digest(),
    };
    let mut link = connector.connect(&hello).await?;

    while let Ok(said) = link.next().await {
        match said {
            ServerSaying::Assignment(assignment) => {
                println!("agent:  I was given {:?}", assignment.work.kind());
                link.send(&AgentSaying::Accepted(assignment.as_ref().into()))
                    .await?;
                let report = JobReport {
                    job: assignment.job,
                    attempt: assignment.attempt,
                    fence: assignment.fence,
                    sequence: 1,
                    at: clock.now(),
                    body: ReportBody::Finished {
                        outcome: Outcome::Succeeded,
                        error: None,
                        results: Vec::new(),
                        hooks: Vec::new(),
                    },
                };
                link.send(&AgentSaying::Report(report)).await?;
            }
            ServerSaying::Ack(ack) => {
                println!("agent:  report {} is {:?}", ack.sequence, ack.receipt);
                store.withdraw(agent, clock.now()).await?;
                control.revoked(agent);
            }
            _ => {}
        }
    }
    match connector.connect(&hello).await {
        Ok(_) => Err("a revoked agent came back".into()),
        Err(refused) => {
            println!("agent:  {refused}");
            Ok(())
        }
    }
}
