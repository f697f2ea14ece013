//! A run from start to end, and the ways in which it ends early.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use arkeep_agent::restic::ResticConfig;
use arkeep_core::SecretString;
use arkeep_core::engine::{BackupEngine, BackupRequest, EngineError, Silent};
use arkeep_core::job::Progress;
use arkeep_core::policy::Limits;
use arkeep_core::repository::{
    Credentials, Location, RcloneCredentials, RcloneLocation, Repository,
};
use tokio::time::Instant;

use super::bench::{
    Bench, Outcome, PASSWORD, Watch, backup_of, benches, local, noise, restics, until,
};
use super::impostor::{Impostor, impostor};
use super::servers::tool;

/// A backup that takes some seconds.
fn slow(bench: &Bench) -> std::io::Result<BackupRequest> {
    let source = bench.tree("slow", &[])?;
    for number in 0..8_u8 {
        fs::write(
            bench.path("slow").join(number.to_string()),
            unique(1 << 20, number),
        )?;
    }
    Ok(BackupRequest {
        limits: Limits {
            upload_kib: Some(1_024),
            cpus: Some(1),
            io_nice: true,
            ..Limits::default()
        },
        ..backup_of(&[&source])
    })
}

fn unique(length: usize, number: u8) -> Vec<u8> {
    let mut bytes = noise(length);
    bytes
        .iter_mut()
        .for_each(|byte| *byte ^= number.wrapping_mul(31));
    bytes
}

/// G8, G14
#[tokio::test]
async fn progress_is_shown_at_most_twice_a_second() -> Outcome {
    for bench in benches()? {
        let mut request = slow(&bench)?;
        for number in 0..8_u8 {
            fs::write(
                bench.path("slow").join(number.to_string()),
                unique(20 << 20, number),
            )?;
        }
        request.limits.upload_kib = Some(24 << 10);
        let watch = Watch::default();
        let begun = Instant::now();

        bench
            .engine
            .backup(&bench.repository, &request, &watch)
            .await?;

        let took = begun.elapsed();
        let seen = watch.progress_seen();
        // 160 MiB at 24 MiB a second: more than restic reads ahead, so that a file is being read for
        // seconds.
        assert!(took > Duration::from_secs(3), "{took:?}");
        assert!(seen.len() >= 3, "{seen:?}");
        for pair in seen.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= Duration::from_millis(500));
        }
        let (_, last) = &seen[seen.len() - 1];
        assert_eq!(
            (last.bytes_total, last.files_total),
            (160 << 20, 8),
            "{last:?}"
        );
        assert!(last.bytes_done > 0 && last.percent > 0.0 && last.percent <= 100.0);
        let reads = |file: &String| file.contains("/slow/");
        let current = |progress: &Progress| progress.current.as_ref().is_some_and(reads);
        assert!(
            seen.iter().any(|(_, progress)| current(progress)),
            "{seen:?}"
        );
    }
    Ok(())
}

/// G3, G14
#[tokio::test]
async fn others_see_no_secret_and_restic_nothing_of_the_agents() -> Outcome {
    for bench in benches()? {
        let request = slow(&bench)?;
        let watch = Watch::default();
        let look = async {
            watch.moved().await;
            let (pid, arguments) = bench.processes().remove(0);
            let environment = fs::read(format!("/proc/{pid}/environ"))?;
            let environment = String::from_utf8(environment)?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
            let ionice = tool("ionice").args(["-p", &pid.to_string()]).output()?;
            let files: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))?
                .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
                .map(|file| file.display().to_string())
                .collect();
            watch.stop();
            Ok::<_, Box<dyn std::error::Error>>((arguments, environment, stat, name, ionice, files))
        };

        let (ended, seen) = tokio::join!(
            bench.engine.backup(&bench.repository, &request, &watch),
            look
        );
        let (arguments, environment, stat, name, ionice, files) = seen?;

        assert_eq!(ended, Err(EngineError::Cancelled));
        assert!(!arguments.contains(PASSWORD) && !environment.contains(PASSWORD));
        assert!(
            !arguments.contains(&bench.text("repository")),
            "{arguments}"
        );
        assert!(!arguments.contains(&bench.text("slow")), "{arguments}");
        let mut names: Vec<&str> = environment
            .split('\0')
            .filter_map(|variable| variable.split_once('='))
            .map(|(name, _)| name)
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "GOMAXPROCS",
                "HOME",
                "PATH",
                "RESTIC_PROGRESS_FPS",
                "RESTIC_REPOSITORY",
                "TMPDIR"
            ]
        );
        assert_eq!(name, "restic\n");
        let nice = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split(' ').nth(17));
        assert_eq!(nice, Some("10"));
        assert_eq!(String::from_utf8(ionice.stdout)?.trim(), "idle");
        let strange = |file: &&String| {
            !["pipe:", "/dev/null", "anon_inode:", &bench.text("")]
                .iter()
                .any(|known| file.starts_with(known))
        };
        assert_eq!(files.iter().find(strange), None, "{files:?}");
    }
    Ok(())
}

/// G9
#[tokio::test]
async fn a_run_that_is_cancelled_leaves_no_process_and_no_lock() -> Outcome {
    for bench in benches()? {
        let request = slow(&bench)?;
        let watch = Watch::default();
        let cancel = async {
            watch.moved().await;
            assert_eq!(bench.locks(), 1);
            watch.stop();
            Instant::now()
        };

        let (ended, asked) = tokio::join!(
            bench.engine.backup(&bench.repository, &request, &watch),
            cancel
        );

        assert_eq!(ended, Err(EngineError::Cancelled));
        assert!(
            asked.elapsed() < Duration::from_secs(9),
            "{:?}",
            asked.elapsed()
        );
        assert_eq!(bench.processes(), []);
        assert_eq!(bench.locks(), 0);
        assert_eq!(fs::read_dir(bench.path("run"))?.count(), 0);
    }
    Ok(())
}

/// G9
#[tokio::test]
async fn a_run_that_was_cancelled_before_does_not_begin() -> Outcome {
    let bench = benches()?.remove(0);
    let source = bench.tree("source", &[("a", "x")])?;
    let watch = Watch::default();
    watch.stop();

    let ended = bench
        .engine
        .backup(&bench.repository, &backup_of(&[&source]), &watch)
        .await;

    assert_eq!(ended, Err(EngineError::Cancelled));
    assert!(!bench.path("cache/tmp").exists());
    Ok(())
}

/// G9
#[tokio::test]
async fn a_future_that_is_dropped_kills_what_it_started() -> Outcome {
    for bench in benches()? {
        let request = slow(&bench)?;
        let watch = Watch::default();
        {
            let backup = bench.engine.backup(&bench.repository, &request, &watch);
            tokio::select! {
                ended = backup => panic!("{ended:?}"),
                () = watch.moved() => {}
            }
        }

        until("restic is gone", || bench.processes().is_empty()).await;
        assert_eq!(bench.locks(), 1);
        bench.engine.unlock(&bench.repository, &Silent).await?;
        assert_eq!(bench.locks(), 0);
    }
    Ok(())
}

/// G9
#[tokio::test]
async fn what_ignores_the_request_to_end_is_killed_with_its_children() -> Outcome {
    let binary = impostor(&Impostor {
        deaf: true,
        child: true,
        ..Impostor::default()
    })?;
    let bench = Bench::bare(&binary, |config: &mut ResticConfig| {
        config.deadlines.grace = Duration::from_millis(300);
    })?;
    let source = bench.tree("source", &[("a", "x")])?;
    let watch = Watch::default();
    let cancel = async {
        // The impostor and its child, which has left its process group.
        until("both run", || bench.processes().len() == 2).await;
        watch.stop();
        Instant::now()
    };

    let request = backup_of(&[&source]);
    let (ended, asked) = tokio::join!(
        bench.engine.backup(&bench.repository, &request, &watch),
        cancel
    );

    assert_eq!(ended, Err(EngineError::Cancelled));
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!(bench.processes(), []);
    Ok(())
}

/// G9
#[tokio::test]
async fn a_run_without_news_is_ended() -> Outcome {
    let binary = impostor(&Impostor {
        deaf: true,
        babble: true,
        ..Impostor::default()
    })?;
    let bench = Bench::bare(&binary, |config: &mut ResticConfig| {
        config.deadlines.silence = Duration::from_millis(700);
        config.deadlines.grace = Duration::from_millis(100);
    })?;
    let source = bench.tree("source", &[("a", "x")])?;

    let ended = bench
        .engine
        .backup(&bench.repository, &backup_of(&[&source]), &Silent)
        .await;

    let Err(EngineError::Failed(text)) = ended else {
        panic!("{ended:?}");
    };
    assert!(text.contains("no progress"), "{text}");
    assert!(text.contains("retrying"), "{text}");
    assert_eq!(bench.processes(), []);
    Ok(())
}

/// G9
#[tokio::test]
async fn a_run_that_works_without_a_word_is_left_to_work() -> Outcome {
    let binary = impostor(&Impostor {
        busy: true,
        code: 9,
        ..Impostor::default()
    })?;
    let bench = Bench::bare(&binary, |config: &mut ResticConfig| {
        config.deadlines.silence = Duration::from_millis(700);
    })?;
    let source = bench.tree("source", &[("a", "x")])?;

    let ended = bench
        .engine
        .backup(&bench.repository, &backup_of(&[&source]), &Silent)
        .await;

    let own_end = EngineError::Failed("restic ended with code 9: restic gave no reason".to_owned());
    assert_eq!(ended, Err(own_end));
    Ok(())
}

/// G4
#[tokio::test]
async fn a_flood_of_output_takes_no_memory() -> Outcome {
    let binary = impostor(&Impostor {
        flood: true,
        code: 77,
        ..Impostor::default()
    })?;
    let bench = Bench::bare(&binary, |_| {})?;
    let source = bench.tree("source", &[("a", "x")])?;
    let before = resident()?;

    let ended = bench
        .engine
        .backup(&bench.repository, &backup_of(&[&source]), &Silent)
        .await;

    // 256 MiB without a line's end, on both pipes.
    let Err(EngineError::Failed(text)) = ended else {
        panic!("{ended:?}");
    };
    assert!(
        text.starts_with("restic ended with code 77"),
        "{}",
        text.len()
    );
    assert!(text.len() < 20_000);
    assert!(
        resident()? < before + (64 << 20),
        "{before} {}",
        resident()?
    );
    Ok(())
}

/// S4
#[tokio::test]
async fn a_snapshot_that_the_repository_does_not_list_is_no_success() -> Outcome {
    let binary = impostor(&Impostor {
        lies: true,
        ..Impostor::default()
    })?;
    let bench = Bench::bare(&binary, |_| {})?;
    let source = bench.tree("source", &[("a", "x")])?;

    let ended = bench
        .engine
        .backup(&bench.repository, &backup_of(&[&source]), &Silent)
        .await;

    let Err(EngineError::Failed(text)) = ended else {
        panic!("{ended:?}");
    };
    assert!(text.contains("does not list it"), "{text}");
    Ok(())
}

/// G9
#[tokio::test]
async fn restic_dies_with_its_agent() -> Outcome {
    for (place, bench) in benches()?.iter().enumerate() {
        slow(bench)?;
        let mut agent = tool(std::env::current_exe()?)
            .args(["--exact", "restic::run::an_agent_of_its_own", "--nocapture"])
            .env(PLACE, place.to_string())
            .env(DIRECTORY, bench.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        until("restic works", || bench.locks() == 1).await;

        // restic, and the rclone that it started.
        assert_eq!(bench.processes().len(), 2, "{:?}", bench.processes());
        agent.kill()?;
        agent.wait()?;

        until("restic and rclone are gone", || {
            bench.processes().is_empty()
        })
        .await;
    }
    Ok(())
}

/// The other half of [`restic_dies_with_its_agent`]: by itself it does nothing.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "a process of its own is told by its environment what to do"
)]
async fn an_agent_of_its_own() -> Outcome {
    let (Ok(place), Ok(directory)) = (std::env::var(PLACE), std::env::var(DIRECTORY)) else {
        return Ok(());
    };
    let restic = restics().remove(place.parse()?);
    let directory = Path::new(&directory);
    let engine = Bench::at(&restic, directory)?;
    let request = BackupRequest {
        limits: Limits {
            upload_kib: Some(64),
            ..Limits::default()
        },
        ..backup_of(&[&directory.join("slow").display().to_string()])
    };
    let repository = Repository {
        location: Location::Rclone(RcloneLocation {
            remote: "here".to_owned(),
            path: directory.join("repository").display().to_string(),
        }),
        credentials: Some(Credentials::Rclone(RcloneCredentials {
            config: SecretString::from("type = local"),
        })),
        ..local(directory, PASSWORD)
    };
    engine.backup(&repository, &request, &Silent).await?;
    Ok(())
}

/// G9
#[tokio::test]
async fn many_runs_at_once_do_not_disturb_each_other() -> Outcome {
    let bench = Arc::new(benches()?.remove(0));
    let source = bench.tree("source", &[("a", "x")])?;
    let snapshot = bench.backup(&[&source]).await?.snapshot;

    let runs = (0..6).map(|_| {
        let (bench, snapshot) = (Arc::clone(&bench), snapshot.clone());
        tokio::spawn(async move {
            bench
                .engine
                .list_entries(&bench.repository, &snapshot, "/", &Silent)
                .await
        })
    });
    for run in runs.collect::<Vec<_>>() {
        assert_eq!(run.await??.len(), 1);
    }
    Ok(())
}

fn resident() -> Result<u64, Box<dyn std::error::Error>> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).ok_or("no resident size")?;
    Ok(pages.parse::<u64>()? * 4_096)
}

const PLACE: &str = "ARKEEP_TEST_PLACE";
const DIRECTORY: &str = "ARKEEP_TEST_DIRECTORY";
