//! Signing requests: no bytes make the check or the CA panic, and what passes is certified for the
//! one name that was asked for, whatever the request says.
#![no_main]

use std::future::Future;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arkeep_core::{AgentId, Timestamp};
use arkeep_transport::ca::{CertificateAuthority, CheckedCsr, IssueRequest, LocalCa, Subject};
use arkeep_transport::identity::TrustDomain;
use libfuzzer_sys::fuzz_target;

const NOON: i64 = 1_750_000_000;

static CA: LazyLock<LocalCa> = LazyLock::new(|| {
    LocalCa::generate(Timestamp::from_unix_seconds(NOON)).expect("a CA").0
});

fuzz_target!(|der: &[u8]| {
    let Ok(csr) = CheckedCsr::check(der) else { return };

    let agent: AgentId = "0197708c-a400-7000-8000-000000000001".parse().expect("an id");
    let uri = TrustDomain::default().agent_uri(agent);
    let request = IssueRequest {
        csr: &csr,
        subject: Subject::Agent { agent, uri: uri.clone() },
        validity: Duration::from_secs(3600),
        now: Timestamp::from_unix_seconds(NOON),
    };
    let issuing = pin!(CA.issue(request));
    let Poll::Ready(issued) = issuing.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the local CA waits for nobody");
    };
    let chain = issued.expect("a checked key is certified");

    let [leaf] = chain.0.as_slice() else { panic!("one certificate") };
    let holds = |part: &[u8]| leaf.windows(part.len()).any(|window| window == part);
    assert!(holds(csr.public_key()));
    assert!(holds(uri.as_bytes()));
});
