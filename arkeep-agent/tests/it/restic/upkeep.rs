//! Making, checking, thinning out and unlocking repositories.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use arkeep_agent::restic::ResticEngine;
use arkeep_core::SecretString;
use arkeep_core::engine::{BackupEngine, EngineError, ForgetRequest, Silent, SnapshotFilter};
use arkeep_core::policy::{Limits, Retention};
use arkeep_core::repository::{LocalLocation, Location, Repository};
use arkeep_core::snapshot::ResticId;

use super::bench::{Bench, Outcome, PASSWORD, Watch, backup_of, benches, local, noise, restics};

/// G5
#[tokio::test]
async fn a_repository_is_made_where_there_is_none_and_nowhere_else() -> Outcome {
    for restic in restics() {
        let bench = Bench::bare(&restic, |_| {})?;
        let all = SnapshotFilter::default();
        let missing = bench
            .engine
            .snapshots(&bench.repository, &all, &Silent)
            .await;

        bench.engine.init(&bench.repository, &Silent).await?;
        let made = bench
            .engine
            .snapshots(&bench.repository, &all, &Silent)
            .await;
        let again = bench.engine.init(&bench.repository, &Silent).await;
        let other = local(&bench.path("repository"), "another password");
        let wrong = bench.engine.snapshots(&other, &all, &Silent).await;
        let over = bench.engine.init(&other, &Silent).await;

        assert!(
            matches!(missing, Err(EngineError::RepositoryMissing(_))),
            "{missing:?}"
        );
        assert_eq!(made, Ok(Vec::new()));
        assert!(matches!(again, Err(EngineError::Refused(_))), "{again:?}");
        assert_eq!(wrong, Err(EngineError::WrongPassword));
        assert_eq!(over, Err(EngineError::WrongPassword));
    }
    Ok(())
}

/// G5, G14, S4: two that begin at the same moment end with one key, and each with a snapshot that
/// can be read back.
#[tokio::test]
async fn a_repository_that_two_make_at_once_is_one() -> Outcome {
    for restic in restics() {
        for _ in 0..ROUNDS {
            let bench = Bench::bare(&restic, |_| {})?;
            let other = Bench::at(&restic, &bench.path("other"))?;
            let source = bench.tree("source", &[("a", "x")])?;
            let other_source = bench.tree("other-source", &[("b", "y")])?;

            let (one, two) = tokio::join!(
                first_backup(&bench.engine, &bench.repository, &source),
                first_backup(&other, &bench.repository, &other_source),
            );

            let mut taken = [one?.to_string(), two?.to_string()];
            let all = SnapshotFilter::default();
            let listed = bench
                .engine
                .snapshots(&bench.repository, &all, &Silent)
                .await?;
            let mut listed: Vec<_> = listed.iter().map(|one| one.id.to_string()).collect();
            taken.sort();
            listed.sort();
            assert_eq!(taken.as_slice(), listed);
            bench.engine.check(&bench.repository, 100, &Silent).await?;
            let repository = bench.path("repository");
            assert_eq!(fs::read_dir(repository.join("keys"))?.count(), 1);
            let left: Vec<_> = fs::read_dir(repository)?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| name.starts_with('.'))
                .collect();
            assert_eq!(left, Vec::<String>::new());
        }
    }
    Ok(())
}

const ROUNDS: usize = 2;

/// What a job does at a destination where there is nothing yet.
async fn first_backup(
    engine: &ResticEngine,
    at: &Repository,
    source: &str,
) -> Result<ResticId, EngineError> {
    let request = backup_of(&[source]);
    match engine.backup(at, &request, &Silent).await {
        Err(EngineError::RepositoryMissing(_)) => {}
        other => return other.map(|report| report.snapshot),
    }
    match engine.init(at, &Silent).await {
        Ok(()) | Err(EngineError::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(engine.backup(at, &request, &Silent).await?.snapshot)
}

/// G5
#[tokio::test]
async fn a_repository_that_lost_its_configuration_is_not_made_over() -> Outcome {
    for bench in benches()? {
        fs::remove_file(bench.path("repository/config"))?;

        let made = bench.engine.init(&bench.repository, &Silent).await;

        assert!(matches!(made, Err(EngineError::Refused(_))), "{made:?}");
        assert!(!bench.path("repository/config").exists());
    }
    Ok(())
}

/// G5
#[tokio::test]
async fn a_disk_that_is_not_mounted_is_not_written_to() -> Outcome {
    for restic in restics() {
        let bench = Bench::bare(&restic, |_| {})?;
        let source = bench.tree("source", &[("a", "x")])?;
        let place = PathBuf::from(format!("/arkeep-not-mounted-{}", std::process::id()));
        let mut repository = bench.repository.clone();
        repository.location = Location::Local(LocalLocation {
            path: place.join("deep").display().to_string(),
            must_be_mounted: true,
        });

        let made = bench.engine.init(&repository, &Silent).await;
        let request = backup_of(&[&source]);
        let taken = bench.engine.backup(&repository, &request, &Silent).await;
        let unlocked = bench.engine.unlock(&repository, &Silent).await;

        assert!(matches!(made, Err(EngineError::NotMounted(_))), "{made:?}");
        assert!(
            matches!(taken, Err(EngineError::NotMounted(_))),
            "{taken:?}"
        );
        assert!(
            matches!(unlocked, Err(EngineError::NotMounted(_))),
            "{unlocked:?}"
        );
        assert!(!place.exists());
    }
    Ok(())
}

/// G3
#[tokio::test]
async fn a_password_that_restic_would_read_otherwise_is_refused() -> Outcome {
    let bench = benches()?.remove(0);
    for password in ["", " ", "x ", "\tx", "x\n", "\u{feff}x"] {
        let mut repository = bench.repository.clone();
        repository.password = SecretString::from(password);

        let opened = bench.engine.unlock(&repository, &Silent).await;

        assert!(
            matches!(opened, Err(EngineError::Refused(_))),
            "{password:?}: {opened:?}"
        );
    }
    Ok(())
}

/// G6
#[tokio::test]
async fn retention_is_applied_to_one_policy_on_one_host() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "x")])?;
        let other_source = bench.tree("other", &[("b", "x")])?;
        let mut own = Vec::new();
        for source in [&source, &other_source, &source] {
            own.push(bench.backup(&[source]).await?.snapshot);
        }
        let mut request = backup_of(&[&source]);
        request.tags = vec!["policy:q".to_owned()];
        let other_policy = bench
            .engine
            .backup(&bench.repository, &request, &Silent)
            .await?;
        let bench = bench.again(|config| config.host = Some("elsewhere".to_owned()))?;
        let other_host = bench.backup(&[&source]).await?;
        let mut request = ForgetRequest {
            retention: Retention {
                keep_last: Some(1),
                ..Retention::default()
            },
            filter: SnapshotFilter {
                tags: vec!["policy:p".to_owned()],
                host: Some("bench".to_owned()),
            },
            plan_only: true,
        };
        let all = SnapshotFilter::default();

        let plan = bench
            .engine
            .forget(&bench.repository, &request, &Silent)
            .await?;
        let before = bench
            .engine
            .snapshots(&bench.repository, &all, &Silent)
            .await?;
        request.plan_only = false;
        let done = bench
            .engine
            .forget(&bench.repository, &request, &Silent)
            .await?;
        let after = bench
            .engine
            .snapshots(&bench.repository, &all, &Silent)
            .await?;

        let mut removed = plan.removed.clone();
        removed.sort();
        let mut expected = own[..2].to_vec();
        expected.sort();
        assert_eq!(removed, expected);
        assert_eq!(plan.kept, [own[2].clone()]);
        assert_eq!(before.len(), 5);
        assert_eq!(done, plan);
        let left: Vec<_> = after.into_iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(
            left,
            [own[2].clone(), other_policy.snapshot, other_host.snapshot]
        );
    }
    Ok(())
}

/// G6
#[tokio::test]
async fn retention_that_would_remove_all_or_anyones_is_refused() -> Outcome {
    for bench in benches()? {
        let keep = |keep_last| Retention {
            keep_last,
            ..Retention::default()
        };
        let tag = |tags: &[&str]| SnapshotFilter {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            host: None,
        };

        for (retention, filter) in [
            (keep(None), tag(&["policy:p"])),
            (keep(Some(0)), tag(&["policy:p"])),
            (keep(Some(1)), tag(&[])),
            (keep(Some(1)), tag(&["a,b"])),
        ] {
            let request = ForgetRequest {
                retention,
                filter,
                plan_only: false,
            };
            let forgot = bench
                .engine
                .forget(&bench.repository, &request, &Silent)
                .await;
            assert!(matches!(forgot, Err(EngineError::Refused(_))), "{forgot:?}");
        }
        let nothing = ForgetRequest {
            retention: keep(Some(1)),
            filter: tag(&["policy:nobody"]),
            plan_only: false,
        };
        let forgot = bench
            .engine
            .forget(&bench.repository, &nothing, &Silent)
            .await?;
        assert!(forgot.kept.is_empty() && forgot.removed.is_empty());
    }
    Ok(())
}

/// G6
#[tokio::test]
async fn a_filter_wants_all_of_its_tags() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "x")])?;
        let mut request = backup_of(&[&source]);
        request.tags.push("job:1".to_owned());
        bench
            .engine
            .backup(&bench.repository, &request, &Silent)
            .await?;
        let count = async |tags: &[&str], host: Option<&str>| {
            let filter = SnapshotFilter {
                tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
                host: host.map(ToOwned::to_owned),
            };
            let listed = bench
                .engine
                .snapshots(&bench.repository, &filter, &Silent)
                .await;
            listed.map(|listed| listed.len())
        };

        assert_eq!(count(&["policy:p", "job:1"], Some("bench")).await?, 1);
        assert_eq!(count(&["policy:p", "job:2"], None).await?, 0);
        assert_eq!(count(&[], Some("elsewhere")).await?, 0);
    }
    Ok(())
}

/// G6
#[tokio::test]
async fn a_check_reads_the_data_back() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[])?;
        fs::write(bench.path("source/a"), noise(64 << 10))?;
        bench.backup(&[&source]).await?;
        for percent in [0, 50, 100] {
            bench
                .engine
                .check(&bench.repository, percent, &Silent)
                .await?;
        }

        spoil_largest(&bench.path("repository/data"))?;
        let superficial = bench.engine.check(&bench.repository, 0, &Silent).await;
        let thorough = bench.engine.check(&bench.repository, 100, &Silent).await;
        let absurd = bench.engine.check(&bench.repository, 101, &Silent).await;

        assert_eq!(superficial, Ok(()));
        assert!(
            matches!(thorough, Err(EngineError::Failed(_))),
            "{thorough:?}"
        );
        assert!(matches!(absurd, Err(EngineError::Refused(_))), "{absurd:?}");
        let left: Vec<_> = fs::read_dir(bench.path("cache"))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.contains("run") || name.contains("check"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }
    Ok(())
}

fn spoil_largest(data: &std::path::Path) -> std::io::Result<()> {
    let mut packs = Vec::new();
    for folder in fs::read_dir(data)? {
        for pack in fs::read_dir(folder?.path())? {
            let pack = pack?;
            packs.push((pack.metadata()?.len(), pack.path()));
        }
    }
    packs.sort();
    let (length, path) = packs
        .pop()
        .ok_or_else(|| std::io::Error::other("no pack"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let mut file = fs::OpenOptions::new().write(true).open(&path)?;
    file.seek(SeekFrom::Start(length / 2))?;
    file.write_all(b"spoiled")
}

/// G6: another machine with this one's name, whose processes are not here. restic calls its lock
/// stale.
#[tokio::test]
async fn a_lock_of_another_one_under_our_name_is_left_alone() -> Outcome {
    for bench in benches()? {
        let elsewhere = bench.path("elsewhere");
        let other = Bench::at(&bench.restic, &elsewhere)?;
        let source = bench.tree("source", &[])?;
        fs::write(bench.path("source/a"), noise(8 << 20))?;
        let mut slow = backup_of(&[&source]);
        slow.limits.upload_kib = Some(256);
        let watch = Watch::default();
        tokio::select! {
            ended = other.backup(&bench.repository, &slow, &watch) => panic!("{ended:?}"),
            () = watch.moved() => {}
        }
        let gone = || super::bench::running(&elsewhere.display().to_string()).is_empty();
        super::bench::until("its restic is gone", gone).await;
        assert_eq!(bench.locks(), 1);

        let left = bench.engine.unlock(&bench.repository, &Silent).await;
        // A run of ours that is stopped removes what it leaves, and nothing else.
        let watch = Watch::default();
        let (stopped, ()) = tokio::join!(
            bench.engine.backup(&bench.repository, &slow, &watch),
            async {
                watch.moved().await;
                watch.stop();
            }
        );
        let between = bench.locks();
        other.unlock(&bench.repository, &Silent).await?;

        let Err(EngineError::Locked(told)) = left else {
            panic!("{left:?}");
        };
        assert!(told.contains("did not start"), "{told}");
        assert_eq!(stopped, Err(EngineError::Cancelled));
        assert_eq!((between, bench.locks()), (1, 0));
    }
    Ok(())
}

/// G4, G6
#[tokio::test]
async fn a_lock_is_removed_when_its_holder_is_gone_and_not_before() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[])?;
        fs::write(bench.path("source/a"), noise(8 << 20))?;
        let mut slow = backup_of(&[&source]);
        slow.limits = Limits {
            upload_kib: Some(256),
            ..Limits::default()
        };
        let watch = Watch::default();
        let prune = ForgetRequest {
            retention: Retention {
                keep_last: Some(1),
                ..Retention::default()
            },
            filter: SnapshotFilter {
                tags: vec!["policy:p".to_owned()],
                host: None,
            },
            plan_only: false,
        };
        let forget = async || {
            bench
                .engine
                .forget(&bench.repository, &prune, &Silent)
                .await
        };
        let (beside, after_unlock);
        {
            let backup = bench.engine.backup(&bench.repository, &slow, &watch);
            let others = async {
                watch.moved().await;
                let beside = forget().await;
                let unlocked = bench.engine.unlock(&bench.repository, &Silent).await;
                (beside, unlocked, forget().await)
            };
            let unlocked;
            (beside, unlocked, after_unlock) = tokio::select! {
                ended = backup => panic!("{ended:?}"),
                others = others => others,
            };
            assert_eq!(unlocked, Ok(()));
        }
        super::bench::until("the holder is gone", || bench.processes().is_empty()).await;

        let stale = forget().await;
        bench.engine.unlock(&bench.repository, &Silent).await?;
        let free = forget().await;

        for locked in [beside, after_unlock, stale] {
            assert!(matches!(locked, Err(EngineError::Locked(_))), "{locked:?}");
        }
        assert!(free.is_ok(), "{free:?}");
        assert_eq!(bench.locks(), 0);
        assert!(!watch.log().contains(PASSWORD));
    }
    Ok(())
}
