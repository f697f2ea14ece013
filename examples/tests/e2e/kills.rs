//! Power cuts, as `kill -9` makes them.

use serde_json::json;

use crate::fleet::{Fleet, Outcome, PATIENCE, locks, text};

/// G10, S5, G9: both die in the same moment while restic runs; both come back.
#[tokio::test(flavor = "multi_thread")]
async fn both_killed_while_restic_runs_tell_the_truth_once() -> Outcome {
    let mut fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 24)?;
    let policy = fleet
        .policy(&[&source], json!({"limits": {"upload_kib": 1024}}))
        .await?;
    let job = fleet.start_slow_run(&policy).await?;

    let (server, agent) = (fleet.server.process(), fleet.agent.process());
    let (server_gone, agent_gone) = tokio::join!(server.kill_9(), agent.kill_9());
    server_gone?;
    agent_gone?;
    fleet.server.start_again().await?;
    fleet.agent.start_again()?;
    let ended = fleet.api.job_ended(&job, PATIENCE).await?;

    assert!(
        ["failed", "partial"].contains(&text(&ended, "/state").as_str()),
        "{ended}"
    );
    assert!(ended.to_string().contains("interrupted"), "{ended}");
    assert_eq!(ended["attempt"], 1, "it was run twice: {ended}");
    let jobs = fleet
        .api
        .get("/api/v1/jobs?kind=backup")
        .await?
        .expect(200)?;
    assert_eq!(
        jobs.json["items"].as_array().map(Vec::len),
        Some(1),
        "{}",
        jobs.text
    );

    let quick = fleet.source("quick")?;
    let patched = json!({"sources": [{"path": quick}], "limits": {}});
    let path = format!("/api/v1/policies/{}", text(&policy, "/id"));
    fleet
        .api
        .send(reqwest::Method::PATCH, &path, Some(&patched))
        .await?
        .expect(200)?;
    let next = fleet.run(&policy).await?;
    assert_eq!(
        next["state"], "succeeded",
        "the next backup met something in its way: {next}"
    );
    assert_eq!(
        locks(&fleet.repository(&policy)),
        Vec::<std::path::PathBuf>::new()
    );
    Ok(())
}

/// S5, G10: the server dies while restic runs; the agent finishes, and tells it later.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_learns_the_outcome() -> Outcome {
    let mut fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 8)?;
    let policy = fleet
        .policy(&[&source], json!({"limits": {"upload_kib": 2048}}))
        .await?;
    let job = fleet.start_slow_run(&policy).await?;

    fleet.server.process().kill_9().await?;
    let repository = fleet.repository(&policy);
    let released = arkeep_examples::until(PATIENCE, async || {
        locks(&repository).is_empty().then_some(())
    });
    released
        .await
        .ok_or("restic did not finish without the server")?;
    fleet.server.start_again().await?;
    let ended = fleet.api.job_ended(&job, PATIENCE).await?;

    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["attempt"], 1, "{ended}");
    assert_eq!(fleet.snapshots(&policy).await?.len(), 1);
    Ok(())
}

/// G10: the agent dies while restic runs; restic dies with it, and the job is no success.
#[tokio::test(flavor = "multi_thread")]
async fn restic_does_not_outlive_its_agent() -> Outcome {
    let mut fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 24)?;
    let policy = fleet
        .policy(&[&source], json!({"limits": {"upload_kib": 1024}}))
        .await?;
    let job = fleet.start_slow_run(&policy).await?;
    let mark = fleet.repository(&policy).display().to_string();

    fleet.agent.process().kill_9().await?;
    let gone = arkeep_examples::until(PATIENCE, async || {
        processes_naming(&mark).is_empty().then_some(())
    });
    gone.await.ok_or("restic runs on without its agent")?;
    fleet.agent.start_again()?;
    let ended = fleet.api.job_ended(&job, PATIENCE).await?;

    assert_ne!(ended["state"], "succeeded", "{ended}");
    assert!(ended.to_string().contains("interrupted"), "{ended}");
    Ok(())
}

/// S5: what was acknowledged over HTTP is there after a kill.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_kill() -> Outcome {
    let mut fleet = Fleet::start().await?;
    let source = fleet.source("source")?;
    let policy = fleet.policy(&[&source], json!({})).await?;
    fleet.agent.process().kill_9().await?;
    let job = fleet.start_run(&policy).await?;

    fleet.server.process().kill_9().await?;
    fleet.server.start_again().await?;
    fleet.agent.start_again()?;
    let ended = fleet.api.job_ended(&job, PATIENCE).await?;

    assert_eq!(ended["state"], "succeeded", "{ended}");
    Ok(())
}

/// Processes that name `mark` in their command line.
fn processes_naming(mark: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .filter(|line| line.contains("restic") && line.contains(mark))
        .collect()
}
