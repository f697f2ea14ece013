//! Requests for certificates, into their handlers: whatever a stranger or an agent says, a certificate
//! is issued for the agent that the token or the certificate names, or none.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{AgentId, Timestamp};
use arkeep_transport::ca::LocalCa;
use arkeep_transport::enrollment::{EnrollmentStore, Issuance, MemoryEnrollments, Occasion};
use arkeep_transport::gateway::{AgentGateway, AgentHandle, GatewayError};
use arkeep_transport::identity::{AgentIdentity, Serial, TrustDomain};
use arkeep_transport::server::{PortConfig, PortParts};
use arkeep_transport::session::{
    Generation, Heartbeat, HeldJob, Hello, JobProgress, LogBatch, QueryAnswer,
};
use arkeep_transport::testing::calls::{Answered, enroll, renew};
use arkeep_transport::token::{JoinDigest, JoinTokenId, OfferedToken};
use async_trait::async_trait;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

fn noon() -> Timestamp {
    Timestamp::from_unix_seconds(1_750_000_000)
}

fn me() -> AgentId {
    "0197708c-a400-7000-8000-000000000001"
        .parse()
        .expect("an id")
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
});
static CA: LazyLock<Arc<LocalCa>> =
    LazyLock::new(|| Arc::new(LocalCa::generate(noon()).expect("a CA").0));

/// Nobody has a session here.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl AgentGateway for Nobody {
    async fn connected(
        &self,
        _: &AgentIdentity,
        _: Hello,
        _: AgentHandle,
    ) -> Result<Generation, GatewayError> {
        unreachable!("nobody connects")
    }

    async fn accepted(&self, _: &AgentIdentity, _: HeldJob) -> Result<(), GatewayError> {
        unreachable!("nobody connects")
    }

    async fn report(
        &self,
        _: &AgentIdentity,
        _: arkeep_core::job::JobReport,
    ) -> Result<(), GatewayError> {
        unreachable!("nobody connects")
    }

    async fn logs(&self, _: &AgentIdentity, _: LogBatch) -> Result<u64, GatewayError> {
        unreachable!("nobody connects")
    }

    async fn progress(&self, _: &AgentIdentity, _: JobProgress) {}

    async fn heartbeat(&self, _: &AgentIdentity, _: Heartbeat) -> Result<(), GatewayError> {
        unreachable!("nobody connects")
    }

    async fn answered(&self, _: &AgentIdentity, _: QueryAnswer) {}

    async fn disconnected(&self, _: &AgentIdentity, _: Generation) {}
}

async fn ask(request: &[u8]) {
    let serial = Serial::from_bytes([7; 16]);
    let not_after = noon().plus(Duration::from_secs(3600));
    let store = MemoryEnrollments::default();
    let issuance = Issuance {
        agent: me(),
        serial,
        not_before: noon(),
        not_after,
        issued_at: noon(),
        occasion: Occasion::Enrolled,
    };
    store.record(&issuance).await.expect("recorded");
    // Nobody knows its secret, so no bytes spend it.
    let offered = OfferedToken {
        id: JoinTokenId::from_uuid(me().as_uuid()),
        agent: me(),
        digest: JoinDigest::from_bytes([9; 32]),
        expires_at: not_after,
    };
    store.offer(&offered).await.expect("offered");
    let parts = PortParts {
        ca: Arc::clone(&*CA) as _,
        store: Arc::new(store),
        gateway: Arc::new(Nobody),
        clock: Arc::new(ManualClock::at(noon())),
    };
    let config = PortConfig::default();

    let enrolled = enroll(parts.clone(), config.clone(), request).await;
    assert!(!matches!(enrolled, Answered::Certified(_)));

    let identity = AgentIdentity::for_testing(me(), serial, not_after);
    if let Answered::Certified(chain) = renew(parts, config, identity, request).await {
        let uri = TrustDomain::default().agent_uri(me());
        let [leaf] = chain.as_slice() else {
            panic!("one certificate")
        };
        assert!(
            leaf.windows(uri.len())
                .any(|window| window == uri.as_bytes())
        );
    }
}

fuzz_target!(|request: &[u8]| RUNTIME.block_on(ask(request)));
