//! A network that fails in every way: nothing is lost, nothing is done twice, and the agent comes
//! back by itself.

use std::time::Duration;

use arkeep_core::Clock as _;
use arkeep_core::job::Assignment;

use crate::attachment::Attached;
use crate::bench::{ScriptedEngine, TestResult, backup, eventually, parts};
use crate::wire::{Flow, Wire};

/// Soon enough for a test; a minute and a half in production.
const SHORT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(400));

/// Gives the agent a job, and waits until it is at work.
async fn at_work(attached: &Attached) -> Assignment {
    let assignment = backup(&["a"]);
    attached.server.heard.assign(&assignment).await;
    attached.bench.engine.has_called("backup a").await;
    assignment
}

/// The job's end has arrived, once as far as a store would know, and it was run once.
async fn ended_once(attached: &Attached, assignment: &Assignment) {
    let report = attached.server.heard.end_of(assignment.job).await;
    assert_eq!(parts(&report).code, None);
    eventually(|| attached.bench.outbox.lease(assignment.job).is_none()).await;
    let ends = attached.server.heard.ends_of(assignment.job);
    assert!(ends.iter().all(|end| *end == report), "{ends:?}");
    let calls = attached.bench.engine.calls();
    let runs = calls.iter().filter(|call| *call == "backup a").count();
    assert_eq!(runs, 1, "{calls:?}");
}

/// T8: a partition of seconds. What is on its way waits, and arrives on the same stream.
#[tokio::test]
async fn a_short_partition_is_not_even_noticed() -> TestResult {
    let wire = Wire::new().await?;
    let attached = Attached::behind(ScriptedEngine::gated(), &wire, None).await?;
    let assignment = at_work(&attached).await;

    wire.both(Flow::Held);
    attached.bench.engine.gate.add_permits(1);
    attached.bench.end_of(assignment.job).await;
    attached.clock.advance(Duration::from_secs(5));
    assert!(attached.server.heard.ends_of(assignment.job).is_empty());
    wire.both(Flow::Open);

    ended_once(&attached, &assignment).await;
    assert_eq!(attached.sessions(), 1);
    Ok(())
}

/// T8: a partition of minutes. Both ends find out that nobody is there, and the agent comes back when somebody is.
#[tokio::test]
async fn a_long_partition_ends_the_session_and_not_the_job() -> TestResult {
    let wire = Wire::new().await?;
    let attached = Attached::behind(ScriptedEngine::gated(), &wire, Some(SHORT)).await?;
    let assignment = at_work(&attached).await;

    wire.both(Flow::Held);
    attached.clock.advance(Duration::from_secs(5 * 60));
    attached.bench.engine.gate.add_permits(1);
    attached.bench.end_of(assignment.job).await;
    eventually(|| attached.server.heard.handle().is_none()).await;
    assert!(attached.server.heard.ends_of(assignment.job).is_empty());
    wire.both(Flow::Open);

    ended_once(&attached, &assignment).await;
    assert!(attached.sessions() > 1);
    let now = attached.clock.now();
    assert!(attached.connector.credential().not_after() > now);
    Ok(())
}

/// T8: a half-open connection. One end still hears the other, which hears nothing.
#[tokio::test]
async fn a_wire_that_carries_one_way_only_ends_the_session() -> TestResult {
    for deaf in ["server", "agent"] {
        let wire = Wire::new().await?;
        let attached = Attached::behind(ScriptedEngine::gated(), &wire, Some(SHORT)).await?;
        let assignment = at_work(&attached).await;

        match deaf {
            "server" => wire.to_server(Flow::Held),
            _ => wire.to_agent(Flow::Held),
        }
        attached.bench.engine.gate.add_permits(1);
        attached.bench.end_of(assignment.job).await;
        eventually(|| attached.server.heard.handle().is_none()).await;
        wire.both(Flow::Open);

        ended_once(&attached, &assignment).await;
        assert!(attached.sessions() > 1, "{deaf}");
    }
    Ok(())
}

/// T8: the connection is reset after so many bytes of what the agent or the server says.
#[tokio::test]
async fn a_reset_in_the_middle_of_a_message_loses_nothing() -> TestResult {
    for bytes in [1, 23, 90, 200] {
        for from_agent in [true, false] {
            let wire = Wire::new().await?;
            let attached = Attached::behind(ScriptedEngine::gated(), &wire, None).await?;
            let assignment = at_work(&attached).await;
            let cut = Flow::Cut(bytes);

            match from_agent {
                true => wire.to_server(cut),
                false => wire.to_agent(cut),
            }
            attached.bench.engine.gate.add_permits(1);
            attached.bench.end_of(assignment.job).await;

            ended_once(&attached, &assignment).await;
            eventually(|| wire.was_cut() || attached.sessions() == 1).await;
            assert!(
                attached.sessions() > 1 || bytes > 90,
                "{bytes} {from_agent}: nothing was cut"
            );
        }
    }
    Ok(())
}
