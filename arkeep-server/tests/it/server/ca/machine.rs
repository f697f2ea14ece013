//! Agents as far as the server sees them: the transport's own client, and a job done at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arkeep_core::engine::EngineInfo;
use arkeep_core::job::{JobError, JobReport, Outcome, ReportBody};
use arkeep_core::{Clock, JobId};
use arkeep_transport::client::{Connector, ConnectorParts, Enrolled, Link, enroll};
use arkeep_transport::session::{
    AgentSaying, EngineStatus, Heartbeat, HeldJob, Hello, ServerSaying,
};
use arkeep_transport::token::JoinToken;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::Fallible;
use super::super::client::Client;

/// A place at which the server is found, also when it comes back on another port; or several that
/// take turns, and the next when one is gone.
pub(crate) struct Place {
    pub(crate) address: String,
    behind: Arc<Mutex<Vec<String>>>,
    relaying: JoinHandle<()>,
}

impl Place {
    pub(crate) async fn new() -> Fallible<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let behind = Arc::<Mutex<Vec<String>>>::default();
        let relaying = tokio::spawn({
            let behind = Arc::clone(&behind);
            async move {
                while let Ok((mut agent, _)) = listener.accept().await {
                    let servers = {
                        let mut servers = locked(&behind);
                        let turn = servers.len().min(1);
                        servers.rotate_left(turn);
                        servers.clone()
                    };
                    tokio::spawn(async move {
                        for server in servers {
                            let Ok(mut server) = TcpStream::connect(server).await else {
                                continue;
                            };
                            let copied = tokio::io::copy_bidirectional(&mut agent, &mut server);
                            return copied.await.ok();
                        }
                        None
                    });
                }
            }
        });
        Ok(Self {
            address,
            behind,
            relaying,
        })
    }

    pub(crate) fn leads_to(&self, server: &str) {
        self.leads_to_any([server]);
    }

    pub(crate) fn leads_to_any<'a>(&self, servers: impl IntoIterator<Item = &'a str>) {
        *locked(&self.behind) = servers.into_iter().map(str::to_owned).collect();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

/// A machine that is away, or connected and at work.
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) connector: Arc<Connector>,
    pub(crate) sessions: Arc<AtomicUsize>,
    /// While it is set, the machine renews nothing.
    pub(crate) stubborn: Arc<AtomicBool>,
    working: Option<JoinHandle<()>>,
}

pub(crate) async fn join_token(admin: &mut Client, name: &str) -> Fallible<(String, JoinToken)> {
    let made = admin
        .create("/api/v1/agents", &json!({"name": name}))
        .await?;
    let id = made.pointer("/agent/id").and_then(|id| id.as_str());
    let token = made.get("join_token").and_then(|token| token.as_str());
    Ok((
        id.ok_or("no id")?.to_owned(),
        token.ok_or("no token")?.parse()?,
    ))
}

impl Machine {
    /// Enrols a new one. It is away until it [works](Self::work).
    pub(crate) async fn enrolled(
        admin: &mut Client,
        name: &str,
        clock: &Arc<dyn Clock>,
    ) -> Fallible<Self> {
        let (id, token) = join_token(admin, name).await?;
        Self::of(id, enroll(&token, clock).await?, clock)
    }

    pub(crate) fn of(id: String, enrolled: Enrolled, clock: &Arc<dyn Clock>) -> Fallible<Self> {
        let connector = Connector::new(ConnectorParts {
            server: enrolled.server,
            credential: enrolled.credential,
            trust: enrolled.trust,
            clock: Arc::clone(clock),
        })?;
        Ok(Self {
            id,
            connector: Arc::new(connector),
            sessions: Arc::default(),
            stubborn: Arc::default(),
            working: None,
        })
    }

    /// Connects, does what it is told, and comes back for ever.
    pub(crate) fn work(&mut self) {
        let mut hands = Hands {
            connector: Arc::clone(&self.connector),
            sessions: Arc::clone(&self.sessions),
            stubborn: Arc::clone(&self.stubborn),
            kept: BTreeMap::new(),
        };
        self.working = Some(tokio::spawn(async move {
            loop {
                if let Ok(link) = hands.connector.connect(&hands.hello()).await {
                    hands.sessions.fetch_add(1, Ordering::SeqCst);
                    // Whatever ended it, the next session goes on.
                    let _ = hands.converse(link).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }

    pub(crate) fn rest(&mut self) {
        if let Some(working) = self.working.take() {
            working.abort();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.rest();
    }
}

struct Hands {
    connector: Arc<Connector>,
    sessions: Arc<AtomicUsize>,
    stubborn: Arc<AtomicBool>,
    /// Jobs that are done, until the server has heard so.
    kept: BTreeMap<JobId, (HeldJob, JobReport)>,
}

impl Hands {
    fn hello(&self) -> Hello {
        Hello {
            agent_version: "0.1.0".to_owned(),
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
            held: self.held(),
            trust: self.connector.trust().digest(),
        }
    }

    fn held(&self) -> Vec<HeldJob> {
        self.kept.values().map(|(held, _)| *held).collect()
    }

    async fn converse(&mut self, mut link: Link) -> Fallible2 {
        for (_, report) in self.kept.values() {
            link.send(&AgentSaying::Report(report.clone())).await?;
        }
        loop {
            match link.next().await? {
                ServerSaying::Trust(bundle) => {
                    self.connector
                        .replace(self.connector.credential(), bundle)?;
                    let heartbeat = Heartbeat {
                        held: self.held(),
                        trust: self.connector.trust().digest(),
                    };
                    link.send(&AgentSaying::Heartbeat(heartbeat)).await?;
                }
                ServerSaying::Renew if self.stubborn.load(Ordering::SeqCst) => {}
                ServerSaying::Renew => {
                    let renewal = self.connector.renew().await?;
                    self.connector.replace(renewal.credential, renewal.trust)?;
                    return Ok(());
                }
                ServerSaying::Assignment(assignment) => {
                    let held = HeldJob::from(&*assignment);
                    let report = done(held, &assignment.work);
                    link.send(&AgentSaying::Accepted(held)).await?;
                    link.send(&AgentSaying::Report(report.clone())).await?;
                    self.kept.insert(held.job, (held, report));
                }
                ServerSaying::Ack(ack) => {
                    self.kept.remove(&ack.job);
                }
                _ => {}
            }
        }
    }
}

type Fallible2 = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// It is always the machine's own word that is read afterwards, so that nothing else ended the job.
pub(crate) const WORD: &str = "said_by_the_machine";

fn done(held: HeldJob, _: &arkeep_core::job::Work) -> JobReport {
    JobReport {
        job: held.job,
        attempt: held.attempt,
        fence: held.fence,
        sequence: 1,
        at: arkeep_core::Timestamp::from_unix_seconds(1_795_435_200),
        body: ReportBody::Finished {
            outcome: Outcome::Failed,
            error: Some(JobError {
                code: WORD.to_owned(),
                detail: "nothing was done".to_owned(),
            }),
            results: Vec::new(),
            hooks: Vec::new(),
        },
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
