use arkeep_core::job::{JobError, JobReport, Outcome, ReportBody};
use arkeep_core::{Clock as _, SystemClock};
use arkeep_transport::session::AgentSaying;
use serde_json::json;

use super::super::channels::{CHANNELS, steal, webhook};
use super::super::client::Client;
use super::super::receiver::{Answer, Receiver};
use super::super::{ADA, Fallible, PASSWORD, eventually};
use super::Site;
use super::agents::{machine, policy, run};

/// S2, S13: two servers tell a receiver of each event once, in order, also of those that happened while
/// it was away.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_tell_once_and_in_order() -> Fallible {
    let site = Site::new().await?;
    let allow = [("ARKEEP_OUTBOUND_ALLOW", "127.0.0.0/8")];
    let one = site.start_with("one", &allow).await?;
    let mut admin = site.set_up(&one, "one").await?;
    let two = site.start_with("two", &allow).await?;
    let receiver = Receiver::start().await?;
    receiver.answers(Answer::Status(500));
    let body = webhook("hook", &receiver.url, &["security.*"]);
    admin.create(CHANNELS, &body).await?;

    for at in [&one, &two, &one, &two] {
        let mut client = Client::new(&at.http);
        client.log_in(ADA, PASSWORD).await?;
        steal(&client).await?;
    }
    receiver.until(1).await?;
    receiver.answers(Answer::Status(200));
    admin.log_in(ADA, PASSWORD).await?;
    eventually(async || {
        let mut admin = admin.clone();
        let path = "/api/v1/deliveries?state=delivered";
        let shown = admin.get(path).await?.expect(200)?;
        Ok(shown.json["items"].as_array().map(Vec::len) == Some(4))
    })
    .await?;

    let shown = admin.get("/api/v1/deliveries").await?.expect(200)?;
    let mut written: Vec<_> = shown.json["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| item["id"].clone())
        .collect();
    written.reverse();
    let told = receiver.seen().into_iter();
    let mut told: Vec<_> = told.map(|one| one.json()["id"].clone()).collect();
    let attempts: u64 = shown.json["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["attempts"].as_u64())
        .sum();
    assert_eq!(json!(attempts), json!(told.len()), "each attempt was noted");
    told.dedup();
    assert_eq!(told, written);
    Ok(())
}

/// S2, S13: how a job ends at one server is told by whichever server comes first, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_reports_is_told() -> Fallible {
    let site = Site::new().await?;
    let allow = [("ARKEEP_OUTBOUND_ALLOW", "127.0.0.0/8")];
    let one = site.start_with("one", &allow).await?;
    let mut admin = site.set_up(&one, "one").await?;
    let two = site.start_with("two", &allow).await?;
    let receiver = Receiver::start().await?;
    let events = ["job.succeeded", "job.partial", "job.failed"];
    let body = webhook("hook", &receiver.url, &events);
    admin.create(CHANNELS, &body).await?;
    let mut agent = machine(&mut admin, "db1", &two).await?;
    let policy = policy(&mut admin, &agent.id, "nightly").await?;
    let id = run(&mut admin, &policy).await?;

    let assignment = agent.assignment().await?;
    agent.begin(&assignment).await?;
    let report = JobReport {
        job: assignment.job,
        attempt: assignment.attempt,
        fence: assignment.fence,
        sequence: 2,
        at: SystemClock.now(),
        body: ReportBody::Finished {
            outcome: Outcome::Failed,
            error: Some(JobError {
                code: "disk_full".to_owned(),
                detail: "no room is left".to_owned(),
            }),
            results: Vec::new(),
            hooks: Vec::new(),
        },
    };
    agent.link.send(&AgentSaying::Report(report)).await?;
    receiver.until(1).await?;

    let told = receiver.seen().remove(0).json();
    assert_eq!(told["type"], "job.failed");
    assert_eq!(told["title"], "Backup of nightly on db1 failed");
    assert_eq!(told["text"], "no room is left");
    assert_eq!(told["data"]["job_id"], json!(id));
    assert_eq!(told["data"]["error"]["code"], "disk_full");
    Ok(())
}
