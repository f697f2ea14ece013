//! Repositories that cannot be opened or written.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Outcome, is_root, restic};

/// A memory file system of its own, gone when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(
        at: &Path,
        options: &std::ffi::CStr,
        flags: MountFlags,
    ) -> Result<Self, std::io::Error> {
        fs::create_dir_all(at)?;
        mount("tmpfs", at, "tmpfs", flags, Some(options))?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Says, where the runner looks for it, that a test could not run here.
fn skipped(test: &str, why: &str) -> Outcome {
    if let Some(file) = skip_file() {
        let mut file = fs::File::options().append(true).create(true).open(file)?;
        writeln!(file, "{test}: {why}")?;
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the runner tells where skipped tests are noted"
)]
fn skip_file() -> Option<std::ffi::OsString> {
    std::env::var_os("ARKEEP_SKIPPED")
}

async fn assert_failed(fleet: &Fleet, policy: &Value, says: &str) -> Outcome {
    let job = fleet.run(policy).await?;
    let log = fleet.log_of(&job).await?;

    assert_eq!(job["state"], "failed", "{job}");
    let reason = job["error"]["detail"]
        .as_str()
        .unwrap_or_default()
        .to_lowercase();
    assert!(
        reason.contains(says),
        "`{says}` is not in the reason: {job}"
    );
    assert!(
        log.contains("\"restic\""),
        "restic's own line is not in the log: {log}"
    );
    assert_eq!(job["results"][0]["snapshot_id"], Value::Null, "{job}");
    assert_eq!(
        fleet.snapshots(policy).await?.len(),
        0,
        "a snapshot is claimed"
    );
    Ok(())
}

/// S4, G4
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_failure() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.source("source")?;
    let repository = fleet.path("repositories/shared");
    restic(&repository, "the right password", &["init"])?;
    let destination = fleet.destination(&fleet.path("repositories")).await?;
    let more = json!({
        "repository_password": "some other password",
        "destinations": [{"destination_id": destination, "path": "shared"}],
    });
    let policy = fleet.policy_to(&destination, &[&source], more).await?;

    assert_failed(&fleet, &policy, "password").await?;

    let listed = restic(&repository, "the right password", &["snapshots", "--json"])?;
    assert_eq!(listed.trim(), "[]", "{listed}");
    Ok(())
}

/// S4, G5
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_directory_is_a_failure() -> Outcome {
    if !is_root() {
        return skipped("a_read_only_directory_is_a_failure", "mounting needs root");
    }
    let fleet = Fleet::start().await?;
    let source = fleet.source("source")?;
    let mounted = Tmpfs::mount(&fleet.path("repositories"), c"size=1m", MountFlags::RDONLY)?;
    let policy = fleet.policy(&[&source], json!({})).await?;

    assert_failed(&fleet, &policy, "read-only").await?;

    drop(mounted);
    Ok(())
}

/// S4
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_a_failure() -> Outcome {
    if !is_root() {
        return skipped("a_full_disk_is_a_failure", "mounting needs root");
    }
    let fleet = Fleet::start().await?;
    let source = fleet.large_source("source", 12)?;
    let mounted = Tmpfs::mount(&fleet.path("repositories"), c"size=6m", MountFlags::empty())?;
    let policy = fleet.policy(&[&source], json!({})).await?;

    assert_failed(&fleet, &policy, "no space left").await?;

    drop(mounted);
    Ok(())
}

/// G5: a destination that must be mounted and is not is left as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_mount_is_a_failure_and_nothing_is_made() -> Outcome {
    let fleet = Fleet::start().await?;
    let source = fleet.source("source")?;
    let place = fleet.path("repositories");
    let body = json!({
        "name": "a disk",
        "kind": "local",
        "location": {"path": place, "must_be_mounted": true},
    });
    let destination = fleet.api.create("/api/v1/destinations", &body).await?;
    let id = destination["id"].as_str().unwrap_or_default();
    let policy = fleet.policy_to(id, &[&source], json!({})).await?;

    let job = fleet.run(&policy).await?;

    assert_eq!(job["state"], "failed", "{job}");
    assert_eq!(job["error"]["code"], "not_mounted", "{job}");
    assert!(
        !place.exists(),
        "a directory was made where the disk should be"
    );
    Ok(())
}
