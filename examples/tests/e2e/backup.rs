//! What a backup gives, from request to restored file.

use std::fs;
use std::path::Path;

use arkeep_examples::tree::{self, Shape};
use serde_json::json;

use crate::fleet::{Fleet, Outcome, PATIENCE, locks, restic, text};

/// S4, G2, X5
#[tokio::test(flavor = "multi_thread")]
async fn comes_back_byte_for_byte() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.path("source");
    tree::make(&source, Shape::SMALL)?;
    let policy = fleet.policy(&[&source], json!({})).await?;

    let job = fleet.run(&policy).await?;
    let snapshots = fleet.snapshots(&policy).await?;
    let target = fleet.path("restored");
    fs::create_dir_all(&target)?;
    let path = format!("/api/v1/snapshots/{}/restore", text(&snapshots[0], "/id"));
    let body =
        json!({"agent_id": fleet.agent_id, "target": target, "include": [], "overwrite": false});
    let restore = fleet.api.start_job(&path, &body).await?;
    let restore = fleet.api.job_ended(&restore, PATIENCE).await?;

    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(restore["state"], "succeeded", "{restore}");
    assert_eq!(snapshots.len(), 1);
    let (compared, differences) = tree::compare(&source, &target.join(source.strip_prefix("/")?))?;
    assert_eq!(differences, Vec::<String>::new());
    assert!(compared.entries > 60);
    Ok(())
}

/// S4: the snapshot of a job is one that restic itself lists, and its password opens it.
#[tokio::test(flavor = "multi_thread")]
async fn is_a_plain_restic_repository() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.source("source")?;
    let policy = fleet
        .policy(&[&source], json!({"tags": ["nightly"]}))
        .await?;

    let job = fleet.run(&policy).await?;

    let password = text(&policy, "/repository_password");
    let listed = restic(
        &fleet.repository(&policy),
        &password,
        &["snapshots", "--json"],
    )?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    assert_eq!(listed[0]["id"], job["results"][0]["snapshot_id"], "{job}");
    let tags = listed[0]["tags"].to_string();
    assert!(
        tags.contains(&format!("policy:{}", text(&policy, "/id"))),
        "{tags}"
    );
    assert!(tags.contains("nightly"), "{tags}");
    assert!(locks(&fleet.repository(&policy)).is_empty());
    Ok(())
}

/// G8: the second run of an unchanged tree adds next to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn adds_little_the_second_time() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 3)?;
    let policy = fleet.policy(&[&source], json!({})).await?;

    let first = fleet.run(&policy).await?;
    let second = fleet.run(&policy).await?;

    let added = |job: &serde_json::Value| job["results"][0]["bytes_added"].as_u64();
    assert!(added(&first) > Some(3 << 20), "{first}");
    assert!(added(&second) < Some(1 << 20), "{second}");
    assert_eq!(second["results"][0]["files_new"], 0, "{second}");
    Ok(())
}

/// G7, G3: a REST server asks for a password, and nobody else ever sees it.
#[tokio::test(flavor = "multi_thread")]
async fn reaches_a_rest_server_with_credentials() -> Outcome {
    const SECRET: &str = "rest-canary-7c1f";
    let fleet = Fleet::start().await?;
    let source = fleet.source("source")?;
    let rest = RestServer::start(&fleet.path("rest"), "backup", SECRET).await?;
    let body = json!({
        "name": "rest",
        "kind": "rest",
        "location": {"url": rest.url},
        "credentials": {"username": "backup", "password": SECRET},
    });
    let destination = fleet.api.create("/api/v1/destinations", &body).await?;
    let policy = fleet
        .policy_to(&text(&destination, "/id"), &[&source], json!({}))
        .await?;

    let job = fleet.run(&policy).await?;
    let log = fleet.log_of(&job).await?;

    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(destination["credentials_set"], true);
    for (what, said) in [
        ("answer", destination.to_string()),
        ("job", job.to_string()),
        ("log", log),
        ("agent log", fs::read_to_string(fleet.path("agent.log"))?),
        ("server log", fs::read_to_string(fleet.path("server.log"))?),
    ] {
        assert!(
            !said.contains(SECRET),
            "the {what} shows the secret: {said}"
        );
    }
    Ok(())
}

struct RestServer {
    url: String,
    _child: tokio::process::Child,
}

impl RestServer {
    #[expect(clippy::disallowed_methods, reason = "rclone is a program")]
    async fn start(
        root: &Path,
        user: &str,
        password: &str,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        fs::create_dir_all(root)?;
        let address = format!("127.0.0.1:{}", arkeep_examples::free_port());
        let child = tokio::process::Command::new("rclone")
            .args([
                "serve", "restic", "--addr", &address, "--user", user, "--pass", password,
            ])
            .arg(root)
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let listening = arkeep_examples::until(PATIENCE, async || {
            tokio::net::TcpStream::connect(&address).await.ok()
        });
        listening.await.ok_or("rclone does not listen")?;
        Ok(Self {
            url: format!("http://{address}/"),
            _child: child,
        })
    }
}

/// G8: a run that takes a while says how far it has come.
#[tokio::test(flavor = "multi_thread")]
async fn shows_how_far_it_has_come() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 6)?;
    let policy = fleet
        .policy(&[&source], json!({"limits": {"upload_kib": 2048}}))
        .await?;

    let job = fleet.start_run(&policy).await?;
    let path = format!("/api/v1/jobs/{job}");
    let seen = arkeep_examples::until(PATIENCE, async || {
        let answer = fleet.api.get(&path).await.ok()?.json;
        let done = answer["progress"]["bytes_total"].as_u64().unwrap_or(0) > 0;
        (done && answer["state"] == "running").then_some(answer)
    });
    let seen = seen.await.ok_or("no progress was seen")?;
    let ended = fleet.api.job_ended(&job, PATIENCE).await?;

    assert!(seen["progress"]["percent"].as_f64().is_some(), "{seen}");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    Ok(())
}

/// G12: a restore goes only where the machine's owner allows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_elsewhere_is_refused() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.source("source")?;
    let policy = fleet.policy(&[&source], json!({})).await?;
    fleet.run(&policy).await?;
    let snapshots = fleet.snapshots(&policy).await?;
    let allowed = fleet.path("restored");
    let elsewhere = fleet.path("elsewhere");
    fs::create_dir_all(&allowed)?;
    fs::create_dir_all(&elsewhere)?;
    std::os::unix::fs::symlink(&elsewhere, allowed.join("link"))?;

    for target in [
        elsewhere.clone(),
        allowed.join("../elsewhere"),
        allowed.join("link"),
    ] {
        let path = format!("/api/v1/snapshots/{}/restore", text(&snapshots[0], "/id"));
        let body = json!({"agent_id": fleet.agent_id, "target": target, "include": [], "overwrite": false});
        let answer = fleet.api.post(&path, &body).await?;
        if answer.status == 202 {
            let job = fleet
                .api
                .job_ended(&answer.str("/job_id"), PATIENCE)
                .await?;
            assert_eq!(job["state"], "failed", "{}: {job}", target.display());
        } else {
            assert!((400..500).contains(&answer.status), "{}", answer.text);
        }
        assert_eq!(fs::read_dir(&elsewhere)?.count(), 0, "{}", target.display());
    }
    Ok(())
}
