//! Putting files back, and looking into snapshots.

use std::fs;
use std::os::unix::fs::symlink;

use arkeep_core::engine::{BackupEngine, EngineError, RestoreRequest, Silent};
use arkeep_core::policy::Limits;
use arkeep_core::snapshot::{EntryKind, ResticId};

use super::bench::{Outcome, benches, skip};

fn everything(snapshot: &ResticId, target: String) -> RestoreRequest {
    RestoreRequest {
        snapshot: snapshot.clone(),
        target,
        include: Vec::new(),
        overwrite: false,
        limits: Limits::default(),
    }
}

/// G6
#[tokio::test]
async fn everything_comes_back_under_its_full_path() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "one"), ("b", "two")])?;
        let snapshot = bench.backup(&[&source]).await?.snapshot;
        let request = everything(&snapshot, bench.text("target"));

        bench
            .engine
            .restore(&bench.repository, &request, &Silent)
            .await?;

        let back = format!("{}{source}", bench.text("target"));
        assert_eq!(fs::read_to_string(format!("{back}/a"))?, "one");
        assert_eq!(fs::read_to_string(format!("{back}/b"))?, "two");
    }
    Ok(())
}

/// G12: a link that somebody puts into the target after it was looked through. restic 0.14 follows
/// it; the kernel does not let it.
#[tokio::test]
async fn a_link_in_the_way_leads_nowhere() -> Outcome {
    if !has_landlock() {
        return skip("a_link_in_the_way_leads_nowhere", "it takes Landlock");
    }
    for bench in benches()? {
        let source = bench.tree("source/trap", &[("written", "by the restore")])?;
        let snapshot = bench.backup(&[&source]).await?.snapshot;
        let outside = bench.path("outside");
        fs::create_dir(&outside)?;
        let trap = format!("{}{source}", bench.text("target"));
        fs::create_dir_all(std::path::Path::new(&trap).parent().ok_or("a parent")?)?;
        symlink(&outside, &trap)?;
        let request = RestoreRequest {
            overwrite: true,
            ..everything(&snapshot, bench.text("target"))
        };

        // It fails or replaces the link, as its version does.
        let _ = bench
            .engine
            .restore(&bench.repository, &request, &Silent)
            .await;

        assert!(
            !outside.join("written").exists(),
            "{}",
            bench.restic.display()
        );
        assert_eq!(bench.locks(), 0);
    }
    Ok(())
}

fn has_landlock() -> bool {
    use landlock::{ABI, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V2))
        .and_then(Ruleset::create)
        .is_ok()
}

/// G2, G6
#[tokio::test]
async fn a_part_is_its_path_and_no_pattern() -> Outcome {
    for bench in benches()? {
        let source = bench.tree(
            "source",
            &[
                ("*", "star"),
                ("a", "x"),
                ("[b]", "bracket"),
                ("b", "x"),
                ("\\", "back"),
            ],
        )?;
        fs::create_dir(bench.path("source/dir?"))?;
        fs::write(bench.path("source/dir?/deep"), "deep")?;
        let snapshot = bench.backup(&[&source]).await?.snapshot;
        let include = ["*", "[b]", "\\", "dir?"].map(|name| format!("{source}/{name}"));
        let request = RestoreRequest {
            include: include.to_vec(),
            ..everything(&snapshot, bench.text("target"))
        };

        bench
            .engine
            .restore(&bench.repository, &request, &Silent)
            .await?;

        let back = format!("{}{source}", bench.text("target"));
        let mut names: Vec<_> = fs::read_dir(&back)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        names.sort();
        assert_eq!(names, ["*", "[b]", "\\", "dir?"]);
        assert_eq!(fs::read_to_string(format!("{back}/dir?/deep"))?, "deep");
    }
    Ok(())
}

/// G6
#[tokio::test]
async fn a_part_that_is_not_in_the_snapshot_is_refused() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "one")])?;
        let snapshot = bench.backup(&[&source]).await?.snapshot;
        let request = RestoreRequest {
            include: vec![format!("{source}/a"), format!("{source}/z")],
            ..everything(&snapshot, bench.text("target"))
        };

        let error = bench
            .engine
            .restore(&bench.repository, &request, &Silent)
            .await
            .unwrap_err();

        assert!(matches!(error, EngineError::Refused(_)), "{error}");
        assert!(error.to_string().contains("/z"), "{error}");
        assert!(!bench.path("target").exists());
    }
    Ok(())
}

/// G6
#[tokio::test]
async fn a_file_that_is_there_is_replaced_only_when_that_was_asked_for() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "old")])?;
        let snapshot = bench.backup(&[&source]).await?.snapshot;
        let file = format!("{}{source}/a", bench.text("target"));
        fs::create_dir_all(format!("{}{source}", bench.text("target")))?;
        fs::write(&file, "newer")?;
        let mut request = everything(&snapshot, bench.text("target"));

        let spared = bench
            .engine
            .restore(&bench.repository, &request, &Silent)
            .await;
        let between = fs::read_to_string(&file)?;
        request.overwrite = true;
        bench
            .engine
            .restore(&bench.repository, &request, &Silent)
            .await?;

        assert!(
            matches!(spared, Ok(_) | Err(EngineError::Refused(_))),
            "{spared:?}"
        );
        assert_eq!(between, "newer");
        assert_eq!(fs::read_to_string(&file)?, "old");
    }
    Ok(())
}

/// G6
#[tokio::test]
async fn a_snapshot_that_is_not_there_is_not_restored() -> Outcome {
    for bench in benches()? {
        let nobody: ResticId = "0123abcd".parse()?;

        for include in [vec![], vec!["/a".to_owned()]] {
            let request = RestoreRequest {
                include,
                ..everything(&nobody, bench.text("target"))
            };
            let restored = bench
                .engine
                .restore(&bench.repository, &request, &Silent)
                .await;
            assert!(
                matches!(restored, Err(EngineError::Failed(_))),
                "{restored:?}"
            );
        }
        let listed = bench
            .engine
            .list_entries(&bench.repository, &nobody, "/", &Silent)
            .await;
        assert!(matches!(listed, Err(EngineError::Failed(_))), "{listed:?}");
    }
    Ok(())
}

/// G6
#[tokio::test]
async fn one_directory_is_listed_and_not_those_below() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("file", "four"), ("-o", "")])?;
        fs::create_dir(bench.path("source/sub"))?;
        fs::write(bench.path("source/sub/deep"), "x")?;
        symlink("file", bench.path("source/link"))?;
        let snapshot = bench.backup(&[&source]).await?.snapshot;
        let list = async |path: &str| {
            bench
                .engine
                .list_entries(&bench.repository, &snapshot, path, &Silent)
                .await
        };

        let mut entries = list(&source).await?;
        entries.sort_by(|one, other| one.name.cmp(&other.name));

        let seen: Vec<(&str, EntryKind, u64)> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.kind, entry.size))
            .collect();
        assert_eq!(
            seen,
            [
                ("-o", EntryKind::File, 0),
                ("file", EntryKind::File, 4),
                ("link", EntryKind::Symlink, 0),
                ("sub", EntryKind::Directory, 0),
            ]
        );
        assert!(entries.iter().all(|entry| entry.modified_at.is_some()));
        assert_eq!(entries[1].path, format!("{source}/file"));
        assert_eq!(list("/").await?.len(), 1);
        assert!(matches!(
            list(&format!("{source}/file")).await,
            Err(EngineError::Refused(_))
        ));
        assert!(matches!(
            list("/nowhere").await,
            Err(EngineError::Failed(_))
        ));
        assert!(matches!(list("../etc").await, Err(EngineError::Refused(_))));
    }
    Ok(())
}
