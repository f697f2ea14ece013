//! The stream that carries everything after enrolment.

use std::time::Duration;

use arkeep_core::job::{LogLevel, LogLine, LogSource, Progress};
use arkeep_core::{ExposeSecret, SystemEntropy};
use arkeep_transport::client::LinkError;
use arkeep_transport::gateway::PushError;
use arkeep_transport::server::PortConfig;
use arkeep_transport::session::{
    Ack, AgentSaying, Answer, Cancel, DockerVolume, Generation, Heartbeat, JobProgress, LogAck,
    LogBatch, Query, QueryAnswer, Question, Receipt, RequestId, ServerSaying,
};
use arkeep_transport::trust::TrustBundle;
use arkeep_transport::{enrollment::EnrollmentStore, wire};

use crate::stand::{Heard, Outcome, Stand, assignment, hello, nobodys_job, noon, soon, started};

#[tokio::test]
async fn carries_a_job_from_its_assignment_to_its_end() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let id = agent.agent();
    let mut link = agent.connect(&hello(&agent)).await?;
    assert_eq!(link.welcome().generation, Generation(1));
    assert_eq!(link.welcome().server_time, noon());
    assert_eq!(
        stand.gateway.next().await?,
        Heard::Connected(id, Generation(1))
    );
    let job = stand.gateway.job_of(id);

    let sent = assignment(job)?;
    stand.gateway.handle(id)?.assign(&sent)?;
    let ServerSaying::Assignment(got) = soon(link.next()).await?? else {
        return Err("no assignment".into());
    };
    assert_eq!(
        wire::encode_assignment(&got)?.expose_secret(),
        wire::encode_assignment(&sent)?.expose_secret()
    );

    link.send(&AgentSaying::Accepted(job)).await?;
    assert_eq!(stand.gateway.next().await?, Heard::Accepted(id, job));

    let report = started(job);
    link.send(&AgentSaying::Report(report.clone())).await?;
    assert_eq!(stand.gateway.next().await?, Heard::Report(id, report));
    let ServerSaying::Ack(ack) = soon(link.next()).await?? else {
        return Err("no acknowledgement".into());
    };
    let (attempt, sequence, receipt) = (1, 1, Receipt::Stored);
    assert_eq!(
        ack,
        Ack {
            job: job.job,
            attempt,
            sequence,
            receipt
        }
    );

    let line = |seq| LogLine {
        seq,
        at: noon(),
        level: LogLevel::Info,
        source: LogSource::Restic,
        text: "scanning".to_owned(),
    };
    let lines = vec![line(1), line(2)];
    let batch = LogBatch { job, lines };
    link.send(&AgentSaying::Logs(batch.clone())).await?;
    assert_eq!(stand.gateway.next().await?, Heard::Logs(id, batch));
    let ServerSaying::LogAck(ack) = soon(link.next()).await?? else {
        return Err("no acknowledgement".into());
    };
    let through = 2;
    assert_eq!(
        ack,
        LogAck {
            job: job.job,
            attempt,
            through,
            receipt
        }
    );

    let progress = Progress {
        percent: 12.5,
        ..Progress::default()
    };
    let progress = JobProgress { job, progress };
    link.send(&AgentSaying::Progress(progress.clone())).await?;
    assert_eq!(stand.gateway.next().await?, Heard::Progress(id, progress));

    let heartbeat = Heartbeat {
        held: vec![job],
        trust: agent.trust().digest(),
    };
    link.send(&AgentSaying::Heartbeat(heartbeat.clone()))
        .await?;
    assert_eq!(stand.gateway.next().await?, Heard::Heartbeat(id, heartbeat));

    let cancel = Cancel {
        job: job.job,
        fence: job.fence,
    };
    stand.gateway.handle(id)?.cancel(cancel)?;
    assert!(matches!(soon(link.next()).await??, ServerSaying::Cancel(got) if got == cancel));

    drop(link);
    assert_eq!(
        stand.gateway.next().await?,
        Heard::Disconnected(id, Generation(1))
    );
    Ok(())
}

#[tokio::test]
async fn an_answer_comes_back_under_its_question() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let mut link = agent.connect(&hello(&agent)).await?;
    let query = Query {
        id: RequestId::mint(noon(), &SystemEntropy),
        question: Question::DockerVolumes,
    };

    stand.gateway.handle(agent.agent())?.ask(&query)?;
    let ServerSaying::Query(asked) = soon(link.next()).await?? else {
        return Err("no question".into());
    };
    let answer = QueryAnswer {
        id: asked.id,
        answer: Answer::DockerVolumes(vec![DockerVolume {
            name: "db".to_owned(),
            driver: "local".to_owned(),
        }]),
    };
    link.send(&AgentSaying::Answer(answer.clone())).await?;

    let heard = stand.gateway.until(|heard| match heard {
        Heard::Answered(_, answer) => Some(answer),
        _ => None,
    });
    assert_eq!(heard.await?, answer);
    assert_eq!(asked.id, query.id);
    Ok(())
}

/// T4
#[tokio::test]
async fn an_agent_that_accepts_what_is_not_its_own_is_told_to_drop_it() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let mut link = agent.connect(&hello(&agent)).await?;
    let job = nobodys_job();

    link.send(&AgentSaying::Accepted(job)).await?;

    let answer = soon(link.next()).await??;
    let dropped = matches!(answer, ServerSaying::Cancel(cancel) if cancel.job == job.job);
    assert!(dropped, "{answer:?}");
    Ok(())
}

/// T7
#[tokio::test]
async fn an_agent_that_trusts_other_roots_is_told_which_are_in_force() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let mut behind = hello(&agent);
    behind.trust = TrustBundle::new([vec![0]])?.digest();

    let mut link = agent.connect(&behind).await?;

    let answer = soon(link.next()).await??;
    let told = matches!(&answer, ServerSaying::Trust(bundle) if *bundle == agent.trust());
    assert!(told, "{answer:?}");
    Ok(())
}

/// T8
#[tokio::test]
async fn a_newer_session_ends_the_older_and_outlives_its_cleaning_up() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let id = agent.agent();
    let mut older = agent.connect(&hello(&agent)).await?;

    let mut newer = agent.connect(&hello(&agent)).await?;

    let ended = soon(older.next()).await?;
    assert!(matches!(ended, Err(LinkError::Superseded)), "{ended:?}");
    let gone = stand.gateway.until(|heard| match heard {
        Heard::Disconnected(_, generation) => Some(generation),
        _ => None,
    });
    assert_eq!(gone.await?, Generation(1));
    assert!(newer.welcome().generation > older.welcome().generation);
    assert_eq!(stand.control.connected(), [id]);
    stand
        .gateway
        .handle(id)?
        .assign(&assignment(nobodys_job())?)?;
    assert!(matches!(
        soon(newer.next()).await??,
        ServerSaying::Assignment(_)
    ));
    Ok(())
}

/// T3
#[tokio::test]
async fn ends_when_the_certificate_does() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let job = stand.gateway.job_of(agent.agent());
    let mut link = agent.connect(&hello(&agent)).await?;

    stand.clock.advance(Duration::from_secs(7 * 24 * 3600 + 1));
    link.send(&AgentSaying::Report(started(job))).await?;

    let ended = soon(link.next()).await?;
    assert!(matches!(ended, Err(LinkError::Refused)), "{ended:?}");
    Ok(())
}

/// T3
#[tokio::test]
async fn ends_in_silence_too_when_the_certificate_does() -> Outcome {
    let stand = Stand::start_with(watchful()).await?;
    let agent = stand.agent().await?;
    let mut link = agent.connect(&hello(&agent)).await?;

    stand.clock.advance(Duration::from_secs(7 * 24 * 3600 + 1));

    let ended = soon(link.next()).await?;
    assert!(matches!(ended, Err(LinkError::Refused)), "{ended:?}");
    Ok(())
}

/// T5
#[tokio::test]
async fn ends_when_the_agent_is_revoked() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let mut link = agent.connect(&hello(&agent)).await?;
    let handle = stand.gateway.handle(agent.agent())?;

    stand.store.withdraw(agent.agent(), noon()).await?;
    stand.control.revoked(agent.agent());

    let ended = soon(link.next()).await?;
    assert!(matches!(ended, Err(LinkError::Refused)), "{ended:?}");
    soon(handle.closed()).await?;
    assert_eq!(
        handle.assign(&assignment(nobodys_job())?),
        Err(PushError::Closed)
    );
    Ok(())
}

/// T5
#[tokio::test]
async fn ends_by_itself_where_nobody_told_of_the_revocation() -> Outcome {
    let stand = Stand::start_with(watchful()).await?;
    let agent = stand.agent().await?;
    let mut link = agent.connect(&hello(&agent)).await?;

    stand.store.withdraw(agent.agent(), noon()).await?;

    let ended = soon(link.next()).await?;
    assert!(matches!(ended, Err(LinkError::Refused)), "{ended:?}");
    Ok(())
}

/// T6
#[tokio::test]
async fn goes_on_while_the_certificate_is_renewed() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let job = stand.gateway.job_of(agent.agent());
    let mut link = agent.connect(&hello(&agent)).await?;
    let before = agent.credential();

    stand.clock.set(before.renew_at(&SystemEntropy));
    let renewal = agent.renew().await?;
    agent.replace(renewal.credential, renewal.trust)?;
    link.send(&AgentSaying::Report(started(job))).await?;

    assert!(matches!(soon(link.next()).await??, ServerSaying::Ack(_)));
    // The old certificate has ended; the new one carries the next session.
    stand
        .clock
        .set(before.not_after().plus(Duration::from_secs(1)));
    agent.connect(&hello(&agent)).await?;
    Ok(())
}

#[tokio::test]
async fn ends_when_the_gateway_closes_it() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let mut link = agent.connect(&hello(&agent)).await?;

    stand.gateway.handle(agent.agent())?.close();

    let ended = soon(link.next()).await?;
    assert!(matches!(ended, Err(LinkError::Closed)), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_stops_says_good_bye_and_ends_every_session() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    let mut link = agent.connect(&hello(&agent)).await?;
    let gateway = std::sync::Arc::clone(&stand.gateway);

    let stopped = tokio::spawn(async move { stand.stop().await.map_err(|e| e.to_string()) });
    let ended = soon(link.next()).await?;
    drop(link);

    assert!(matches!(ended, Err(LinkError::Unavailable)), "{ended:?}");
    soon(stopped).await???;
    let gone = gateway.until(|heard| match heard {
        Heard::Disconnected(_, generation) => Some(generation),
        _ => None,
    });
    assert_eq!(gone.await?, Generation(1));
    Ok(())
}

/// Looks at standings often.
fn watchful() -> PortConfig {
    PortConfig {
        standing_ttl: Duration::from_millis(20),
        ..PortConfig::default()
    }
}
