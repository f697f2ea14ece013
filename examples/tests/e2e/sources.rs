//! Sources that are not there, cannot be read, or look like something else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use arkeep_examples::AgentOptions;
use serde_json::json;

use crate::fleet::{Fleet, Outcome, is_root, restic, text};

/// S4
#[tokio::test(flavor = "multi_thread")]
async fn all_missing_is_a_failure() -> Outcome {
    let fleet = Fleet::start().await?;
    let (one, two) = (fleet.path("not there"), fleet.path("nor there"));
    let policy = fleet.policy(&[&one, &two], json!({})).await?;

    let job = fleet.run(&policy).await?;

    assert_eq!(job["state"], "failed", "{job}");
    assert!(
        job.to_string().contains("not there"),
        "the missing source is not named: {job}"
    );
    assert_eq!(fleet.snapshots(&policy).await?.len(), 0);
    Ok(())
}

/// S4: restic before 0.19 exits with 0 here.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_missing_is_partial_with_its_snapshot() -> Outcome {
    let fleet = Fleet::start().await?;
    let (there, gone) = (fleet.source("there")?, fleet.path("not there"));
    let policy = fleet.policy(&[&there, &gone], json!({})).await?;

    let job = fleet.run(&policy).await?;

    assert_eq!(job["state"], "partial", "{job}");
    assert!(
        job.to_string().contains("not there"),
        "the missing source is not named: {job}"
    );
    let snapshots = fleet.snapshots(&policy).await?;
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0]["restic_id"], job["results"][0]["snapshot_id"]);
    Ok(())
}

/// S4: restic saves a link as a link, without what it leads to, and calls that a success.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_partial_and_one_to_nowhere_is_missing() -> Outcome {
    let fleet = Fleet::start().await?;
    let (real, link) = (fleet.source("real")?, fleet.path("link"));
    std::os::unix::fs::symlink(&real, &link)?;
    let dangling = fleet.path("dangling");
    std::os::unix::fs::symlink(fleet.path("nowhere"), &dangling)?;

    let destination = fleet.destination(&fleet.path("repositories")).await?;
    let named = |name: &str| json!({"name": name});
    let to_link = fleet
        .policy_to(&destination, &[&link], named("a link"))
        .await?;
    let to_nowhere = fleet
        .policy_to(&destination, &[&dangling], named("nowhere"))
        .await?;
    let linked = fleet.run(&to_link).await?;
    let nowhere = fleet.run(&to_nowhere).await?;

    assert_eq!(linked["state"], "partial", "{linked}");
    let detail = linked.to_string();
    assert!(
        detail.contains("is a link") && detail.contains(&real.display().to_string()),
        "{linked}"
    );
    assert_eq!(nowhere["state"], "failed", "{nowhere}");
    assert_eq!(fleet.snapshots(&to_nowhere).await?.len(), 0);
    Ok(())
}

/// S4, S15
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_and_a_relative_path_are_refused() -> Outcome {
    let fleet = Fleet::start().await?;
    let destination = fleet.destination(&fleet.path("repositories")).await?;

    for sources in [
        json!([]),
        json!([{"path": "relative"}]),
        json!([{"path": ""}]),
    ] {
        let body = json!({
            "name": "policy",
            "agent_id": fleet.agent_id,
            "sources": sources,
            "destinations": [{"destination_id": destination}],
        });
        let answer = fleet.api.post("/api/v1/policies", &body).await?;

        assert_eq!(answer.status, 422, "{sources}: {}", answer.text);
        assert_eq!(answer.str("/code"), "validation_failed");
        assert!(
            answer.str("/errors/0/field").starts_with("sources"),
            "{}",
            answer.text
        );
    }
    let policies = fleet.api.get("/api/v1/policies").await?.expect(200)?;
    assert_eq!(policies.json["items"], json!([]));
    Ok(())
}

/// S4: an agent that is not root meets a file that it may not read.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_file_makes_it_partial() -> Outcome {
    let fleet = Fleet::start_with(|_| AgentOptions {
        user: is_root().then_some(65_534),
        ..AgentOptions::default()
    })
    .await?;
    let source = fleet.source("source")?;
    fs::write(source.join("secret"), "nobody reads this")?;
    fs::set_permissions(source.join("secret"), fs::Permissions::from_mode(0o000))?;
    let repositories = fleet.path("repositories");
    fs::create_dir_all(&repositories)?;
    fs::set_permissions(&repositories, fs::Permissions::from_mode(0o777))?;
    let policy = fleet.policy(&[&source], json!({})).await?;

    let job = fleet.run(&policy).await?;

    assert_eq!(job["state"], "partial", "{job}");
    assert_eq!(fleet.snapshots(&policy).await?.len(), 1);
    assert!(
        fleet.log_of(&job).await?.contains("secret"),
        "the file is not named in the log"
    );
    Ok(())
}

/// G2
#[tokio::test(flavor = "multi_thread")]
async fn names_that_look_like_options_are_names() -> Outcome {
    let fleet = Fleet::start().await?;
    let marker = fleet.path("marker");
    let command = format!("--password-command=touch {}", marker.display());
    let parent = fleet.path("awkward");
    // The name holds slashes: below `awkward` it is a chain of directories.
    let sources = [
        parent.join(&command),
        parent.join("-o"),
        parent.join("--help"),
    ];
    for source in &sources {
        fs::create_dir_all(source)?;
        fs::write(source.join("file"), "content")?;
    }
    let sources: Vec<_> = sources.iter().map(std::path::PathBuf::as_path).collect();
    let exclude = command.replace("marker", "excluded");
    let more = json!({"excludes": [exclude, "--verbose"], "tags": ["--help", "-x"]});
    let policy = fleet.policy(&sources, more).await?;

    let job = fleet.run(&policy).await?;

    assert!(!marker.exists(), "the source was run as a command");
    assert_eq!(job["state"], "succeeded", "{job}");
    let password = text(&policy, "/repository_password");
    let listed = restic(&fleet.repository(&policy), &password, &["ls", "latest"])?;
    assert!(
        listed.contains("/-o/file") && listed.contains("/--help/file"),
        "{listed}"
    );
    assert!(listed.contains("marker/file"), "{listed}");
    Ok(())
}
