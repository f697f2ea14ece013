//! Agents without a machine: the real client, and the words of an agent that has backed up.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arkeep_core::engine::EngineInfo;
use arkeep_core::job::{
    Assignment, DestinationResult, JobReport, Outcome as Ending, ReportBody, Work,
};
use arkeep_core::{Clock, SystemClock, SystemEntropy};
use arkeep_examples::Api;
use arkeep_transport::client::{Backoff, Connector, ConnectorParts, EnrollError, enroll};
use arkeep_transport::client::{Link, LinkError};
use arkeep_transport::session::{
    AgentSaying, EngineStatus, Heartbeat, HeldJob, Hello, ServerSaying,
};
use arkeep_transport::token::JoinToken;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Outcome, PATIENCE, policy};

/// So many ask the API at once.
const AT_ONCE: usize = 16;
/// How often an agent says that it lives.
const BEAT: Duration = Duration::from_secs(30);

/// Agents that have a certificate and are not connected.
pub(super) struct Fleet {
    connectors: Vec<Connector>,
}

/// Agents that are.
pub(super) struct Connected {
    agents: JoinSet<Result<(), LinkError>>,
    heard: mpsc::UnboundedReceiver<Heard>,
}

/// What an agent has seen of one job.
struct Heard {
    job: String,
    assigned: Instant,
    /// From the first report to its acknowledgement.
    stored: Duration,
}

impl Fleet {
    /// Makes agents, each with a policy, and enrols them. The policies' ids come with them.
    pub(super) async fn enroll(
        api: &Api,
        scratch: &Path,
        count: usize,
    ) -> Outcome<(Self, Vec<String>)> {
        let destination = json!({
            "name": "nowhere", "kind": "local", "location": {"path": scratch.join("nowhere")},
        });
        let destination = api.create("/api/v1/destinations", &destination).await?;
        let destination = Arc::<str>::from(text(&destination, "/id"));
        let mut waiting = 0..count;
        let (mut tasks, mut connectors, mut policies) = (JoinSet::new(), Vec::new(), Vec::new());
        loop {
            while tasks.len() < AT_ONCE
                && let Some(number) = waiting.next()
            {
                tasks.spawn(one(api.clone(), Arc::clone(&destination), number));
            }
            let Some(made) = tasks.join_next().await else {
                break;
            };
            let (connector, policy) = made??;
            connectors.push(connector);
            policies.push(policy);
        }
        Ok((Self { connectors }, policies))
    }

    /// Connects all at the same moment; who is turned away tries again as an agent does.
    pub(super) async fn connect(self) -> Outcome<Connected> {
        let (saw, heard) = mpsc::unbounded_channel();
        let mut connecting = JoinSet::new();
        for connector in self.connectors {
            connecting.spawn(async move {
                let mut backoff = Backoff::default();
                let hello = hello(&connector);
                loop {
                    match connector.connect(&hello).await {
                        Ok(link) => return (connector, link),
                        Err(_) => tokio::time::sleep(backoff.next(&SystemEntropy)).await,
                    }
                }
            });
        }
        let mut agents = JoinSet::new();
        while let Some(connected) = tokio::time::timeout(PATIENCE, connecting.join_next()).await? {
            let (connector, link) = connected?;
            agents.spawn(live(connector, link, saw.clone()));
        }
        Ok(Connected { agents, heard })
    }
}

async fn one(api: Api, destination: Arc<str>, number: usize) -> Outcome<(Connector, String)> {
    let made = json!({"name": format!("agent {number}")});
    let created = api.create("/api/v1/agents", &made).await?;
    let agent = text(&created, "/agent/id");
    let policy = api
        .create("/api/v1/policies", &policy(&agent, &destination))
        .await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let token: JoinToken = text(&created, "/join_token").parse()?;
    let mut backoff = Backoff::default();
    let enrolled = loop {
        match enroll(&token, &clock).await {
            Ok(enrolled) => break enrolled,
            Err(error @ (EnrollError::TokenUsed | EnrollError::TokenRefused)) => {
                return Err(error.into());
            }
            // Too many at once from one address.
            Err(_) => tokio::time::sleep(backoff.next(&SystemEntropy)).await,
        }
    };
    let connector = Connector::new(ConnectorParts {
        server: enrolled.server,
        credential: enrolled.credential,
        trust: enrolled.trust,
        clock,
    })?;
    Ok((connector, text(&policy, "/id")))
}

impl Connected {
    /// Runs every policy once, one request after the other: how long each took from the request to
    /// the agent, and from the agent's report to its acknowledgement.
    pub(super) async fn run(
        mut self,
        api: &Api,
        policies: &[String],
    ) -> Outcome<(Vec<Duration>, Vec<Duration>)> {
        let mut asked = HashMap::new();
        for policy in policies {
            let moment = Instant::now();
            let run = format!("/api/v1/policies/{policy}/run");
            asked.insert(api.start_job(&run, &json!({})).await?, moment);
        }
        let (mut given, mut stored) = (Vec::new(), Vec::new());
        while given.len() < policies.len() {
            let heard = tokio::select! {
                heard = tokio::time::timeout(PATIENCE, self.heard.recv()) => heard?,
                Some(ended) = self.agents.join_next() => return Err(format!("an agent left: {ended:?}").into()),
            };
            let heard = heard.ok_or("every agent has left")?;
            let asked = asked.get(&heard.job).ok_or("a job that nobody asked for")?;
            given.push(heard.assigned.saturating_duration_since(*asked));
            stored.push(heard.stored);
        }
        for job in asked.keys() {
            let job = api.job_ended(job, PATIENCE).await?;
            if text(&job, "/state") != "succeeded" {
                return Err(format!("a job ended badly: {job}").into());
            }
        }
        Ok((given, stored))
    }
}

/// Listens, beats, and does every job in no time.
async fn live(
    connector: Connector,
    mut link: Link,
    saw: mpsc::UnboundedSender<Heard>,
) -> Result<(), LinkError> {
    let beat = AgentSaying::Heartbeat(Heartbeat {
        held: Vec::new(),
        trust: connector.trust().digest(),
    });
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = HashMap::new();
    loop {
        let said = tokio::select! {
            said = link.next() => said?,
            _ = beats.tick() => {
                link.send(&beat).await?;
                continue;
            }
        };
        match said {
            ServerSaying::Assignment(assignment) => {
                let assigned = Instant::now();
                link.send(&AgentSaying::Accepted(HeldJob::from(&*assignment)))
                    .await?;
                reported.insert(assignment.job, (assigned, Instant::now()));
                for report in [
                    report(&assignment, 1, ReportBody::Started),
                    report(&assignment, 2, finished(&assignment)),
                ] {
                    link.send(&AgentSaying::Report(report)).await?;
                }
            }
            ServerSaying::Ack(ack) => {
                if let Some((assigned, sent)) = reported.remove(&ack.job) {
                    saw.send(Heard {
                        job: ack.job.to_string(),
                        assigned,
                        stored: sent.elapsed(),
                    })
                    .ok();
                }
            }
            _ => {}
        }
    }
}

fn report(assignment: &Assignment, sequence: u64, body: ReportBody) -> JobReport {
    JobReport {
        job: assignment.job,
        attempt: assignment.attempt,
        fence: assignment.fence,
        sequence,
        at: SystemClock.now(),
        body,
    }
}

fn finished(assignment: &Assignment) -> ReportBody {
    let Work::Backup(work) = &assignment.work else {
        return ReportBody::Started;
    };
    let now = SystemClock.now();
    let result = |destination| DestinationResult {
        destination_id: destination,
        state: Ending::Succeeded,
        // Like a snapshot's, and different for each job.
        snapshot_id: assignment.job.to_string().replace('-', "").parse().ok(),
        bytes_processed: 1 << 30,
        bytes_added: 1 << 20,
        files_new: 10,
        files_changed: 10,
        files_unmodified: 10_000,
        started_at: now,
        ended_at: now,
        error: None,
    };
    ReportBody::Finished {
        outcome: Ending::Succeeded,
        error: None,
        results: work
            .destinations
            .iter()
            .map(|work| result(work.destination))
            .collect(),
        hooks: Vec::new(),
    }
}

fn hello(connector: &Connector) -> Hello {
    Hello {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: "bench".to_owned(),
        os: "linux".to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        engine: EngineStatus::Found(EngineInfo {
            version: "0.18.0".to_owned(),
            source: "path".to_owned(),
        }),
        hook_policy: "off".to_owned(),
        sandbox: "none".to_owned(),
        docker: false,
        held: Vec::new(),
        trust: connector.trust().digest(),
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
