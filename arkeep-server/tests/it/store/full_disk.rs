use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use arkeep_core::{AgentId, SystemEntropy};
use arkeep_server::store::agents::{AgentStore, NewAgent};
use arkeep_server::store::sqlite::SqliteStore;
use arkeep_server::store::{InstanceStore as _, WriteError};

use super::{NOON, Tested, join_token, new_agent};

/// S5
#[tokio::test]
async fn a_disk_that_was_full_takes_changes_again() -> Tested {
    let place = tempfile::tempdir()?;
    let Some(_disk) = SmallDisk::mount(place.path(), "4m")? else {
        return skip(
            "store::full_disk::a_disk_that_was_full_takes_changes_again",
            "it takes the right to mount",
        );
    };
    let store = SqliteStore::create(&place.path().join("arkeep.db")).await?;
    let filler = place.path().join("filler");
    fill(&filler)?;

    let mut refused = None;
    for _ in 0..10_000 {
        let id = AgentId::mint(NOON, &SystemEntropy);
        let new = NewAgent {
            id,
            name: format!("agent {id}"),
            labels: BTreeMap::new(),
            created_at: NOON,
        };
        if let Err(error) = AgentStore::create(&store, &new, &join_token()).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(WriteError::Store(_))), "{refused:?}");
    fs::remove_file(&filler)?;

    store.ping().await?;
    new_agent(&store).await;
    store.close().await;
    Ok(())
}

fn fill(file: &Path) -> std::io::Result<()> {
    let mut file = fs::File::create(file)?;
    for size in [1 << 16, 1 << 9, 1] {
        let piece = vec![0; size];
        while file.write_all(&piece).is_ok() {}
    }
    Ok(())
}

/// A file system in memory, unmounted when it is dropped. `None` without the right to mount.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(place: &'a Path, size: &str) -> std::io::Result<Option<Self>> {
        let mounted = tool("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(place)
            .status()?;
        Ok(mounted.success().then_some(Self(place)))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = tool("umount").args(["-l"]).arg(self.0).status();
    }
}

#[expect(clippy::disallowed_methods, reason = "mount is a program")]
fn tool(name: &str) -> std::process::Command {
    std::process::Command::new(name)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the script that counts says where"
)]
fn skip(test: &str, why: &str) -> Tested {
    if let Some(list) = std::env::var_os("ARKEEP_SKIPPED") {
        let mut list = OpenOptions::new().append(true).open(list)?;
        writeln!(list, "{test}: {why}")?;
    }
    Ok(())
}
