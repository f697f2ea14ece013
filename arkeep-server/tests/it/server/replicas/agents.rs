use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arkeep_core::job::{Assignment, JobReport, ReportBody};
use arkeep_core::{Clock, SystemClock};
use arkeep_transport::client::{Connector, ConnectorParts, Link, enroll};
use arkeep_transport::session::{AgentSaying, EngineStatus, HeldJob, Hello, ServerSaying};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::client::Client;
use super::super::{ADA, Fallible, PASSWORD, eventually};
use super::{Replica, Site};

/// A machine whose stream is open at one replica.
pub(super) struct Machine {
    pub(super) id: String,
    connector: Connector,
    pub(super) link: Link,
}

/// Makes an agent at one replica, and connects it to another.
pub(super) async fn machine(admin: &mut Client, name: &str, to: &Replica) -> Fallible<Machine> {
    let made = admin
        .create("/api/v1/agents", &json!({ "name": name }))
        .await?;
    let token = made.get("join_token").and_then(Value::as_str);
    let token = token.unwrap_or_default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let me = enroll(&token.parse()?, &clock).await?;
    let connector = Connector::new(ConnectorParts {
        server: to.grpc.parse()?,
        credential: me.credential,
        trust: me.trust,
        clock,
    })?;
    let link = connector.connect(&hello(&connector)).await?;
    Ok(Machine {
        id: me.agent.to_string(),
        connector,
        link,
    })
}

fn hello(connector: &Connector) -> Hello {
    Hello {
        agent_version: "0.1.0".to_owned(),
        hostname: "db1".to_owned(),
        os: "Debian 12".to_owned(),
        arch: "x86_64".to_owned(),
        engine: EngineStatus::Unusable("there is no restic".to_owned()),
        hook_policy: "off".to_owned(),
        sandbox: "none".to_owned(),
        docker: false,
        held: Vec::new(),
        trust: connector.trust().digest(),
    }
}

impl Machine {
    async fn next(&mut self) -> Fallible<ServerSaying> {
        Ok(tokio::time::timeout(PATIENCE, self.link.next()).await??)
    }

    pub(super) async fn assignment(&mut self) -> Fallible<Assignment> {
        loop {
            if let ServerSaying::Assignment(assignment) = self.next().await? {
                return Ok(*assignment);
            }
        }
    }

    /// Waits until the stream has ended.
    async fn cut_off(&mut self) -> Fallible {
        let ended = async { while self.link.next().await.is_ok() {} };
        Ok(tokio::time::timeout(PATIENCE, ended).await?)
    }

    pub(super) async fn begin(&mut self, assignment: &Assignment) -> Fallible {
        let accepted = AgentSaying::Accepted(HeldJob::from(assignment));
        self.link.send(&accepted).await?;
        let report = JobReport {
            job: assignment.job,
            attempt: assignment.attempt,
            fence: assignment.fence,
            sequence: 1,
            at: SystemClock.now(),
            body: ReportBody::Started,
        };
        self.link.send(&AgentSaying::Report(report)).await?;
        Ok(())
    }
}

pub(super) async fn policy(admin: &mut Client, agent: &str, name: &str) -> Fallible<String> {
    let disk = json!({"name": name, "kind": "local", "location": {"path": format!("/srv/{name}")}});
    let disk = admin.create("/api/v1/destinations", &disk).await?;
    let body = json!({
        "name": name,
        "agent_id": agent,
        "sources": [{"path": "/etc"}],
        "destinations": [{"destination_id": disk.get("id")}],
    });
    let policy = admin.create("/api/v1/policies", &body).await?;
    let id = policy.get("id").and_then(Value::as_str);
    Ok(id.unwrap_or_default().to_owned())
}

pub(super) async fn run(admin: &mut Client, policy: &str) -> Fallible<String> {
    let path = format!("/api/v1/policies/{policy}/run");
    let started = admin.post(&path, &json!({})).await?.expect(202)?;
    Ok(started.string("/job_id"))
}

async fn job(admin: &Client, id: &str) -> Fallible<Value> {
    let path = format!("/api/v1/jobs/{id}");
    Ok(admin.clone().get(&path).await?.expect(200)?.json)
}

/// T5, S2: revoked or removed at one replica, an agent's stream at the other ends within a second, and
/// is not opened again.
#[tokio::test(flavor = "multi_thread")]
async fn revoking_an_agent_ends_its_stream_at_the_other_replica() -> Fallible {
    let site = Site::new().await?;
    let (_one, two, mut admin) = site.two().await?;

    for way in ["revoke", "remove"] {
        let fastest = fastest_end(&mut admin, &two, way).await?;

        assert!(fastest <= Duration::from_secs(1), "{way}: {fastest:?}");
    }
    Ok(())
}

/// T5: with five hundred streams at two servers, 99 of 100 end within a second of the answer of a third that
/// takes all of them back at once.
#[tokio::test(flavor = "multi_thread")]
async fn of_five_hundred_streams_at_others_all_but_five_end_within_a_second() -> Fallible {
    let site = Site::new().await?;
    let (one, two, admin) = site.two().await?;
    let three = site.start("three").await?;
    let (mut ends, mut agents) = (JoinSet::new(), Vec::new());
    for numbers in (0..STREAMS).collect::<Vec<_>>().chunks(10) {
        let connecting = numbers.iter().map(|number| {
            let (mut admin, at) = (admin.clone(), [&two, &three][number % 2]);
            async move { machine(&mut admin, &format!("db{number}"), at).await }
        });
        for machine in futures_util::future::join_all(connecting).await {
            let mut machine = machine?;
            agents.push(machine.id.clone());
            ends.spawn(async move {
                while machine.link.next().await.is_ok() {}
                (machine.id, Instant::now())
            });
        }
    }
    // Making them took longer than a login stays fresh on a slow machine.
    let mut admin = Client::new(&one.http);
    admin.log_in(ADA, PASSWORD).await?;

    let mut answered = HashMap::new();
    for some in agents.chunks(10) {
        let revoked = some.iter().map(|id| {
            let mut admin = admin.clone();
            async move {
                let path = format!("/api/v1/agents/{id}/revoke");
                let asked = Instant::now();
                admin.post(&path, &json!({})).await?.expect(200)?;
                Fallible::Ok((id.clone(), (asked, Instant::now())))
            }
        });
        for revoked in futures_util::future::join_all(revoked).await {
            let (id, at) = revoked?;
            answered.insert(id, at);
        }
    }
    let (mut lasted, mut in_all) = (Vec::new(), Vec::new());
    while let Some(ended) = tokio::time::timeout(PATIENCE, ends.join_next()).await? {
        let (id, ended) = ended?;
        let (asked, at) = answered.get(&id).ok_or("it ended before it was revoked")?;
        lasted.push(ended.saturating_duration_since(*at));
        in_all.push(ended.saturating_duration_since(*asked));
    }

    lasted.sort();
    in_all.sort();
    let late = |of: &[Duration]| of[STREAMS - 1 - STREAMS / 100];
    println!(
        "{STREAMS} streams, 99th percentile: {:?} after the answer, {:?} after the request",
        late(&lasted),
        late(&in_all)
    );
    assert_eq!(lasted.len(), STREAMS);
    assert!(late(&lasted) <= Duration::from_secs(1), "{lasted:?}");
    Ok(())
}

const STREAMS: usize = 500;

/// T5: the same when no replica is told anything: whoever holds streams looks besides.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notice_delays_the_end_by_half_a_second() -> Fallible {
    let site = Site::new().await?;
    let (_one, two, mut admin) = site.two().await?;
    let mut machine = machine(&mut admin, "db1", &two).await?;
    let policy = policy(&mut admin, &machine.id, "nightly").await?;
    let mut raw = site.raw().await?;
    for silence in [
        "ALTER TABLE jobs DISABLE TRIGGER jobs_added_told",
        "ALTER TABLE agents DISABLE TRIGGER agents_told",
    ] {
        sqlx::query(silence).execute(&mut raw).await?;
    }

    let job = run(&mut admin, &policy).await?;
    let assignment = machine.assignment().await?;
    let fastest = fastest_end(&mut admin, &two, "revoke").await?;

    assert_eq!(assignment.job.to_string(), job);
    assert!(fastest <= Duration::from_secs(1), "{fastest:?}");
    Ok(())
}

/// Ends a few agents one after the other, and says how long their streams lasted at best: a machine
/// under load may well be late.
async fn fastest_end(admin: &mut Client, at: &Replica, way: &str) -> Fallible<Duration> {
    let mut fastest = Duration::MAX;
    for number in 0..5 {
        let mut machine = machine(admin, &format!("{way}{number}"), at).await?;
        let path = format!("/api/v1/agents/{}", machine.id);
        match way {
            "revoke" => {
                let path = format!("{path}/revoke");
                admin.post(&path, &json!({})).await?.expect(200)?;
            }
            _ => {
                admin.delete(&path).await?.expect(204)?;
            }
        }
        let began = Instant::now();
        machine.cut_off().await?;
        fastest = fastest.min(began.elapsed());
        let again = machine.connector.connect(&hello(&machine.connector)).await;
        assert!(again.is_err(), "{way}");
        if fastest <= Duration::from_secs(1) {
            break;
        }
    }
    Ok(fastest)
}

/// S2: a job that is asked for at one replica starts at the other, and is cancelled from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_starts_and_is_cancelled_wherever_its_agent_is() -> Fallible {
    let site = Site::new().await?;
    let (_one, two, mut admin) = site.two().await?;
    let mut machine = machine(&mut admin, "db1", &two).await?;
    let policy = policy(&mut admin, &machine.id, "nightly").await?;

    let began = Instant::now();
    let id = run(&mut admin, &policy).await?;
    let assignment = machine.assignment().await?;
    let took = began.elapsed();
    machine.begin(&assignment).await?;
    eventually(async || Ok(job(&admin, &id).await?["state"] == "running")).await?;
    let path = format!("/api/v1/jobs/{id}/cancel");
    admin.post(&path, &json!({})).await?.expect(202)?;
    let cancel = loop {
        if let ServerSaying::Cancel(cancel) = machine.next().await? {
            break cancel;
        }
    };

    assert_eq!(assignment.job.to_string(), id);
    assert_eq!(
        (cancel.job, cancel.fence),
        (assignment.job, assignment.fence)
    );
    // Without a notice its next sign of life would bring it, half a minute later.
    assert!(took < Duration::from_secs(15), "{took:?}");
    Ok(())
}

/// S2: a job that was asked for at a replica that then died is given out by the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_the_replica_that_took_it() -> Fallible {
    let site = Site::new().await?;
    let (mut one, two, mut admin) = site.two().await?;
    let mut machine = machine(&mut admin, "db1", &one).await?;
    let policy = policy(&mut admin, &machine.id, "nightly").await?;

    let id = run(&mut admin, &policy).await?;
    one.process.kill().await?;
    machine.cut_off().await?;
    let connector = Connector::new(ConnectorParts {
        server: two.grpc.parse()?,
        credential: machine.connector.credential(),
        trust: machine.connector.trust(),
        clock: Arc::new(SystemClock),
    })?;
    machine.link = connector.connect(&hello(&connector)).await?;
    let assignment = machine.assignment().await?;

    assert_eq!(assignment.job.to_string(), id);
    let mut elsewhere = Client::new(&two.http);
    elsewhere.log_in(ADA, PASSWORD).await?;
    let listed = elsewhere.get("/api/v1/jobs").await?.expect(200)?.json;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    Ok(())
}

/// T8: an agent that has gone to another replica has one stream, the newer.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_at_the_other_replica_ends_the_older() -> Fallible {
    let site = Site::new().await?;
    let (one, two, mut admin) = site.two().await?;
    let mut older = machine(&mut admin, "db1", &one).await?;
    let policy = policy(&mut admin, &older.id, "nightly").await?;
    let connector = Connector::new(ConnectorParts {
        server: two.grpc.parse()?,
        credential: older.connector.credential(),
        trust: older.connector.trust(),
        clock: Arc::new(SystemClock),
    })?;

    let link = connector.connect(&hello(&connector)).await?;
    older.cut_off().await?;
    let mut newer = Machine {
        id: older.id,
        connector,
        link,
    };

    let id = run(&mut admin, &policy).await?;
    assert_eq!(newer.assignment().await?.job.to_string(), id);
    Ok(())
}

/// S2, S3: a tick that every replica sees makes one job.
#[tokio::test(flavor = "multi_thread")]
async fn a_tick_makes_one_job_on_all_replicas() -> Fallible {
    let site = Site::new().await?;
    let (_one, _two, mut admin) = site.two().await?;
    let _three = site.start("three").await?;
    let agent = admin
        .create("/api/v1/agents", &json!({"name": "db1"}))
        .await?;
    let id = agent["agent"]["id"].as_str().unwrap_or_default();
    let policy = policy(&mut admin, id, "often").await?;
    let path = format!("/api/v1/policies/{policy}");
    let schedule = json!({"schedule": {"cron": "* * * * *", "timezone": "UTC", "jitter": 0}});
    admin.patch(&path, &schedule).await?.expect(200)?;
    // Each replica has seen the schedule, and an hour went by in which none looked.
    let mut raw = site.raw().await?;
    eventually(async || {
        let mut raw = site.raw().await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM schedule_marks")
            .fetch_one(&mut raw)
            .await?;
        Ok(count == 1)
    })
    .await?;

    sqlx::query("UPDATE schedule_marks SET up_to = up_to - 3600000")
        .execute(&mut raw)
        .await?;
    eventually(async || {
        let mut raw = site.raw().await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs")
            .fetch_one(&mut raw)
            .await?;
        Ok(count > 0)
    })
    .await?;

    // One for each tick, and at most one that waits.
    let (jobs, waiting): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(*) FILTER (WHERE state = 'queued') FROM jobs")
            .fetch_one(&mut raw)
            .await?;
    let (ticks, distinct): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(DISTINCT scheduled_for) FROM job_ticks")
            .fetch_one(&mut raw)
            .await?;
    assert_eq!((jobs, waiting), (1, 1));
    assert_eq!(ticks, distinct);
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(30);
