use std::sync::Arc;
use std::time::Duration;

use arkeep_core::AgentId;
use arkeep_core::job::ReportBody;
use arkeep_server::dispatch::{AskError, Line as _};
use arkeep_server::http::services::Fleet as _;
use arkeep_server::store::agents::AgentStore;
use arkeep_transport::gateway::{AgentGateway as _, GatewayError};
use arkeep_transport::session::{Answer, Generation, QueryAnswer, Question, ServerSaying};

use super::{Server, hello, identity, recorder};

#[tokio::test]
async fn an_agent_shows_what_it_said_of_itself() {
    let server = Server::new().await;
    let id = server.sandbox.agent().await.id;

    let agent = server.connect(id, &[]).await;

    assert_eq!(agent.generation, Generation(1));
    let found = AgentStore::find(&server.sandbox.store, id).await;
    let facts = found.expect("the store answers").expect("an agent").facts;
    assert_eq!(facts.hostname.as_deref(), Some("db1"));
    assert_eq!(facts.restic, None);
    assert_eq!(facts.restic_problem.as_deref(), Some("there is no restic"));
}

/// T8
#[tokio::test]
async fn the_end_of_an_old_stream_leaves_the_new_one_alone() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let old = server.connect(policy.agent, &[]).await;
    let mut new = server.connect(policy.agent, &[]).await;
    assert!(new.generation > old.generation);

    server
        .dispatcher
        .disconnected(&identity(policy.agent), old.generation)
        .await;

    assert!(old.line.is_closed());
    assert!(server.dispatcher.is_connected(policy.agent));
    let job = server.enqueue(&policy).await;
    assert_eq!(new.assignment().await.job, job);

    server
        .dispatcher
        .disconnected(&identity(policy.agent), new.generation)
        .await;
    assert!(!server.dispatcher.is_connected(policy.agent));
}

/// T5
#[tokio::test]
async fn nothing_more_is_taken_in_from_an_agent_that_was_hung_up_on() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let (agent, assignment) = server.received(&policy).await;

    server.dispatcher.hang_up(policy.agent);

    assert!(agent.line.is_closed());
    let reported = server
        .report(policy.agent, &assignment, 1, ReportBody::Started)
        .await;
    assert!(matches!(reported, Err(GatewayError::Refused)));
    let (line, _heard) = recorder();
    let begun = server
        .dispatcher
        .begin(&identity(policy.agent), hello(&[]), line)
        .await;
    assert!(matches!(begun, Err(GatewayError::Refused)));
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_refused() {
    let server = Server::new().await;
    let nobody = AgentId::from_uuid(uuid::Uuid::from_u128(9));

    let (line, _heard) = recorder();
    let begun = server
        .dispatcher
        .begin(&identity(nobody), hello(&[]), line)
        .await;

    assert!(matches!(begun, Err(GatewayError::Refused)));
}

#[tokio::test]
async fn a_question_is_answered_by_the_agent_that_was_asked() {
    let server = Server::new().await;
    let id = server.sandbox.agent().await.id;
    let stranger = server.sandbox.agent().await.id;
    let mut agent = server.connect(id, &[]).await;
    let dispatcher = server.dispatcher.clone();
    let asked = tokio::spawn(async move {
        dispatcher
            .ask(id, Question::DockerVolumes, Duration::from_secs(10))
            .await
    });

    let ServerSaying::Query(query) = agent.hear().await else {
        panic!("expected a question");
    };
    let answer = |answer| QueryAnswer {
        id: query.id,
        answer,
    };
    let lie = Answer::Entries {
        entries: Vec::new(),
        truncated: true,
    };
    server
        .dispatcher
        .answered(&identity(stranger), answer(lie))
        .await;
    let truth = Answer::DockerVolumes(Vec::new());
    server
        .dispatcher
        .answered(&identity(id), answer(truth.clone()))
        .await;

    assert_eq!(asked.await.expect("no panic"), Ok(truth));
}

#[tokio::test]
async fn a_question_without_an_answer_ends() {
    let server = Server::new().await;
    let id = server.sandbox.agent().await.id;
    let ask = |patience| server.dispatcher.ask(id, Question::DockerVolumes, patience);

    assert_eq!(ask(Duration::from_secs(10)).await, Err(AskError::Offline));
    let agent = server.connect(id, &[]).await;
    assert_eq!(ask(Duration::ZERO).await, Err(AskError::TimedOut));
    let line = Arc::clone(&agent.line);
    let (asked, ()) = tokio::join!(ask(Duration::from_secs(10)), async {
        tokio::task::yield_now().await;
        line.close();
    });
    assert_eq!(asked, Err(AskError::Offline));
}
