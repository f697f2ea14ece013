//! Whole sessions: an agent says any sequence of messages, good ones and bad ones, and the gateway
//! is called in order, for that agent, and told of the end once.
#![no_main]

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arkeep_core::job::JobReport;
use arkeep_core::testing::ManualClock;
use arkeep_core::{AgentId, Timestamp};
use arkeep_transport::ca::LocalCa;
use arkeep_transport::enrollment::{EnrollmentStore, Issuance, MemoryEnrollments, Occasion};
use arkeep_transport::gateway::{AgentGateway, AgentHandle, GatewayError};
use arkeep_transport::identity::{AgentIdentity, Serial};
use arkeep_transport::server::{PortConfig, PortParts};
use arkeep_transport::session::{
    Generation, HeldJob, Heartbeat, Hello, JobProgress, LogBatch, QueryAnswer,
};
use arkeep_transport::testing::messages::{AgentMessage, read_agent_message};
use arkeep_transport::testing::stream::{framed, say};
use async_trait::async_trait;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

fn noon() -> Timestamp {
    Timestamp::from_unix_seconds(1_750_000_000)
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
static CA: LazyLock<Arc<LocalCa>> =
    LazyLock::new(|| Arc::new(LocalCa::generate(noon()).expect("a CA").0));

/// Knows no job, and remembers in which order it was called.
#[derive(Debug, Default)]
struct Witness(Mutex<Vec<&'static str>>);

impl Witness {
    fn note(&self, agent: &AgentIdentity, call: &'static str) {
        assert_eq!(agent.agent(), me());
        self.0.lock().unwrap().push(call);
    }
}

#[async_trait]
impl AgentGateway for Witness {
    async fn connected(
        &self,
        agent: &AgentIdentity,
        _: Hello,
        _: AgentHandle,
    ) -> Result<Generation, GatewayError> {
        self.note(agent, "connected");
        Ok(Generation(1))
    }

    async fn accepted(&self, agent: &AgentIdentity, _: HeldJob) -> Result<(), GatewayError> {
        self.note(agent, "accepted");
        Err(GatewayError::NotFound)
    }

    async fn report(&self, agent: &AgentIdentity, report: JobReport) -> Result<(), GatewayError> {
        self.note(agent, "report");
        if report.sequence.is_multiple_of(2) { Ok(()) } else { Err(GatewayError::NotFound) }
    }

    async fn logs(&self, agent: &AgentIdentity, batch: LogBatch) -> Result<u64, GatewayError> {
        self.note(agent, "logs");
        batch.lines.last().map(|line| line.seq).ok_or(GatewayError::NotFound)
    }

    async fn progress(&self, agent: &AgentIdentity, _: JobProgress) {
        self.note(agent, "progress");
    }

    async fn heartbeat(&self, agent: &AgentIdentity, _: Heartbeat) -> Result<(), GatewayError> {
        self.note(agent, "heartbeat");
        Ok(())
    }

    async fn answered(&self, agent: &AgentIdentity, _: QueryAnswer) {
        self.note(agent, "answered");
    }

    async fn disconnected(&self, agent: &AgentIdentity, generation: Generation) {
        assert_eq!(generation, Generation(1));
        self.note(agent, "disconnected");
    }
}

fn me() -> AgentId {
    "0197708c-a400-7000-8000-000000000001".parse().expect("an id")
}

/// Messages stand one after the other, each behind its length in two bytes.
fn messages(mut input: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (message, rest) = rest.split_at(length);
        messages.push(message);
        input = rest;
    }
    messages
}

async fn rehearse(input: &[u8]) {
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
    let witness = Arc::new(Witness::default());
    let parts = PortParts {
        ca: Arc::clone(&*CA) as _,
        store: Arc::new(store),
        gateway: Arc::clone(&witness) as _,
        clock: Arc::new(ManualClock::at(noon())),
    };
    let config = PortConfig {
        messages_per_second: u32::MAX,
        bytes_per_second: u32::MAX,
        ..PortConfig::default()
    };
    let said = messages(input);
    let frames: Vec<u8> = said.iter().flat_map(|message| framed(message)).collect();
    let identity = AgentIdentity::for_testing(me(), serial, not_after);

    let answer = say(parts, config, identity, frames).await;

    let calls = witness.0.lock().unwrap();
    let hello = said.first().map(|first| read_agent_message(first));
    if matches!(hello, Some(Ok(AgentMessage::Hello(_)))) {
        assert_eq!(calls.first(), Some(&"connected"));
        assert_eq!(calls.last(), Some(&"disconnected"));
        assert_eq!(calls.iter().filter(|call| **call == "connected").count(), 1);
        assert_eq!(calls.iter().filter(|call| **call == "disconnected").count(), 1);
        assert!(calls.len() <= said.len() + 1);
    } else {
        assert!(calls.is_empty());
        assert_eq!(answer.messages, 0);
    }
}

fuzz_target!(|input: &[u8]| RUNTIME.block_on(rehearse(input)));
