//! What the agent learns of a hook.

use std::fs;

use arkeep_hooks::{HookState, RunError, Secrets};

use crate::support::{Bench, Outcome};

/// H10
#[tokio::test]
async fn success_and_failure_by_the_exit_code() -> Outcome {
    let bench = Bench::new()?;

    let good = bench.script("echo fine", 10).await?;
    let bad = bench.script("echo sad >&2; exit 7", 10).await?;
    let shot = bench.script("kill -15 $$", 10).await?;

    assert_eq!(
        (good.state, good.exit_code),
        (HookState::Succeeded, Some(0))
    );
    assert_eq!((bad.state, bad.exit_code), (HookState::Failed, Some(7)));
    assert_eq!(
        (shot.state, shot.exit_code, shot.signal),
        (HookState::Failed, None, Some(15))
    );
    assert_eq!(
        (good.output.as_str(), bad.output.as_str()),
        ("fine\n", "sad\n")
    );
    Ok(())
}

/// H10
#[tokio::test]
async fn a_program_that_is_not_there() -> Outcome {
    let bench = Bench::new()?;

    let error = bench.run(&["/nonexistent/hook"], 10).await.unwrap_err();

    assert!(matches!(error, RunError::Start(_)), "{error:?}");
    Ok(())
}

/// H9
#[tokio::test]
async fn output_in_the_order_in_which_it_was_written() -> Outcome {
    let bench = Bench::new()?;

    let report = bench
        .script("echo 1; echo 2 >&2; echo 3; echo 4 >&2", 10)
        .await?;

    assert_eq!(report.output, "1\n2\n3\n4\n");
    Ok(())
}

/// H9
#[tokio::test]
async fn no_secret_of_the_job() -> Outcome {
    let mut bench = Bench::new()?;
    bench.context.secrets = Secrets::new(["hunter2!"]);

    let report = bench
        .script(
            "printf 'pw=hun'; printf 'ter2!\\n'; printf 'hunter2!' | base64",
            10,
        )
        .await?;

    assert_eq!(report.output, "pw=[REDACTED]\n[REDACTED]\n");
    Ok(())
}

/// H9: a writer without end stands for any number of gigabytes.
#[tokio::test]
async fn the_ends_of_endless_output_in_bounded_memory() -> Outcome {
    let bench = Bench::new()?;
    let before = high_water_kib()?;

    let report = bench
        .script("echo first; exec cat /dev/zero | tr '\\0' x", 2)
        .await?;

    assert_eq!(report.state, HookState::TimedOut);
    assert!(report.output.starts_with("first\nxxx"));
    assert!(report.output.contains("bytes left out"));
    assert!(report.output.len() < 66 * 1024, "{}", report.output.len());
    let grown = high_water_kib()? - before;
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
    Ok(())
}

/// H9: every byte is taken and counted. `ARKEEP_PROOF=full` makes it 10 GB.
#[tokio::test]
async fn the_ends_of_gigabytes() -> Outcome {
    let bench = Bench::new()?;
    let bytes: u64 = if is_full() {
        10_000_000_000
    } else {
        100_000_000
    };
    let before = high_water_kib()?;

    let script = format!("head -c {bytes} /dev/zero | tr '\\0' x");
    let report = bench.script(&script, 3_000).await?;

    assert_eq!(report.state, HookState::Succeeded);
    let left_out = format!("\n[… {} bytes left out …]\n", bytes - 64 * 1024);
    assert!(report.output.contains(&left_out), "{}", report.output.len());
    let grown = high_water_kib()? - before;
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "how much a run of the tests proves"
)]
fn is_full() -> bool {
    std::env::var("ARKEEP_PROOF").is_ok_and(|proof| proof == "full")
}

fn high_water_kib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
