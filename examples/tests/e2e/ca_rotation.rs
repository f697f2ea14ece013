//! T7: the root is replaced under a real agent, which goes on; one that was away is named, and
//! enrols anew.

use std::error::Error;
use std::path::Path;

use arkeep_core::{Entropy as _, SystemEntropy};
use arkeep_examples::{Agent, AgentOptions, Programs, until};
use serde_json::{Value, json};

use crate::fleet::{EMAIL, Fleet, Outcome, PASSWORD, PATIENCE, new_agent};
use crate::join::sqlite;

/// Makes the phase as old as it must be for the next one, as if those minutes had passed.
fn wait_a_phase(data: &Path) -> Outcome {
    sqlite(
        &data.join("arkeep.db"),
        "PRAGMA busy_timeout = 10000; UPDATE ca_rotation SET since = since - 300000",
    )
}

/// Waits until these agents, and no others, are behind, for want of this.
async fn behind(fleet: &mut Fleet, expected: &[(&str, &str)]) -> Outcome {
    let expected = json!(expected);
    let mut last = Value::Null;
    let reached = until(PATIENCE, async || {
        fleet.api.log_in(EMAIL, PASSWORD).await.ok()?;
        let shown = fleet.api.get("/api/v1/ca").await.ok()?;
        last = shown.json["behind"]
            .as_array()?
            .iter()
            .map(|one| json!([one["name"], one["lacks"]]))
            .collect();
        (last == expected).then_some(())
    })
    .await;
    reached.ok_or_else(|| format!("{last} and not {expected}").into())
}

async fn rotate(fleet: &Fleet, body: Value) -> Result<String, Box<dyn Error>> {
    let answer = fleet.api.post("/api/v1/ca/rotate", &body).await?;
    Ok(answer.expect(202)?.str("/phase"))
}

/// `arkeep-server ca status`, beside the running server.
#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn status(fleet: &Fleet) -> Result<String, Box<dyn Error>> {
    let output = std::process::Command::new(&Programs::find()?.server)
        .args(["ca", "status", "--data-dir"])
        .arg(fleet.server.data_dir())
        .output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// T7
#[tokio::test(flavor = "multi_thread")]
async fn a_real_agent_follows_and_one_that_was_away_enrols_anew() -> Outcome {
    let mut fleet = Fleet::start().await?;
    let programs = Programs::find()?;
    let data = fleet.server.data_dir().to_owned();
    let source = fleet.large_source("source", 8)?;
    let policy = fleet
        .policy(&[&source], json!({"limits": {"upload_kib": 1024}}))
        .await?;
    let (away_id, token) = new_agent(&fleet.api, "away").await?;
    let state = fleet.path("away");
    Agent::enroll(&programs, &state, &token, &AgentOptions::default()).await?;

    // A backup is under way while the root is announced, and while certificates are replaced.
    let first = fleet.start_slow_run(&policy).await?;
    assert_eq!(rotate(&fleet, json!({})).await?, "announced");
    behind(&mut fleet, &[("away", "trust")]).await?;
    let told = status(&fleet)?;
    assert!(told.contains("waits for 1 agents"), "{told}");
    assert!(told.contains("away"), "{told}");
    wait_a_phase(&data)?;
    let refused = fleet.api.post("/api/v1/ca/rotate", &json!({})).await?;
    refused.expect(409)?;
    fleet.api.job_ended(&first, PATIENCE).await?;
    // What the first has stored would take no time.
    let mut more = vec![0; 8 << 20];
    SystemEntropy.fill(&mut more);
    std::fs::write(source.join("more"), more)?;
    let second = fleet.start_slow_run(&policy).await?;
    assert_eq!(rotate(&fleet, json!({"force": true})).await?, "issuing");

    let (newcomer_id, token) = new_agent(&fleet.api, "newcomer").await?;
    let state_of_newcomer = fleet.path("newcomer");
    Agent::enroll(
        &programs,
        &state_of_newcomer,
        &token,
        &AgentOptions::default(),
    )
    .await?;
    let _newcomer = Agent::start(&programs, &state_of_newcomer, AgentOptions::default())?;
    fleet.api.agent_in(&newcomer_id, "online", PATIENCE).await?;
    wait_a_phase(&data)?;
    // The real agent is asked to renew, and comes back with the new certificate.
    behind(&mut fleet, &[("away", "certificate")]).await?;
    assert_eq!(rotate(&fleet, json!({"force": true})).await?, "settled");

    let ended = fleet.api.job_ended(&second, PATIENCE).await?;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let third = fleet.run(&policy).await?;
    assert_eq!(third["state"], "succeeded", "{third}");
    behind(&mut fleet, &[("away", "enrolment")]).await?;
    assert!(status(&fleet)?.contains("must enrol anew"));
    let mut away = Agent::start(&programs, &state, AgentOptions::default())?;
    let said = until(PATIENCE, async || {
        let log = away.process().log();
        log.contains("enrol anew").then_some(())
    });
    said.await.ok_or("the agent did not say what to do")?;
    away.process().stop().await?;
    let path = format!("/api/v1/agents/{away_id}/join-token");
    let offered = fleet.api.post(&path, &json!({})).await?.expect(200)?;
    let token = offered.str("/join_token");
    Agent::enroll(&programs, &state, &token, &AgentOptions::default()).await?;
    away.start_again()?;
    fleet.api.agent_in(&away_id, "online", PATIENCE).await?;
    behind(&mut fleet, &[]).await?;
    let trust = std::fs::read_to_string(state.join("identity/trust.pem"))?;
    assert_eq!(trust.matches("BEGIN CERTIFICATE").count(), 1);
    Ok(())
}
