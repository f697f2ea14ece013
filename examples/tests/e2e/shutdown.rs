//! Being asked to stop.

use std::time::Duration;

use serde_json::json;

use crate::fleet::{Fleet, Outcome, PATIENCE, locks, text};

/// G9: restic is stopped, the job is reported, no lock is left.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_stops_its_backup_and_says_so() -> Outcome {
    let mut fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 24)?;
    let policy = fleet
        .policy(&[&source], json!({"limits": {"upload_kib": 1024}}))
        .await?;
    let job = fleet.start_slow_run(&policy).await?;

    let status = fleet.agent.process().stop().await?;
    let left = locks(&fleet.repository(&policy));
    fleet.agent.start_again()?;
    let ended = fleet.api.job_ended(&job, PATIENCE).await?;

    assert_eq!(status.code(), Some(0), "{}", fleet.agent.process().log());
    assert!(left.is_empty(), "a lock is left: {left:?}");
    let state = text(&ended, "/state");
    assert!(
        ["cancelled", "succeeded"].contains(&state.as_str()),
        "{ended}"
    );
    Ok(())
}

/// The server drains, and the agent it served carries on.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_stops_while_a_backup_runs() -> Outcome {
    let mut fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 6)?;
    let policy = fleet
        .policy(&[&source], json!({"limits": {"upload_kib": 2048}}))
        .await?;
    let job = fleet.start_slow_run(&policy).await?;

    let status = fleet.server.process().stop().await?;
    fleet.server.start_again().await?;
    let ended = fleet.api.job_ended(&job, PATIENCE).await?;

    assert_eq!(status.code(), Some(0), "{}", fleet.server.process().log());
    assert_eq!(ended["state"], "succeeded", "{ended}");
    Ok(())
}

/// G9: cancelling stops restic, and the next backup finds no lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_leaves_nothing_behind() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 24)?;
    let policy = fleet
        .policy(&[&source], json!({"limits": {"upload_kib": 1024}}))
        .await?;
    let job = fleet.start_slow_run(&policy).await?;

    let answer = fleet
        .api
        .post(&format!("/api/v1/jobs/{job}/cancel"), &json!({}))
        .await?;
    let ended = fleet.api.job_ended(&job, Duration::from_secs(30)).await?;

    assert!((200..300).contains(&answer.status), "{}", answer.text);
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert!(locks(&fleet.repository(&policy)).is_empty());
    assert_eq!(fleet.snapshots(&policy).await?.len(), 0);
    Ok(())
}
