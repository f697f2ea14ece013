//! Secrets that were sent in, looked for wherever something is kept or told.

use std::fs;
use std::path::Path;

use arkeep_examples::{Agent, AgentOptions, Programs, Server, free_port};
use serde_json::json;

use crate::fleet::{EMAIL, Fleet, Outcome, PASSWORD, PATIENCE, new_agent, scratch, text};

const OF_REPOSITORY: &str = "canary-5d1f0b7a93";
const OF_DESTINATION: &str = "canary-e62c48d01f";
const CANARIES: [&str; 2] = [OF_REPOSITORY, OF_DESTINATION];

/// A server and an agent that log everything that they can.
async fn talkative() -> Result<Fleet, Box<dyn std::error::Error>> {
    let scratch = scratch()?;
    let programs = Programs::find()?;
    let data_dir = scratch.path().join("server");
    let server = Server::start(&programs, &data_dir, &["--log-level", "trace"]).await?;
    let api = server.set_up(EMAIL, PASSWORD).await?;
    let (agent_id, token) = new_agent(&api, "machine").await?;
    let state_dir = scratch.path().join("agent");
    let mut options = AgentOptions::default();
    let level = ("ARKEEP_LOG_LEVEL".into(), "trace".into());
    options.environment.push(level);
    Agent::enroll(&programs, &state_dir, &token, &options).await?;
    let agent = Agent::start(&programs, &state_dir, options)?;
    api.agent_in(&agent_id, "online", PATIENCE).await?;
    Ok(Fleet {
        scratch,
        server,
        api,
        agent,
        agent_id,
    })
}

fn clean(place: &str, bytes: &[u8]) {
    for canary in CANARIES {
        let needle = canary.as_bytes();
        let found = bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!found, "{canary} is in {place}");
    }
}

/// Every file below a directory.
fn all_clean(directory: &Path) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            all_clean(&path)?;
        } else if path.is_file() {
            clean(&path.display().to_string(), &fs::read(&path)?);
        }
    }
    Ok(())
}

/// V4: of a run that succeeds, and of one whose repository cannot be reached, where the programs
/// have most to say. The answer to the request that sets a secret counts as any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_file_log_or_answer_of_either_side() -> Outcome {
    let mut fleet = talkative().await?;
    let source = fleet.source("source")?;
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let body = json!({
        "name": "nobody listens",
        "kind": "rest",
        "location": {"url": nobody},
        "credentials": {"username": "u", "password": OF_DESTINATION},
    });
    let unreachable = fleet.api.create("/api/v1/destinations", &body).await?;
    clean(
        "the destination's answer",
        unreachable.to_string().as_bytes(),
    );

    let secret = json!({"name": "one", "repository_password": OF_REPOSITORY});
    let one = fleet.policy(&[&source], secret).await?;
    let secret = json!({"name": "two", "repository_password": OF_REPOSITORY});
    let two = text(&unreachable, "/id");
    let two = fleet.policy_to(&two, &[&source], secret).await?;
    clean("a policy's answer", format!("{one}{two}").as_bytes());
    let (good, bad) = (fleet.run(&one).await?, fleet.run(&two).await?);
    assert_eq!(good["state"], "succeeded", "{good}");
    assert_eq!(bad["state"], "failed", "{bad}");

    for list in [
        "agents",
        "destinations",
        "policies",
        "jobs",
        "snapshots",
        "users",
    ] {
        let answer = fleet
            .api
            .get(&format!("/api/v1/{list}"))
            .await?
            .expect(200)?;
        clean(list, answer.text.as_bytes());
        let items = answer.json["items"].as_array().cloned();
        for item in items.unwrap_or_default() {
            let path = format!("/api/v1/{list}/{}", text(&item, "/id"));
            clean(
                &path,
                fleet.api.get(&path).await?.expect(200)?.text.as_bytes(),
            );
        }
    }
    for job in [&good, &bad] {
        clean("a job's log", fleet.log_of(job).await?.as_bytes());
    }
    // As it lies there while both run, with the write-ahead log.
    let data_dir = fleet.path("server");
    for name in ["arkeep.db", "arkeep.db-wal", "arkeep.db-shm"] {
        assert!(data_dir.join(name).exists(), "{name}");
    }
    all_clean(&data_dir)?;
    all_clean(&fleet.path("agent"))?;

    fleet.agent.process().stop().await?;
    fleet.server.process().stop().await?;
    all_clean(&data_dir)?;
    all_clean(&fleet.path("agent"))?;
    for (name, log) in [
        ("the server's log", fleet.server.process().log()),
        ("the agent's log", fleet.agent.process().log()),
    ] {
        assert!(log.contains("TRACE"), "{name} says little");
        clean(name, log.as_bytes());
    }
    Ok(())
}
