use std::time::Duration;

use arkeep_core::ExposeSecret as _;
use arkeep_core::job::{JobState, Outcome, ReportBody, Work};
use arkeep_core::queue::JobQueue as _;
use arkeep_server::http::services::Fleet as _;
use arkeep_server::store::policies::PolicyDestination;
use arkeep_transport::gateway::{AgentGateway as _, GatewayError};
use arkeep_transport::session::HeldJob;

use super::{PASSWORD, Server, finished, identity, until};

#[tokio::test]
async fn a_job_waits_for_its_agent_and_is_sent_when_it_comes() {
    let server = Server::new().await;
    let policy = server.policy(2).await;
    let job = server.enqueue(&policy).await;
    assert_eq!(server.job(job).await.state, JobState::Queued);

    let mut agent = server.connect(policy.agent, &[]).await;

    let assignment = agent.assignment().await;
    assert_eq!((assignment.job, assignment.attempt), (job, 1));
    let Work::Backup(work) = assignment.work else {
        panic!("expected a backup");
    };
    assert_eq!(work.destinations.len(), 2);
    let repository = &work.destinations[0].repository;
    assert_eq!(repository.password.expose_secret(), PASSWORD);
    assert_eq!(repository.path, policy.destinations[0].path);
    let stored = server.job(job).await;
    assert_eq!(stored.state, JobState::Leased);
    let named: Vec<_> = policy
        .destinations
        .iter()
        .map(|it| it.destination_id)
        .collect();
    assert_eq!(stored.assigned, named);
}

#[tokio::test]
async fn a_connected_agent_gets_a_new_job_at_once() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let mut agent = server.connect(policy.agent, &[]).await;

    let job = server.enqueue(&policy).await;

    assert_eq!(agent.assignment().await.job, job);
}

/// T4
#[tokio::test]
async fn an_agent_gets_no_job_of_another() {
    let server = Server::new().await;
    let (mine, other) = (server.policy(1).await, server.policy(1).await);
    server.enqueue(&other).await;
    let job = server.enqueue(&mine).await;

    let mut agent = server.connect(mine.agent, &[]).await;

    assert_eq!(agent.assignment().await.job, job);
    assert!(agent.heard_nothing_more());
}

/// S4
#[tokio::test]
async fn a_run_that_is_asked_for_after_a_change_does_what_the_policy_says_then() {
    let server = Server::new().await;
    let mut policy = server.policy(1).await;
    let (mut agent, first) = server.received(&policy).await;
    server.clock.advance(Duration::from_secs(1));
    let second = server.enqueue(&policy).await;
    let added = server.sandbox.destination().await.id;
    server
        .edit_policy(&mut policy, |edit| {
            let pair = PolicyDestination {
                destination_id: added,
                ..edit.destinations[0].clone()
            };
            edit.destinations.push(pair);
        })
        .await;

    server.clock.advance(Duration::from_secs(1));
    let third = server.enqueue(&policy).await;
    assert!(agent.heard_nothing_more());
    let done = finished(Outcome::Failed, Vec::new());
    server
        .report(policy.agent, &first, 1, done)
        .await
        .expect("it is stored");

    let assignment = agent.assignment().await;
    assert_eq!((assignment.job, second), (third, third));
    let Work::Backup(work) = assignment.work else {
        panic!("expected a backup");
    };
    assert_eq!(work.destinations.len(), 2);
}

/// S5
#[tokio::test]
async fn what_was_lost_on_the_way_is_sent_again_under_the_same_fence() {
    let mut server = Server::new().await;
    let policy = server.policy(1).await;
    server.enqueue(&policy).await;
    let first = server.connect(policy.agent, &[]).await.assignment().await;

    server.restart();
    let again = server.connect(policy.agent, &[]).await.assignment().await;

    assert_eq!(HeldJob::from(&again), HeldJob::from(&first));
}

/// S5
#[tokio::test]
async fn what_an_agent_holds_is_not_sent_again() {
    let mut server = Server::new().await;
    let policy = server.policy(1).await;
    let (_, assignment) = server.received(&policy).await;

    server.restart();
    let held = [HeldJob::from(&assignment)];
    let mut agent = server.connect(policy.agent, &held).await;
    let next = server.policy_of(policy.agent, &[]).await;
    let job = server.enqueue_test(&next, &policy).await;

    assert_eq!(agent.assignment().await.job, job);
}

/// S5
#[tokio::test]
async fn a_sign_of_life_brings_back_what_was_lost_on_the_way() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    server.enqueue(&policy).await;
    let mut agent = server.connect(policy.agent, &[]).await;
    let first = agent.assignment().await;

    server.heartbeat(policy.agent, &[]).await;

    let again = agent.assignment().await;
    assert_eq!(HeldJob::from(&again), HeldJob::from(&first));
}

/// S5
#[tokio::test]
async fn signs_of_life_keep_the_lease_of_what_is_held() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let (_, assignment) = server.received(&policy).await;

    for _ in 0..4 {
        server.clock.advance(Duration::from_secs(60));
        server
            .heartbeat(policy.agent, &[HeldJob::from(&assignment)])
            .await;
        let now = arkeep_core::Clock::now(server.clock.as_ref());
        let reclaimed = server.sandbox.store.reclaim(now).await;
        assert_eq!(reclaimed.expect("the store answers"), []);
    }
}

/// S5
#[tokio::test]
async fn a_running_job_that_its_agent_knows_nothing_of_is_given_up() {
    let mut server = Server::new().await;
    let policy = server.policy(1).await;
    let (agent, assignment) = server.received(&policy).await;
    server
        .report(agent.agent, &assignment, 1, ReportBody::Started)
        .await
        .expect("it is stored");

    server.restart();
    server.connect(policy.agent, &[]).await;

    let job = server.job(assignment.job).await;
    assert_eq!(job.state, JobState::Failed);
    let code = job.error.map(|error| error.code);
    assert_eq!(code.as_deref(), Some("lost_by_agent"));
}

/// S5
#[tokio::test]
async fn a_job_that_was_taken_back_is_not_the_agents_any_more() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    server.enqueue(&policy).await;
    let mut agent = server.connect(policy.agent, &[]).await;
    let assignment = agent.assignment().await;
    let now = arkeep_core::Clock::now(server.clock.as_ref());
    let cancelled = server.sandbox.store.cancel(assignment.job, now).await;
    cancelled.expect("the store answers");

    let accepted = server
        .dispatcher
        .accepted(&identity(policy.agent), HeldJob::from(&assignment))
        .await;

    assert!(matches!(accepted, Err(GatewayError::NotFound)));
}

#[tokio::test]
async fn an_agent_is_told_to_stop_what_ended_without_it() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let (mut agent, assignment) = server.received(&policy).await;
    let now = arkeep_core::Clock::now(server.clock.as_ref());
    let cancelled = server.sandbox.store.cancel(assignment.job, now).await;
    cancelled.expect("the store answers");

    server.dispatcher.wake(policy.agent);

    let cancel = agent.cancellation().await;
    assert_eq!(
        (cancel.job, cancel.fence),
        (assignment.job, assignment.fence)
    );
}

#[tokio::test]
async fn a_cancellation_reaches_the_holder_at_once_and_after_a_restart() {
    let mut server = Server::new().await;
    let policy = server.policy(1).await;
    let (mut agent, assignment) = server.received(&policy).await;
    server
        .report(agent.agent, &assignment, 1, ReportBody::Started)
        .await
        .expect("it is stored");
    let now = arkeep_core::Clock::now(server.clock.as_ref());
    let cancelled = server.sandbox.store.cancel(assignment.job, now).await;
    cancelled.expect("the store answers");

    server
        .dispatcher
        .cancel(policy.agent, assignment.job, assignment.fence);
    assert_eq!(agent.cancellation().await.job, assignment.job);

    server.restart();
    let held = [HeldJob::from(&assignment)];
    let mut agent = server.connect(policy.agent, &held).await;
    assert_eq!(agent.cancellation().await.job, assignment.job);
}

#[tokio::test]
async fn a_server_that_stops_gives_out_nothing_more() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let (mut agent, assignment) = server.received(&policy).await;
    server.dispatcher.drain();

    let job = server
        .enqueue_test(&server.policy_of(policy.agent, &[]).await, &policy)
        .await;
    server
        .report(agent.agent, &assignment, 1, ReportBody::Started)
        .await
        .expect("what is said is still taken in");

    until(async || server.job(assignment.job).await.state == JobState::Running).await;
    assert!(agent.heard_nothing_more());
    assert_eq!(server.job(job).await.state, JobState::Queued);
}
