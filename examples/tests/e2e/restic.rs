//! A restic that is missing, too old, or not a program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use arkeep_examples::AgentOptions;
use serde_json::json;

use crate::fleet::{Fleet, Outcome};

fn with_restic_at(path: &Path) -> AgentOptions {
    AgentOptions {
        config: format!("[restic]\npath = {}\n", json!(path)),
        ..AgentOptions::default()
    }
}

/// The agent is connected all the same, and the job fails with the reason and nothing else.
async fn is_refused(path: impl FnOnce(&Path) -> PathBuf, says: &[&str]) -> Outcome {
    let mut binary = PathBuf::new();
    let fleet = Fleet::start_with(|scratch| {
        binary = path(scratch);
        with_restic_at(&binary)
    })
    .await?;
    let source = fleet.source("source")?;
    let policy = fleet.policy(&[&source], json!({})).await?;

    let job = fleet.run(&policy).await?;
    let agent = fleet
        .api
        .get(&format!("/api/v1/agents/{}", fleet.agent_id))
        .await?
        .expect(200)?;

    assert_eq!(agent.str("/state"), "online");
    assert_eq!(job["state"], "failed", "{job}");
    assert_eq!(job["error"]["code"], "restic_unusable", "{job}");
    let detail = job["error"]["detail"].as_str().unwrap_or_default();
    for word in says {
        assert!(detail.contains(word), "`{word}` is not in: {detail}");
    }
    assert!(
        detail.contains(&binary.display().to_string()),
        "the file is not named: {detail}"
    );
    assert!(
        !fleet.repository(&policy).exists(),
        "something was made in the destination"
    );
    Ok(())
}

/// A program that does one thing. A script would not do: what is executed is an open descriptor.
#[expect(clippy::disallowed_methods, reason = "the compiler is a program")]
fn compiled(scratch: &Path, does: &str) -> PathBuf {
    let (code, path) = (scratch.join("restic.c"), scratch.join("restic-of-its-own"));
    let text = format!("#include <stdio.h>\nint main(void) {{ {does} return 0; }}\n");
    fs::write(&code, text).expect("the scratch directory is ours");
    let built = std::process::Command::new("cc")
        .arg("-o")
        .arg(&path)
        .arg(&code)
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "cc builds {}",
        code.display()
    );
    path
}

/// G1
#[tokio::test(flavor = "multi_thread")]
async fn missing_is_said_plainly() -> Outcome {
    is_refused(|scratch| scratch.join("no-such-restic"), &["agent.toml"]).await
}

/// G1
#[tokio::test(flavor = "multi_thread")]
async fn too_old_is_said_plainly() -> Outcome {
    let old = |scratch: &Path| {
        // What a restic of 2019 says of itself; Debian no longer has one to install.
        compiled(
            scratch,
            r#"puts("restic 0.9.6 compiled with go1.13.4 on linux/amd64");"#,
        )
    };
    is_refused(old, &["0.9.6", "0.14"]).await
}

/// G1
#[tokio::test(flavor = "multi_thread")]
async fn not_executable_is_said_plainly() -> Outcome {
    let plain = |scratch: &Path| {
        let path = scratch.join("plain-file");
        fs::write(&path, "not a program").expect("the scratch directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("the file is ours");
        path
    };
    is_refused(plain, &["execut"]).await
}
