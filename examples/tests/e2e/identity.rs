//! Who an agent is: what its certificate says, and nothing that it says itself.
//!
//! The enemy here is written with the transport's own client, so that it says exactly what it
//! wants to say. Every RPC by every wrong identity is walked in the transport's own tests; this is
//! the whole server.

use std::error::Error;
use std::sync::Arc;

use arkeep_core::engine::EngineInfo;
use arkeep_core::job::{Fence, JobReport, Outcome as JobOutcome, ReportBody};
use arkeep_core::{Clock, JobId, SystemClock, SystemEntropy};
use arkeep_examples::{Programs, Server};
use arkeep_transport::client::{Connector, ConnectorParts, Enrolled, enroll};
use arkeep_transport::session::{
    AgentSaying, EngineStatus, HeldJob, Hello, LogBatch, Receipt, ServerSaying,
};
use arkeep_transport::token::JoinToken;
use serde_json::json;

use crate::fleet::{EMAIL, Fleet, Outcome, PASSWORD, PATIENCE, new_agent, scratch};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

async fn enrolled(token: &str) -> Result<Enrolled, Box<dyn Error>> {
    let token: JoinToken = token.parse()?;
    Ok(enroll(&token, &clock()).await?)
}

fn connector(enrolled: &Enrolled) -> Result<Connector, Box<dyn Error>> {
    Ok(Connector::new(ConnectorParts {
        server: enrolled.server.clone(),
        credential: enrolled.credential.clone(),
        trust: enrolled.trust.clone(),
        clock: clock(),
    })?)
}

fn hello(enrolled: &Enrolled, held: Vec<HeldJob>) -> Hello {
    Hello {
        agent_version: "0.1.0".to_owned(),
        hostname: "enemy".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        engine: EngineStatus::Found(EngineInfo {
            version: "0.14.0".to_owned(),
            source: "path".to_owned(),
        }),
        hook_policy: "off".to_owned(),
        sandbox: "none".to_owned(),
        docker: false,
        held,
        trust: enrolled.trust.digest(),
    }
}

/// What the server answers to a report and to log lines of this job.
async fn answers(
    link: &mut arkeep_transport::client::Link,
    job: HeldJob,
) -> Result<(Receipt, Receipt), Box<dyn Error>> {
    let finished = ReportBody::Finished {
        outcome: JobOutcome::Succeeded,
        error: None,
        results: Vec::new(),
        hooks: Vec::new(),
    };
    let report = JobReport {
        job: job.job,
        attempt: job.attempt,
        fence: job.fence,
        sequence: 1,
        at: SystemClock.now(),
        body: finished,
    };
    link.send(&AgentSaying::Report(report)).await?;
    let line = arkeep_core::job::LogLine {
        seq: 1,
        at: SystemClock.now(),
        level: arkeep_core::job::LogLevel::Info,
        source: arkeep_core::job::LogSource::Agent,
        text: "a lie".to_owned(),
    };
    link.send(&AgentSaying::Logs(LogBatch {
        job,
        lines: vec![line],
    }))
    .await?;
    let (mut report, mut logs) = (None, None);
    let both = async {
        while report.is_none() || logs.is_none() {
            match link.next().await? {
                ServerSaying::Ack(ack) if ack.job == job.job => report = Some(ack.receipt),
                ServerSaying::LogAck(ack) if ack.job == job.job => logs = Some(ack.receipt),
                _ => {}
            }
        }
        Ok::<(), arkeep_transport::client::LinkError>(())
    };
    tokio::time::timeout(PATIENCE, both).await??;
    Ok((report.ok_or("no answer")?, logs.ok_or("no answer")?))
}

/// T4: another agent's job, while it runs, is answered like one that does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn another_agents_job_looks_like_none() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 12)?;
    let policy = fleet
        .policy(&[&source], json!({"limits": {"upload_kib": 1024}}))
        .await?;
    let running = fleet.start_slow_run(&policy).await?;
    let (_, token) = new_agent(&fleet.api, "enemy").await?;
    let enemy = enrolled(&token).await?;
    let there = HeldJob {
        job: running.parse()?,
        attempt: 1,
        fence: Fence(1),
    };
    let nowhere = HeldJob {
        job: JobId::mint(SystemClock.now(), &SystemEntropy),
        ..there
    };

    let mut link = connector(&enemy)?
        .connect(&hello(&enemy, vec![there, nowhere]))
        .await?;
    let for_there = answers(&mut link, there).await?;
    let for_nowhere = answers(&mut link, nowhere).await?;
    let job = fleet
        .api
        .get(&format!("/api/v1/jobs/{running}"))
        .await?
        .expect(200)?;
    let log = fleet.log_of(&job.json).await?;

    assert_eq!(for_there, for_nowhere);
    assert_eq!(for_there, (Receipt::NotFound, Receipt::NotFound));
    assert_eq!(job.str("/state"), "running", "{}", job.text);
    assert!(!log.contains("a lie"), "{log}");
    Ok(())
}

/// T4: a certificate of another CA is refused, for a session and for a renewal.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_certificate_is_refused() -> Outcome {
    let scratch = scratch()?;
    let programs = Programs::find()?;
    let ours = Server::start(&programs, &scratch.path().join("ours"), &[]).await?;
    let theirs = Server::start(&programs, &scratch.path().join("theirs"), &[]).await?;
    let api = ours.set_up(EMAIL, PASSWORD).await?;
    let (_, our_token) = new_agent(&api, "ours").await?;
    let (_, their_token) = new_agent(&theirs.set_up(EMAIL, PASSWORD).await?, "theirs").await?;
    let own = enrolled(&our_token).await?;
    let foreign = enrolled(&their_token).await?;

    // The enemy knows our address and trusts our root; only its certificate is another's.
    let enemy = Enrolled {
        server: own.server.clone(),
        trust: own.trust.clone(),
        ..foreign
    };
    let connector = connector(&enemy)?;
    let session = connector.connect(&hello(&enemy, Vec::new())).await;
    let renewal = connector.renew().await;

    assert!(session.is_err(), "a foreign certificate opened a session");
    assert!(renewal.is_err(), "a foreign certificate was renewed");
    Ok(())
}

/// T5, T4: revoking ends the open session and refuses the next one, also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_agent_is_cut_off_at_once() -> Outcome {
    let mut fleet = Fleet::start().await?;
    let (id, token) = new_agent(&fleet.api, "second").await?;
    let second = enrolled(&token).await?;
    let connector = connector(&second)?;
    let mut link = connector.connect(&hello(&second, Vec::new())).await?;

    let path = format!("/api/v1/agents/{id}/revoke");
    let answer = fleet.api.post(&path, &json!({})).await?.expect(200)?;
    assert_eq!(answer.str("/state"), "revoked");
    let ended = tokio::time::timeout(PATIENCE, async { while link.next().await.is_ok() {} });
    ended.await?;
    let again = connector.connect(&hello(&second, Vec::new())).await;
    let renewed = connector.renew().await;
    fleet.server.process().kill_9().await?;
    fleet.server.start_again().await?;
    let after_restart = connector.connect(&hello(&second, Vec::new())).await;

    assert!(
        again.is_err() && renewed.is_err(),
        "a revoked agent came back"
    );
    assert!(after_restart.is_err(), "a restart forgot the revocation");
    fleet
        .api
        .agent_in(&fleet.agent_id, "online", PATIENCE)
        .await?;
    Ok(())
}
