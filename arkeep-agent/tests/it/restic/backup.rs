//! Taking snapshots.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use arkeep_core::engine::{BackupEngine, BackupRequest, EngineError, Silent, SnapshotFilter};

use super::bench::{Outcome, Watch, backup_of, benches};

/// S4, G6
#[tokio::test]
async fn a_snapshot_is_reported_as_the_repository_lists_it() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "one"), ("b", "two")])?;

        let report = bench.backup(&[&source]).await?;
        let listed = bench
            .engine
            .snapshots(&bench.repository, &SnapshotFilter::default(), &Silent)
            .await?;

        assert!(report.complete, "{report:?}");
        assert_eq!((report.files_new, report.bytes_processed), (2, 6));
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].id, report.snapshot);
        assert_eq!(listed[0].id.as_str().len(), 64);
        assert_eq!(listed[0].hostname, "bench");
        assert_eq!(listed[0].paths, [source]);
        assert_eq!(listed[0].tags, ["policy:p"]);
    }
    Ok(())
}

/// S4
#[tokio::test]
async fn a_source_that_is_missing_is_named() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "one")])?;
        let missing = bench.text("missing");

        let report = bench.backup(&[&source, &missing]).await?;

        assert!(!report.complete);
        assert_eq!(report.unread, [missing]);
    }
    Ok(())
}

/// S4
#[tokio::test]
async fn sources_that_are_all_missing_are_an_error_of_their_own() -> Outcome {
    for bench in benches()? {
        let missing = [bench.text("one"), bench.text("two/three")];
        let request = backup_of(&[&missing[0], &missing[1]]);

        let error = bench
            .engine
            .backup(&bench.repository, &request, &Silent)
            .await
            .unwrap_err();

        let named = format!("{}, {}", missing[0], missing[1]);
        assert_eq!(error, EngineError::SourcesMissing(named));
    }
    Ok(())
}

/// S4: restic saves the link alone and calls that a success.
#[tokio::test]
async fn a_source_that_is_a_link_is_named() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "one")])?;
        symlink(&source, bench.path("link"))?;
        symlink("/nowhere/at/all", bench.path("dangling"))?;
        symlink("loop", bench.path("loop"))?;
        let link = bench.text("link");

        for spelling in [link.clone(), format!("{link}/"), format!("{link}/.")] {
            let report = bench.backup(&[&spelling]).await?;

            assert!(!report.complete, "{spelling}");
            let told = report.unread.join(" ");
            assert!(
                told.contains(&format!("{spelling} is a link")) && told.contains(&source),
                "{told}"
            );
        }
        for gone in ["dangling", "loop"] {
            let gone = bench.text(gone);
            let report = bench.backup(&[&source, &gone]).await?;
            let alone = backup_of(&[&gone]);
            let alone = bench.engine.backup(&bench.repository, &alone, &Silent);

            assert!(!report.complete);
            assert_eq!(report.unread, std::slice::from_ref(&gone));
            assert_eq!(alone.await, Err(EngineError::SourcesMissing(gone)));
        }
        // A link on the way to a source is followed.
        let report = bench.backup(&[&format!("{link}/a")]).await?;
        assert!(report.complete, "{report:?}");
    }
    Ok(())
}

/// S4: restic calls a snapshot without them complete.
#[tokio::test]
async fn a_source_that_an_exclude_leaves_out_is_named() -> Outcome {
    for bench in benches()? {
        let small = bench.tree("small", &[("a", "one")])?;
        let empty = bench.tree("empty", &[])?;
        let source = bench.tree("source", &[("b", "two"), ("small.txt", "x")])?;
        let file = format!("{source}/b");
        let of = |sources: &[&str], excludes: &[&str]| BackupRequest {
            excludes: excludes.iter().map(|&one| one.to_owned()).collect(),
            ..backup_of(sources)
        };
        let sources = [small.as_str(), &empty, &file, &bench.text("gone/")];

        let whole = of(&sources[..3], &["*.tmp"]);
        let whole = bench
            .engine
            .backup(&bench.repository, &whole, &Silent)
            .await?;
        let cut = of(&sources, &["small"]);
        let cut = bench
            .engine
            .backup(&bench.repository, &cut, &Silent)
            .await?;
        let mut limited = of(&[&empty, &file], &[]);
        limited.exclude_larger_than = Some(1);
        let limited = bench
            .engine
            .backup(&bench.repository, &limited, &Silent)
            .await?;

        assert!(whole.complete, "{whole:?}");
        assert!(!cut.complete && !limited.complete);
        let told = format!("{small} is not in the snapshot");
        assert!(cut.unread.iter().any(|text| text.starts_with(&told)));
        assert_eq!(cut.unread.len(), 2, "{:?}", cut.unread);
        assert_eq!(limited.unread.len(), 1, "{:?}", limited.unread);
        assert!(limited.unread[0].starts_with(&file), "{:?}", limited.unread);
    }
    Ok(())
}

/// S4, G4
#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "one")])?;
        // A file that not even root can read.
        let unreadable = "/proc/self/clear_refs";
        let watch = Watch::default();
        let request = backup_of(&[&source, unreadable]);

        let report = bench
            .engine
            .backup(&bench.repository, &request, &watch)
            .await?;

        assert!(!report.complete);
        assert_eq!(report.unread, [unreadable]);
        assert!(watch.log().contains(unreadable), "{}", watch.log());
    }
    Ok(())
}

/// G2
#[tokio::test]
async fn a_source_is_a_path_whatever_it_looks_like() -> Outcome {
    for bench in benches()? {
        let proof = bench.text("proof");
        let odd = [
            format!("--password-command=touch {}", proof.replace('/', "%")),
            "-o".to_owned(),
            "--".to_owned(),
            "line\nbreak".to_owned(),
            "*".to_owned(),
            "$(touch x)".to_owned(),
            " ".to_owned(),
            "#a".to_owned(),
        ];
        let names: Vec<(&str, &str)> = odd.iter().map(|name| (name.as_str(), "x")).collect();
        let directory = bench.tree("source", &names)?;
        fs::write(
            bench.path("source").join(OsStr::from_bytes(b"\xff\xfe")),
            "not UTF-8",
        )?;
        let each: Vec<String> = odd
            .iter()
            .map(|name| format!("{directory}/{name}"))
            .collect();
        let mut sources: Vec<&str> = each.iter().map(String::as_str).collect();

        let report = bench.backup(&sources).await?;
        sources.push(&directory);
        let with_directory = bench.backup(&sources).await?;

        assert!(report.complete, "{report:?}");
        assert_eq!(report.files_new, odd.len() as u64);
        assert_eq!(with_directory.files_new, odd.len() as u64 + 1);
        let refused = backup_of(&[&format!("--password-command=touch {proof}")]);
        let error = bench
            .engine
            .backup(&bench.repository, &refused, &Silent)
            .await;
        assert!(matches!(error, Err(EngineError::Refused(_))), "{error:?}");
        assert!(!bench.path("proof").exists());
    }
    Ok(())
}

/// G2
#[tokio::test]
async fn more_sources_than_a_pipe_holds_are_all_taken() -> Outcome {
    for bench in benches()? {
        let names: Vec<String> = (0..1_500).map(|number| format!("{number:0>80}")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        let directory = bench.tree("source", &files)?;
        let sources: Vec<String> = names
            .iter()
            .map(|name| format!("{directory}/{name}"))
            .collect();
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        assert!(sources.iter().map(|source| source.len()).sum::<usize>() > 100 * 1024);

        let report = bench.backup(&sources).await?;

        assert!(report.complete);
        assert_eq!(report.files_new, 1_500);
    }
    Ok(())
}

/// G2
#[tokio::test]
async fn what_is_excluded_stays_out_and_nothing_else() -> Outcome {
    for bench in benches()? {
        let source = bench.tree(
            "source",
            &[
                ("a.tmp", "x"),
                ("b", "x"),
                ("#c", "x"),
                (" d", "x"),
                ("$HOME", "x"),
                ("large", "0123456789"),
            ],
        )?;
        let request = BackupRequest {
            excludes: ["*.tmp", "#c", " d", "$HOME"].map(str::to_owned).to_vec(),
            exclude_larger_than: Some(9),
            one_file_system: true,
            ..backup_of(&[&source])
        };

        let report = bench
            .engine
            .backup(&bench.repository, &request, &Silent)
            .await?;
        let left = bench
            .engine
            .list_entries(&bench.repository, &report.snapshot, &source, &Silent)
            .await?;

        let names: Vec<&str> = left.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["b"]);
    }
    Ok(())
}

/// G2
#[tokio::test]
async fn a_request_that_could_mean_something_else_is_refused() -> Outcome {
    for bench in benches()? {
        let source = bench.tree("source", &[("a", "x")])?;
        let tag = |tag: &str| BackupRequest {
            tags: vec![tag.to_owned()],
            ..backup_of(&[&source])
        };
        let exclude = BackupRequest {
            excludes: vec!["a\nb".to_owned()],
            ..backup_of(&[&source])
        };

        for request in [
            backup_of(&[]),
            backup_of(&["etc"]),
            tag("a,b"),
            tag(""),
            exclude,
        ] {
            let refused = bench
                .engine
                .backup(&bench.repository, &request, &Silent)
                .await;
            assert!(
                matches!(refused, Err(EngineError::Refused(_))),
                "{refused:?}"
            );
        }
    }
    Ok(())
}
