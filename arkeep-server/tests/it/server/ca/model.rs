//! The driver of a rotation over a real store, two replicas, crashes, and agents that come and go.
#![expect(
    clippy::indexing_slicing,
    reason = "the numbers are drawn below the lengths"
)]

use std::sync::Arc;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{AgentId, Clock, SystemEntropy, Timestamp};
use arkeep_server::authority::{Authority, AuthorityParts, RotateError};
use arkeep_server::store::RotationStore as _;
use arkeep_server::store::agents::{AgentStore as _, NewAgent, NewJoinToken};
use arkeep_server::store::sqlite::SqliteStore;
use arkeep_transport::ca::rotation::{Patience, REPLICAS_LAG};
use arkeep_transport::ca::{CertificateAuthority as _, CheckedCsr, IssueRequest, Subject};
use arkeep_transport::enrollment::{EnrollmentStore as _, Issuance, Occasion};
use arkeep_transport::identity::Serial;
use arkeep_transport::trust::{SpkiFingerprint, TrustBundle};
use arkeep_vault::{Keyring, Sealer, Vault};
use proptest::prelude::*;

use super::super::Fallible;

/// What one of two replicas or one of the agents does next.
#[derive(Debug, Clone)]
enum Step {
    /// The clock goes on.
    Pass(u64),
    /// An administrator asks for the next step, here.
    Rotate(usize),
    /// A replica looks what is written, and goes on if everybody is ready.
    Proceed(usize),
    /// A replica is killed, and starts again.
    Crash(usize),
    /// An agent connects here, with the newest certificate that it has, and takes the roots over.
    Come(usize, usize),
    /// It takes the roots over, and is gone before it has said so.
    ComeAndDie(usize, usize),
    /// It renews here.
    Renew(usize, usize),
    /// It renews here, and the answer is lost.
    RenewInVain(usize),
}

const AGENTS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (agent, replica) = (0..AGENTS, 0_usize..2);
    let step = prop_oneof![
        2 => (1_u64..400).prop_map(Step::Pass),
        1 => replica.clone().prop_map(Step::Rotate),
        3 => replica.clone().prop_map(Step::Proceed),
        1 => replica.clone().prop_map(Step::Crash),
        4 => (agent.clone(), replica.clone()).prop_map(|(a, r)| Step::Come(a, r)),
        1 => (agent.clone(), replica.clone()).prop_map(|(a, r)| Step::ComeAndDie(a, r)),
        3 => (agent.clone(), replica).prop_map(|(a, r)| Step::Renew(a, r)),
        1 => agent.prop_map(Step::RenewInVain),
    ];
    prop::collection::vec(step, 20..120)
}

/// An agent's disk.
struct Agent {
    id: AgentId,
    trust: TrustBundle,
    serial: Serial,
    signed_under: SpkiFingerprint,
}

struct World {
    clock: Arc<ManualClock>,
    store: SqliteStore,
    sealer: Arc<dyn Sealer>,
    replicas: Vec<Authority>,
    looked_at: [Timestamp; 2],
    agents: Vec<Agent>,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Fallible<Self> {
        let now = Timestamp::from_unix_seconds(1_795_435_200);
        let directory = tempfile::tempdir()?;
        let mut world = Self {
            clock: Arc::new(ManualClock::at(now)),
            store: SqliteStore::create(&directory.path().join("arkeep.db")).await?,
            sealer: Arc::new(Vault::new(Keyring::generate(0)?)),
            replicas: Vec::new(),
            looked_at: [now; 2],
            agents: Vec::new(),
            _directory: directory,
        };
        for _ in 0..2 {
            let replica = world.replica().await?;
            world.replicas.push(replica);
        }
        for number in 0..AGENTS {
            let id = AgentId::mint(now, &SystemEntropy);
            let new = NewAgent {
                id,
                name: format!("agent {number}"),
                labels: [].into(),
                created_at: now,
            };
            let token = NewJoinToken {
                id: arkeep_core::id::uuid_v7(now, &SystemEntropy),
                secret_digest: [7; 32],
                created_at: now,
                expires_at: now.plus(Duration::from_secs(3_600)),
            };
            world.store.create(&new, &token).await?;
            let serial = world.issue(id, Occasion::Enrolled).await?;
            let trust = world.replicas[0].trust_bundle().await?;
            world.store.trusts(id, trust.digest()).await?;
            let signed_under = world.replicas[0].root();
            world.agents.push(Agent {
                id,
                trust,
                serial,
                signed_under,
            });
        }
        Ok(world)
    }

    async fn replica(&self) -> Fallible<Authority> {
        let parts = AuthorityParts {
            keys: Arc::new(self.store.clone()),
            rotations: Arc::new(self.store.clone()),
            sealer: Arc::clone(&self.sealer),
            clock: Arc::clone(&self.clock) as _,
        };
        Ok(Authority::open(parts).await?)
    }

    async fn issue(&self, agent: AgentId, occasion: Occasion) -> Fallible<Serial> {
        let (serial, now) = (Serial::random(&SystemEntropy), self.clock.now());
        let issuance = Issuance {
            agent,
            serial,
            not_before: now,
            not_after: now.plus(Duration::from_secs(7 * 24 * 3_600)),
            issued_at: now,
            occasion,
        };
        self.store.record(&issuance).await?;
        Ok(serial)
    }

    /// Has a certificate signed, and says by which root.
    async fn sign(&self, replica: usize) -> Fallible<SpkiFingerprint> {
        let key = rcgen::KeyPair::generate()?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key)?;
        let request = IssueRequest {
            csr: &CheckedCsr::check(csr.der())?,
            subject: Subject::Server {
                dns_name: "nowhere.internal".to_owned(),
            },
            validity: Duration::from_secs(3_600),
            now: self.clock.now(),
        };
        self.replicas[replica].issue(request).await?;
        Ok(self.replicas[replica].root())
    }

    async fn take(&mut self, step: &Step) -> Fallible {
        match *step {
            Step::Pass(seconds) => self.clock.advance(Duration::from_secs(seconds)),
            Step::Rotate(replica) => {
                match self.replicas[replica].rotate(Patience::Full).await {
                    Ok(()) | Err(RotateError::NotYet(_)) => {}
                    Err(other) => return Err(other.into()),
                }
                self.looked_at[replica] = self.clock.now();
            }
            Step::Proceed(replica) => self.proceed(replica).await?,
            Step::Crash(replica) => {
                self.replicas[replica] = self.replica().await?;
                self.looked_at[replica] = self.clock.now();
            }
            Step::Come(agent, replica) => {
                let agent = &mut self.agents[agent];
                let trust = self.replicas[replica].answer(agent.trust.digest());
                agent.trust = trust.await?;
                self.store.confirm(agent.id, agent.serial).await?;
                self.store.trusts(agent.id, agent.trust.digest()).await?;
            }
            Step::ComeAndDie(agent, replica) => {
                let agent = &mut self.agents[agent];
                let trust = self.replicas[replica].answer(agent.trust.digest());
                let trust = trust.await?;
                // The greeting was said with the roots of before.
                self.store.confirm(agent.id, agent.serial).await?;
                self.store.trusts(agent.id, agent.trust.digest()).await?;
                agent.trust = trust;
            }
            Step::Renew(agent, replica) => {
                let with = self.agents[agent].serial;
                let told = self.replicas[replica].trust_bundle().await?;
                let signed_under = self.sign(replica).await?;
                let serial = self
                    .issue(self.agents[agent].id, Occasion::Renewed { with })
                    .await?;
                let agent = &mut self.agents[agent];
                (agent.serial, agent.signed_under) = (serial, signed_under);
                let both = agent.trust.roots().chain(told.roots());
                agent.trust = TrustBundle::new(both.map(<[u8]>::to_vec))?;
            }
            Step::RenewInVain(agent) => {
                let with = self.agents[agent].serial;
                self.issue(self.agents[agent].id, Occasion::Renewed { with })
                    .await?;
            }
        }
        // Each replica keeps its promise to look often enough.
        for replica in 0..2 {
            if self.clock.now().since(self.looked_at[replica]) >= REPLICAS_LAG {
                self.proceed(replica).await?;
            }
        }
        Ok(())
    }

    async fn proceed(&mut self, replica: usize) -> Fallible {
        match self.replicas[replica].proceed().await {
            Ok(_) | Err(RotateError::Moved) => {}
            Err(other) => return Err(other.into()),
        }
        self.looked_at[replica] = self.clock.now();
        Ok(())
    }

    /// Whether every agent can still talk to every replica.
    async fn nobody_is_locked_out(&self) -> Fallible {
        for replica in &self.replicas {
            let bundle = replica.trust_bundle().await?;
            for agent in &self.agents {
                let server = holds(&agent.trust, replica.root());
                let client = holds(&bundle, agent.signed_under);
                if !server || !client {
                    let phase = replica.rotation().phase;
                    return Err(format!("{phase:?}: {server} {client}").into());
                }
            }
        }
        Ok(())
    }
}

fn holds(bundle: &TrustBundle, root: SpkiFingerprint) -> bool {
    let mut roots = bundle.roots();
    roots.any(|der| SpkiFingerprint::of_certificate(der) == Some(root))
}

fn walk(steps: &[Step]) -> Fallible {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut world = World::new().await?;
        for (number, step) in steps.iter().enumerate() {
            world.take(step).await?;
            let fine = world.nobody_is_locked_out().await;
            fine.map_err(|error| format!("after step {number}: {error}"))?;
        }
        world.store.close().await;
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// T7
    #[test]
    fn nobody_is_locked_out_by_the_driver(steps in steps()) {
        if let Err(error) = walk(&steps) {
            return Err(TestCaseError::fail(error.to_string()));
        }
    }
}
