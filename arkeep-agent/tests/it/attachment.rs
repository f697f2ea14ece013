//! Staying connected over mutual TLS, with a clock that is moved.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arkeep_agent::attachment::{Attachment, Facts, KeptTrust, Renewals};
use arkeep_agent::conversation::Conversation;
use arkeep_agent::identity::IdentityDir;
use arkeep_agent::outbox::{Held, SoFar, Stage};
use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock, Entropy, Timestamp};
use arkeep_transport::client::{Connector, ConnectorParts, enroll};
use arkeep_transport::enrollment::{EnrollmentStore, Standing};
use arkeep_transport::server::PortConfig;
use tokio::task::JoinHandle;

use crate::bench::{Bench, ScriptedEngine, TestResult, backup, eventually, parts, restore};
use crate::program::server::Server;
use crate::wire::Wire;

/// Draws the shortest pause each time.
#[derive(Debug)]
struct Impatient;

impl Entropy for Impatient {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0);
    }
}

pub(crate) struct Attached {
    pub(crate) bench: Bench,
    pub(crate) server: Server,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) connector: Arc<Connector>,
    identity: IdentityDir,
    attachment: Attachment,
    staying: JoinHandle<()>,
}

impl Attached {
    pub(crate) async fn new(engine: ScriptedEngine) -> Result<Self, Box<dyn Error>> {
        Self::over(engine, None, PortConfig::default()).await
    }

    /// Attached over a wire; `pings` says how often each end asks, and how long it waits.
    pub(crate) async fn behind(
        engine: ScriptedEngine,
        wire: &Wire,
        pings: Option<(Duration, Duration)>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut config = PortConfig::default();
        if let Some((every, timeout)) = pings {
            (config.ping_every, config.ping_timeout) = (every, timeout);
        }
        Self::over(engine, Some(wire), config).await
    }

    pub(crate) async fn over(
        engine: ScriptedEngine,
        wire: Option<&Wire>,
        config: PortConfig,
    ) -> Result<Self, Box<dyn Error>> {
        let pings = (config.ping_every, config.ping_timeout);
        let bench = Bench::new(engine)?;
        let clock = Arc::new(ManualClock::at(Timestamp::from_unix_seconds(1_795_435_200)));
        let told: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let mut server = Server::start_with(Arc::clone(&told), config).await?;
        if let Some(wire) = wire {
            wire.leads_to(&server.address);
            server.known_as.clone_from(&wire.address);
        }
        let enrolled = enroll(&server.token().await?.parse()?, &told).await?;
        let identity = IdentityDir::new(bench.home.path().join("identity"));
        identity.save(&enrolled)?;
        let connector = Connector::new(ConnectorParts {
            server: enrolled.server,
            credential: enrolled.credential,
            trust: enrolled.trust,
            clock: Arc::clone(&told),
        })?;
        let connector = Arc::new(connector.with_pings(pings.0, pings.1));
        let renewals = Arc::<Renewals>::default();
        let attachment = Attachment {
            connector: Arc::clone(&connector),
            identity: identity.clone(),
            renewals: Arc::clone(&renewals),
            conversation: Conversation {
                outbox: Arc::clone(&bench.outbox),
                executor: bench.executor.clone(),
                engine: Arc::<ScriptedEngine>::clone(&bench.engine),
                trust: Arc::new(KeptTrust {
                    connector: Arc::clone(&connector),
                    identity: identity.clone(),
                    renewals,
                }),
            },
            facts: Facts {
                hostname: "here".to_owned(),
                os: "Linux".to_owned(),
                hook_policy: "off".to_owned(),
                sandbox: "complete".to_owned(),
            },
            clock: told,
            entropy: Arc::new(Impatient),
            look_every: Duration::from_millis(5),
        };
        let staying = Self::stay(&attachment);
        Ok(Self {
            bench,
            server,
            clock,
            connector,
            identity,
            attachment,
            staying,
        })
    }

    fn stay(attachment: &Attachment) -> JoinHandle<()> {
        let attachment = attachment.clone();
        tokio::spawn(async move { attachment.stay().await })
    }

    pub(crate) fn sessions(&self) -> usize {
        self.server.heard.hellos.lock().unwrap().len()
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// T6: the stream that is open goes on, and so does the job.
#[tokio::test]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life() -> TestResult {
    let attached = Attached::new(ScriptedEngine::gated()).await?;
    let first = attached.connector.credential().serial();
    let assignment = backup(&["a"]);
    attached.server.heard.assign(&assignment).await;
    attached.bench.engine.has_called("backup a").await;

    attached.clock.advance(DAY * 4);
    attached.server.heard.assign(&backup(&["b"])).await;
    attached.bench.engine.has_called("backup b").await;
    assert_eq!(attached.connector.credential().serial(), first);
    attached.clock.advance(DAY * 3 / 2);
    eventually(|| attached.connector.credential().serial() != first).await;

    let kept = attached.identity.load()?.credential.serial();
    assert_eq!(kept, attached.connector.credential().serial());
    attached.bench.engine.gate.add_permits(5);
    let report = attached.server.heard.end_of(assignment.job).await;
    assert_eq!(parts(&report).code, None);
    assert_eq!(attached.sessions(), 1);
    Ok(())
}

/// T6: a machine that slept for too long waits for an administrator, and works on.
#[tokio::test]
async fn an_expired_certificate_waits_for_approval() -> TestResult {
    let attached = Attached::new(ScriptedEngine::gated()).await?;
    attached.server.heard.connected().await;
    let agent = attached.connector.agent();
    let assignment = backup(&["a"]);
    attached.server.heard.assign(&assignment).await;
    attached.bench.engine.has_called("backup a").await;

    // Asleep: nothing is renewed.
    attached.staying.abort();
    attached.clock.advance(DAY * 30);
    let staying = Attached::stay(&attached.attachment);
    attached.bench.engine.gate.add_permits(1);
    attached.bench.end_of(assignment.job).await;
    assert_eq!(attached.sessions(), 1);
    assert!(!staying.is_finished(), "it waits");

    // It has asked, which is what there is to approve.
    let now = attached.clock.now();
    let approved = async {
        while !attached.server.store.approve(agent, now).await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        TestResult::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), approved).await??;

    eventually(|| attached.sessions() == 2).await;
    let report = attached.server.heard.end_of(assignment.job).await;
    assert_eq!(parts(&report).code, None);
    Ok(())
}

/// G9, S5: what is left out of the greeting and is wanted, the server assigns again.
#[tokio::test]
async fn a_job_that_is_kept_back_is_not_said_to_be_held() -> TestResult {
    let attached = Attached::new(ScriptedEngine::default()).await?;
    attached.server.heard.connected().await;
    let assignment = restore("a", "/var/restore");
    attached.bench.outbox.admit(&assignment)?;
    attached.bench.executor.resume(vec![Held {
        job: assignment.job,
        stage: Stage::Accepted,
        assignment: Some(assignment),
        so_far: SoFar::default(),
    }]);

    attached.server.go_away().await;
    attached.server.come_back().await?;

    eventually(|| attached.sessions() == 2).await;
    let held = attached.server.heard.hellos.lock().unwrap()[1].held.clone();
    assert_eq!(held, []);
    Ok(())
}

/// T8: an agent comes back by itself, and says what was not heard.
#[tokio::test]
async fn a_server_that_was_away_is_found_again() -> TestResult {
    let attached = Attached::new(ScriptedEngine::gated()).await?;
    let assignment = backup(&["a"]);
    attached.server.heard.assign(&assignment).await;
    attached.bench.engine.has_called("backup a").await;

    attached.server.go_away().await;
    attached.bench.engine.gate.add_permits(1);
    attached.bench.end_of(assignment.job).await;
    attached.server.come_back().await?;

    let report = attached.server.heard.end_of(assignment.job).await;
    assert_eq!(parts(&report).code, None);
    eventually(|| attached.bench.outbox.lease(assignment.job).is_none()).await;
    let held = attached.server.heard.hellos.lock().unwrap()[1].held.clone();
    assert_eq!(held, [(&assignment).into()]);
    Ok(())
}

/// T7: the root of the certificate goes, so the server has it renewed long before its time. The
/// agent comes back with the new one, and the job goes on.
#[tokio::test]
async fn a_renewal_that_the_server_asks_for_comes_with_a_new_session() -> TestResult {
    let attached = Attached::new(ScriptedEngine::gated()).await?;
    let first = attached.connector.credential().serial();
    let assignment = backup(&["a"]);
    attached.server.heard.assign(&assignment).await;
    attached.bench.engine.has_called("backup a").await;

    attached.server.heard.connected().await.renew()?;
    eventually(|| attached.sessions() == 2).await;

    let second = attached.connector.credential().serial();
    assert_ne!(second, first);
    assert_eq!(attached.identity.load()?.credential.serial(), second);
    let agent = attached.connector.agent();
    let standing = attached.server.store.standing(agent, first).await?;
    assert_eq!(standing, Standing::Refused, "the new one has arrived");
    attached.bench.engine.gate.add_permits(1);
    let report = attached.server.heard.end_of(assignment.job).await;
    assert_eq!(parts(&report).code, None);
    Ok(())
}

/// T9: an agent that is told to wait with its renewal waits so long, and then gets it.
#[tokio::test]
async fn a_renewal_that_is_put_off_comes_when_the_server_said() -> TestResult {
    let wire = Wire::new().await?;
    let config = PortConfig {
        renewals_per_minute: 20,
        renewals_at_once: 2,
        ..PortConfig::default()
    };
    let attached = Attached::over(ScriptedEngine::gated(), Some(&wire), config).await?;
    let handle = attached.server.heard.connected().await;
    let first = attached.connector.credential().serial();
    // Somebody has used it up.
    for _ in 0..2 {
        attached.connector.renew().await?;
    }
    let before = wire.connections();

    handle.renew()?;
    eventually(|| attached.sessions() == 2).await;

    assert_ne!(attached.connector.credential().serial(), first);
    // One that is refused, one that is not, and the session: nobody asked in between, though the
    // agent would otherwise ask again each second.
    assert_eq!(wire.connections() - before, 3);
    Ok(())
}
