use std::sync::{Arc, Mutex};
use std::time::Duration;

use arkeep_agent::conversation::{Conversation, Ear, Ended, Mouth, TrustKeeper};
use arkeep_core::job::{Assignment, Fence, JobReport, Outcome, ReportBody, Work};
use arkeep_core::{JobId, Timestamp};
use arkeep_transport::session::{
    Ack, AgentSaying, Answer, Cancel, ListEntries, LogAck, Query, Question, Receipt, RequestId,
    ServerSaying,
};
use arkeep_transport::trust::{TrustBundle, TrustDigest};
use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::bench::{Bench, ScriptedEngine, TestResult, backup, parts, restore};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

#[derive(Debug)]
struct Voice(mpsc::Sender<AgentSaying>);

#[async_trait]
impl Mouth for Voice {
    async fn say(&mut self, saying: AgentSaying) -> Result<(), Ended> {
        let said = self.0.send(saying).await;
        said.map_err(|_| Ended("hung up".to_owned()))
    }
}

#[derive(Debug)]
struct Hearing(mpsc::Receiver<ServerSaying>);

#[async_trait]
impl Ear for Hearing {
    async fn hear(&mut self) -> Result<ServerSaying, Ended> {
        self.0
            .recv()
            .await
            .ok_or_else(|| Ended("hung up".to_owned()))
    }
}

#[derive(Debug)]
struct Trust(Mutex<TrustBundle>);

impl TrustKeeper for Trust {
    fn digest(&self) -> TrustDigest {
        self.0.lock().unwrap().digest()
    }

    fn replace(&self, bundle: &TrustBundle) -> std::io::Result<()> {
        *self.0.lock().unwrap() = bundle.clone();
        Ok(())
    }

    fn renew_soon(&self) {}
}

/// The server's end of one stream. It hangs up when dropped.
struct Server {
    says: mpsc::Sender<ServerSaying>,
    hears: mpsc::Receiver<AgentSaying>,
    held: JoinHandle<Result<(), Ended>>,
}

impl Server {
    fn answers(bench: &Bench) -> Self {
        let (to_server, hears) = mpsc::channel(4);
        let (says, from_server) = mpsc::channel(4);
        let conversation = Conversation {
            outbox: Arc::clone(&bench.outbox),
            executor: bench.executor.clone(),
            engine: Arc::<ScriptedEngine>::clone(&bench.engine),
            trust: Arc::new(Trust(Mutex::new(TrustBundle::new([vec![1]]).unwrap()))),
        };
        let held = tokio::spawn(async move {
            let (mut mouth, mut ear) = (Voice(to_server), Hearing(from_server));
            conversation.hold(&mut mouth, &mut ear).await
        });
        Self { says, hears, held }
    }

    async fn say(&self, saying: ServerSaying) -> TestResult {
        Ok(self.says.send(saying).await?)
    }

    async fn assign(&self, assignment: &Assignment) -> TestResult {
        self.say(ServerSaying::Assignment(Box::new(assignment.clone())))
            .await
    }

    async fn acknowledge(&self, job: JobId, sequence: u64) -> TestResult {
        let ack = Ack {
            job,
            attempt: 1,
            sequence,
            receipt: Receipt::Stored,
        };
        self.say(ServerSaying::Ack(ack)).await
    }

    /// The next thing but progress.
    async fn hear(&mut self) -> AgentSaying {
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(10), self.hears.recv()).await;
            match heard
                .expect("the agent says something")
                .expect("the agent is there")
            {
                AgentSaying::Progress(_) => {}
                saying => return saying,
            }
        }
    }

    async fn hear_report(&mut self) -> JobReport {
        loop {
            if let AgentSaying::Report(report) = self.hear().await {
                return report;
            }
        }
    }

    async fn hang_up(self) -> TestResult {
        drop(self.says);
        assert!(self.held.await?.is_err());
        Ok(())
    }
}

/// G10
#[tokio::test]
async fn an_assignment_is_kept_before_it_is_accepted() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let mut server = Server::answers(&bench);
    let assignment = backup(&["a"]);

    server.assign(&assignment).await?;

    loop {
        if let AgentSaying::Accepted(accepted) = server.hear().await {
            assert_eq!(accepted, (&assignment).into());
            break;
        }
    }
    assert_eq!(bench.reopened()?.1[0].job, assignment.job);
    Ok(())
}

/// G10
#[tokio::test]
async fn a_job_is_reported_and_forgotten_when_it_is_acknowledged() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let mut server = Server::answers(&bench);
    let assignment = backup(&["a"]);
    let job = assignment.job;
    server.assign(&assignment).await?;

    let started = server.hear_report().await;
    assert_eq!((started.sequence, started.body), (1, ReportBody::Started));
    server.acknowledge(job, 1).await?;
    let finished = server.hear_report().await;
    assert_eq!(parts(&finished).outcome, Outcome::Succeeded);
    server.acknowledge(job, 2).await?;
    let through = LogAck {
        job,
        attempt: 1,
        through: u64::MAX,
        receipt: Receipt::Stored,
    };
    server.say(ServerSaying::LogAck(through)).await?;

    crate::bench::eventually(|| bench.outbox.lease(job).is_none()).await;
    assert!(bench.reopened()?.1.is_empty());
    Ok(())
}

/// G10, G11: what was not acknowledged is said again, in order, and nothing else is.
#[tokio::test]
async fn what_was_not_acknowledged_is_said_again() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let assignment = backup(&["a"]);
        bench.assign(assignment.clone())?;
        jobs.push(assignment.job);
    }
    for job in &jobs {
        bench.end_of(*job).await;
    }
    jobs.sort();
    let mut first = Server::answers(&bench);
    for _ in 0..6 {
        first.hear_report().await;
    }
    first.acknowledge(jobs[0], 1).await?;
    first.acknowledge(jobs[0], 2).await?;
    crate::bench::eventually(|| bench.outbox.report(jobs[0], 2).is_none()).await;
    first.hang_up().await?;

    let mut second = Server::answers(&bench);

    let mut heard = Vec::new();
    for _ in 0..4 {
        let report = second.hear_report().await;
        heard.push((report.job, report.sequence));
    }
    assert_eq!(
        heard,
        [(jobs[1], 1), (jobs[1], 2), (jobs[2], 1), (jobs[2], 2)]
    );
    Ok(())
}

/// G10: the server asks again for a job whose end it did not hear.
#[tokio::test]
async fn an_assignment_of_an_ended_job_is_answered_with_its_end() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = backup(&["a"]);
    bench.assign(assignment.clone())?;
    bench.end_of(assignment.job).await;
    let mut server = Server::answers(&bench);
    while server.hear_report().await.sequence != 2 {}

    server.assign(&assignment).await?;

    while server.hear_report().await.sequence != 2 {}
    let backups = bench.engine.calls();
    assert_eq!(backups, ["backup a"]);
    Ok(())
}

/// G10: a job that is leased again while it runs is not run twice, and ends under the new lease.
#[tokio::test]
async fn a_job_that_is_leased_again_goes_on() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let mut server = Server::answers(&bench);
    let assignment = backup(&["a"]);
    server.assign(&assignment).await?;
    bench.engine.has_called("backup a").await;
    let again = Assignment {
        attempt: 2,
        fence: Fence(5),
        ..assignment.clone()
    };

    server.assign(&again).await?;
    crate::bench::eventually(|| {
        bench
            .outbox
            .lease(again.job)
            .is_some_and(|lease| lease.fence == Fence(5))
    })
    .await;
    bench.engine.gate.add_permits(5);

    let mut report = server.hear_report().await;
    while report.sequence != 2 {
        report = server.hear_report().await;
    }
    assert_eq!((report.attempt, report.fence), (2, Fence(5)));
    assert_eq!(bench.engine.calls(), ["backup a"]);
    Ok(())
}

/// G9
#[tokio::test]
async fn a_cancel_under_another_fence_is_not_heard() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let server = Server::answers(&bench);
    let assignment = backup(&["a"]);
    let job = assignment.job;
    server.assign(&assignment).await?;
    bench.engine.has_called("backup a").await;

    for fence in [Fence(0), Fence(2), Fence(1)] {
        assert!(bench.outbox.report(job, 2).is_none());
        server
            .say(ServerSaying::Cancel(Cancel { job, fence }))
            .await?;
    }

    let report = bench.end_of(job).await;
    assert_eq!(parts(&report).outcome, Outcome::Cancelled);
    Ok(())
}

/// G9, S5: a restore that was accepted before the agent ended may have been cancelled since.
#[tokio::test]
async fn a_restore_is_not_begun_until_the_server_wants_it_again() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let target = bench.home.path().canonicalize()?.join("restore/t");
    let (cancelled, wanted) = (
        restore("a", &target.display().to_string()),
        restore("a", &target.display().to_string()),
    );
    for assignment in [&cancelled, &wanted] {
        bench.outbox.admit(assignment)?;
    }
    let (next, held) = bench.restarted()?;
    next.executor.resume(held);
    // A backup gets its turn meanwhile: backups go on while the server is away.
    next.assign(backup(&["b"]))?;
    next.engine.has_called("backup b").await;
    let mut expected = vec![cancelled.job, wanted.job];
    expected.sort();
    assert_eq!(next.executor.kept_back(), expected);

    let server = Server::answers(&next);
    server.assign(&wanted).await?;
    server
        .say(ServerSaying::Cancel(Cancel {
            job: cancelled.job,
            fence: cancelled.fence,
        }))
        .await?;

    let report = next.end_of(cancelled.job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Cancelled, Some("cancelled"))
    );
    assert_eq!(
        parts(&next.end_of(wanted.job).await).outcome,
        Outcome::Succeeded
    );
    let restored = format!("restore to {} from a", target.display());
    assert_eq!(next.engine.calls(), ["backup b", &restored]);
    Ok(())
}

/// G10: the end of a job is damaged on the disk while it waits to be said.
#[tokio::test]
async fn an_end_that_was_damaged_is_accounted_for_at_once() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = backup(&["a"]);
    let job = assignment.job;
    bench.assign(assignment)?;
    let taken = parts(&bench.end_of(job).await).results[0].clone();
    // Kept as ended only when nobody works on it any more.
    assert!(bench.executor.shut_down(Duration::from_secs(10)).await);
    let (next, held) = bench.restarted()?;
    next.executor.resume(held);
    let directory = next.home.path().join("outbox").join(job.to_string());
    std::fs::write(directory.join("finished"), "torn")?;

    let mut server = Server::answers(&next);

    let mut report = server.hear_report().await;
    while report.sequence != 2 {
        report = server.hear_report().await;
    }
    let end = parts(&report);
    assert_eq!(end.outcome, Outcome::Succeeded);
    assert_eq!(end.results, [taken]);
    let aside = next.home.path().join("outbox/damaged");
    assert!(aside.join(format!("{job}.finished")).exists());
    Ok(())
}

/// G10: the stream ends while a job is taken on.
#[tokio::test]
async fn a_job_taken_on_as_the_stream_ends_is_run() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let server = Server::answers(&bench);
    let assignment = backup(&["a"]);

    server.assign(&assignment).await?;
    crate::bench::eventually(|| bench.outbox.lease(assignment.job).is_some()).await;
    server.held.abort();

    assert_eq!(
        parts(&bench.end_of(assignment.job).await).outcome,
        Outcome::Succeeded
    );
    Ok(())
}

#[tokio::test]
async fn a_question_is_answered_under_its_id() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let mut server = Server::answers(&bench);
    let id = RequestId::mint(NOW, &arkeep_core::SystemEntropy);

    let question = Question::DockerVolumes;
    server
        .say(ServerSaying::Query(Query { id, question }))
        .await?;

    match server.hear().await {
        AgentSaying::Answer(answer) => {
            assert_eq!(answer.id, id);
            assert!(
                matches!(answer.answer, Answer::Failed(error) if error.code == "docker_unavailable")
            );
        }
        other => panic!("not an answer: {other:?}"),
    }
    Ok(())
}

/// T9: a directory of any size is answered in one message that can travel, and says that it is cut.
#[tokio::test]
async fn a_long_directory_is_cut() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let mut server = Server::answers(&bench);
    let Work::Backup(work) = backup(&["a"]).work else {
        unreachable!("it is a backup");
    };
    for (limit, most) in [(10, 10), (5_000, 1_100)] {
        let question = Question::ListEntries(Box::new(ListEntries {
            repository: work.destinations[0].repository.clone(),
            snapshot: "0123abcd".parse()?,
            path: "/srv".to_owned(),
            limit,
        }));
        let id = RequestId::mint(NOW, &arkeep_core::SystemEntropy);
        server
            .say(ServerSaying::Query(Query { id, question }))
            .await?;

        match server.hear().await {
            AgentSaying::Answer(answer) => match answer.answer {
                Answer::Entries { entries, truncated } => {
                    assert!(truncated && entries.len() <= most, "{}", entries.len());
                }
                other => panic!("not entries: {other:?}"),
            },
            other => panic!("not an answer: {other:?}"),
        }
    }
    Ok(())
}

/// T7
#[tokio::test]
async fn a_new_trust_bundle_is_taken_over_and_said() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let mut server = Server::answers(&bench);
    let bundle = TrustBundle::new([vec![1], vec![2]])?;

    server.say(ServerSaying::Trust(bundle.clone())).await?;

    match server.hear().await {
        AgentSaying::Heartbeat(heartbeat) => assert_eq!(heartbeat.trust, bundle.digest()),
        other => panic!("not a heartbeat: {other:?}"),
    }
    Ok(())
}
