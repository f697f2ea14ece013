//! Disks that are full, or that cannot be written to.

use std::fs;
use std::path::Path;

use arkeep_core::engine::{BackupEngine, EngineError, Silent, SnapshotFilter};
use arkeep_core::repository::{LocalLocation, Location};

use super::bench::{Outcome, Watch, backup_of, benches, lay_out, noise, skip};
use super::servers::tool;

/// A file system in memory, unmounted when it is dropped. `None` without the right to mount.
#[derive(Debug)]
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(place: &'a Path, options: &str) -> std::io::Result<Option<Self>> {
        fs::create_dir_all(place)?;
        let mounted = tool("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(place)
            .status()?;
        Ok(mounted.success().then_some(Self(place)))
    }

    fn remount(&self, options: &str) -> std::io::Result<bool> {
        let mounted = tool("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.0)
            .status()?;
        Ok(mounted.success())
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = tool("umount").args(["-l"]).arg(self.0).status();
    }
}

/// G4, S4
#[tokio::test]
async fn a_full_disk_is_told_in_restics_own_words() -> Outcome {
    for mut bench in benches()? {
        bench =
            bench.again(|config| config.deadlines.silence = std::time::Duration::from_secs(3))?;
        let place = bench.path("disk");
        let Some(_disk) = Disk::mount(&place, "size=256k")? else {
            return skip(
                "a_full_disk_is_told_in_restics_own_words",
                "it takes the right to mount",
            );
        };
        lay_out(&place.join("repository"))?;
        bench.repository.location = local(&place.join("repository"), true);
        let source = bench.tree("source", &[])?;
        fs::write(bench.path("source/a"), noise(1 << 20))?;
        let watch = Watch::default();

        let taken = bench
            .engine
            .backup(&bench.repository, &backup_of(&[&source]), &watch)
            .await;

        let Err(EngineError::Failed(text)) = taken else {
            panic!("{taken:?}");
        };
        assert!(text.contains("no space left on device"), "{text}");
        assert!(
            watch.log().contains("no space left on device"),
            "{}",
            watch.log()
        );
    }
    Ok(())
}

/// G4, G5
#[tokio::test]
async fn a_disk_that_cannot_be_written_to_can_still_be_listed() -> Outcome {
    for mut bench in benches()? {
        bench =
            bench.again(|config| config.deadlines.silence = std::time::Duration::from_secs(3))?;
        let place = bench.path("disk");
        let Some(disk) = Disk::mount(&place, "size=16m")? else {
            return skip(
                "a_disk_that_cannot_be_written_to_can_still_be_listed",
                "it takes the right to mount",
            );
        };
        lay_out(&place.join("repository"))?;
        bench.repository.location = local(&place.join("repository"), true);
        let source = bench.tree("source", &[("a", "one")])?;
        bench.backup(&[&source]).await?;
        assert!(disk.remount("ro")?);
        let request = backup_of(&[&source]);
        let all = SnapshotFilter::default();

        let taken = bench
            .engine
            .backup(&bench.repository, &request, &Silent)
            .await;
        let listed = bench
            .engine
            .snapshots(&bench.repository, &all, &Silent)
            .await?;
        bench.repository.location = local(&place.join("another"), true);
        let made = bench.engine.init(&bench.repository, &Silent).await;

        for refused in [taken.map(|_| ()), made] {
            let Err(EngineError::Failed(text)) = refused else {
                panic!("{refused:?}");
            };
            assert!(text.contains("read-only file system"), "{text}");
        }
        assert_eq!(listed.len(), 1);
    }
    Ok(())
}

fn local(place: &Path, must_be_mounted: bool) -> Location {
    Location::Local(LocalLocation {
        path: place.display().to_string(),
        must_be_mounted,
    })
}
