//! What a hook gets from the agent.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use arkeep_hooks::{Phase, RunError};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::support::{Bench, Outcome};

/// H7
#[tokio::test]
async fn an_environment_of_three_names_and_the_documented_ones() -> Outcome {
    let bench = Bench::new()?;

    let report = bench.run(&["/usr/bin/env"], 10).await?;

    let mut names: Vec<_> = report
        .output
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "BACKUP_ATTEMPT",
            "BACKUP_JOB",
            "BACKUP_PHASE",
            "BACKUP_POLICY",
            "BACKUP_STATE",
            "HOME",
            "LANG",
            "PATH"
        ]
    );
    assert!(
        report.output.contains("BACKUP_JOB=job-1\n"),
        "{}",
        report.output
    );
    Ok(())
}

/// H7
#[tokio::test]
async fn no_descriptor_but_the_standard_three() -> Outcome {
    let bench = Bench::new()?;
    let secret = File::open("/etc/hostname")?;
    // A library of the embedding program that does not care.
    fcntl_setfd(&secret, FdFlags::empty())?;

    let report = bench.run(&["/bin/ls", "/proc/self/fd"], 10).await?;

    // 3 is the directory that `ls` itself reads.
    assert_eq!(
        report.output,
        "0\n1\n2\n3\n",
        "{} was open here",
        secret.as_raw_fd()
    );
    Ok(())
}

/// H7
#[tokio::test]
async fn an_empty_standard_input() -> Outcome {
    let bench = Bench::new()?;

    let report = bench.run(&["/usr/bin/wc", "-c"], 10).await?;

    assert_eq!(report.output, "0\n");
    Ok(())
}

/// H7
#[tokio::test]
async fn a_session_of_its_own_and_no_way_to_new_privileges() -> Outcome {
    let bench = Bench::new()?;

    let report = bench
        .script(
            "echo $$; cut -d' ' -f6 /proc/$$/stat; grep NoNewPrivs /proc/$$/status; umask",
            10,
        )
        .await?;

    let lines: Vec<_> = report.output.lines().collect();
    assert_eq!(lines[0], lines[1], "the session is named for its leader");
    assert_eq!(lines[2..], ["NoNewPrivs:\t1", "0077"]);
    Ok(())
}

/// H7
#[tokio::test]
async fn limits_on_core_files_and_descriptors() -> Outcome {
    let bench = Bench::new()?;

    let report = bench.script("ulimit -c; ulimit -n; ulimit -Hn", 10).await?;

    assert_eq!(report.output, "0\n1024\n1024\n");
    Ok(())
}

/// H7
#[tokio::test]
async fn signals_as_a_fresh_process_has_them() -> Outcome {
    let bench = Bench::new()?;

    let report = bench
        .run(
            &["/bin/grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"],
            10,
        )
        .await?;

    assert_eq!(
        report.output,
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    );
    Ok(())
}

/// H7
#[tokio::test]
async fn another_user_with_that_users_groups_and_home() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut bench = Bench::new()?;
    bench.runner = bench
        .runner
        .run_as(arkeep_hooks::process::Account::by_name("nobody")?);

    let report = bench
        .script("id -un; id -Gn; echo $HOME; cat /etc/shadow", 10)
        .await?;

    let lines: Vec<_> = report.output.lines().collect();
    assert_eq!(lines[..3], ["nobody", "nogroup", "/nonexistent"]);
    assert!(lines[3].contains("Permission denied"));
    Ok(())
}

/// H7
#[tokio::test]
async fn no_run_as_a_user_that_does_not_exist() {
    let error = arkeep_hooks::process::Account::by_name("no-such-user").unwrap_err();

    assert!(matches!(error, RunError::User(_)));
}

/// H4
#[tokio::test]
async fn no_shell_between_it_and_its_arguments() -> Outcome {
    let bench = Bench::new()?;

    let report = bench
        .run(
            &["/bin/echo", "$HOME", "$(id)", "`id`", ";", "a  b", "*"],
            10,
        )
        .await?;

    assert_eq!(report.output, "$HOME $(id) `id` ; a  b *\n");
    Ok(())
}

/// H4: `execvp` would hand such a file to `/bin/sh`.
#[tokio::test]
async fn no_shell_for_a_file_without_an_interpreter() -> Outcome {
    let bench = Bench::new()?;
    std::fs::write(bench.path("hook"), "echo ran > \"$0.ran\"\n")?;
    std::fs::set_permissions(
        bench.path("hook"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;

    let error = bench.run(&["@/hook"], 10).await.unwrap_err();

    assert!(matches!(error, RunError::Start(_)), "{error:?}");
    assert!(!bench.path("hook.ran").exists());
    Ok(())
}

/// H10
#[tokio::test]
async fn nothing_where_its_approval_was_for_another_place() -> Outcome {
    let mut bench = Bench::new()?;
    bench.context.phase = Phase::After;

    let error = bench.run(&["/bin/touch", "@/ran"], 10).await.unwrap_err();

    assert!(matches!(error, RunError::OtherContext));
    assert!(!bench.path("ran").exists());
    Ok(())
}
