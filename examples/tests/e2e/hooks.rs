//! Hooks, as the agent's owner allows them.

use arkeep_examples::AgentOptions;
use serde_json::{Value, json};

use crate::fleet::{Fleet, Outcome};

fn hook(exec: &[&str]) -> Value {
    json!({"name": "hook", "exec": exec, "timeout": 20})
}

/// H6, H10: with the default policy nothing runs, the log says which file to change, and the API
/// said before what would happen.
#[tokio::test(flavor = "multi_thread")]
async fn are_off_unless_the_owner_allows_them() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.source("source")?;
    let marker = fleet.path("marker");
    let touch = hook(&["/usr/bin/touch", &marker.display().to_string()]);
    let policy = fleet
        .policy(&[&source], json!({"hooks": {"before": [touch]}}))
        .await?;

    let agent = fleet
        .api
        .get(&format!("/api/v1/agents/{}", fleet.agent_id))
        .await?
        .expect(200)?;
    assert_eq!(agent.str("/hook_policy"), "off");
    let sandbox = agent.str("/sandbox");
    assert!(sandbox.contains("complete"), "{sandbox}");

    let job = fleet.run(&policy).await?;

    assert!(!marker.exists(), "a hook ran that nobody allowed");
    assert_eq!(job["state"], "failed", "{job}");
    assert_eq!(job["hooks"][0]["state"], "refused", "{job}");
    let log = fleet.log_of(&job).await?;
    assert!(log.contains("agent.toml"), "{log}");
    assert!(log.contains("policy"), "{log}");
    Ok(())
}

/// H4, H6, H7, H10: an allowed program runs without a shell and without the agent's environment.
#[tokio::test(flavor = "multi_thread")]
async fn run_as_listed_with_an_environment_of_their_own() -> Outcome {
    let fleet = Fleet::start_with(|_| AgentOptions {
        config: "[hooks]\npolicy = \"allow-list\"\nallow = [[\"/usr/bin/env\"], [\"/usr/bin/printf\", \"*\"]]\n"
            .to_owned(),
        environment: vec![("ARKEEP_CANARY".into(), "canary-51d0".into())],
        ..AgentOptions::default()
    })
    .await?;
    let source = fleet.source("source")?;
    let hooks = json!({
        "before": [hook(&["/usr/bin/env"])],
        "after": [hook(&["/usr/bin/printf", "$(id) `id` $HOME"])],
    });
    let policy = fleet.policy(&[&source], json!({"hooks": hooks})).await?;

    let job = fleet.run(&policy).await?;

    assert_eq!(job["state"], "succeeded", "{job}");
    let environment = job["hooks"][0]["output"].as_str().unwrap_or_default();
    assert!(environment.contains("BACKUP_"), "{environment}");
    assert!(!environment.contains("canary"), "{environment}");
    assert_eq!(job["hooks"][1]["output"], "$(id) `id` $HOME", "{job}");
    Ok(())
}

/// H10: a failing hook before stops the job; hooks after run all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_hook_before_stops_the_job() -> Outcome {
    let fleet = Fleet::start_with(|scratch| AgentOptions {
        config: format!(
            "[hooks]\npolicy = \"allow-list\"\nallow = [[\"/usr/bin/false\"], [\"/usr/bin/touch\", {}]]\n",
            json!(format!("{}/*", scratch.display()))
        ),
        ..AgentOptions::default()
    })
    .await?;
    let source = fleet.source("source")?;
    let (after, failure) = (fleet.path("after"), fleet.path("on-failure"));
    let touch = |path: &std::path::Path| hook(&["/usr/bin/touch", &path.display().to_string()]);
    let hooks = json!({
        "before": [hook(&["/usr/bin/false"])],
        "after": [touch(&after)],
        "on_failure": [touch(&failure)],
    });
    let policy = fleet.policy(&[&source], json!({"hooks": hooks})).await?;

    let job = fleet.run(&policy).await?;

    assert_eq!(job["state"], "failed", "{job}");
    assert_eq!(job["hooks"][0]["exit_code"], 1, "{job}");
    assert!(after.exists() && failure.exists(), "{job}");
    assert!(
        !fleet.repository(&policy).exists(),
        "restic ran all the same"
    );
    Ok(())
}
