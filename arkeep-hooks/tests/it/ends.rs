//! How hooks end, and everything with them.

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use arkeep_hooks::{HookRunner as _, HookState};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::support::{Bench, Outcome, dies, is_alive, until};

/// Both ways of finding what a hook started.
fn benches() -> Result<[Bench; 2], Box<dyn std::error::Error>> {
    let mut walking = Bench::new()?;
    walking.runner = walking.runner.without_cgroup();
    Ok([Bench::new()?, walking])
}

const DOUBLE_FORK: &str = "(setsid sh -c 'echo $$ > @/pid.new; mv @/pid.new @/pid; exec sleep 1000' &) & \
                           while ! test -e @/pid; do sleep 0.01; done;";

/// H8
#[tokio::test]
async fn at_the_timeout() -> Outcome {
    for bench in benches()? {
        let started = Instant::now();

        let report = bench
            .script("echo $$ > @/pid; echo on; exec sleep 1000", 1)
            .await?;

        assert_eq!(
            (report.state, report.exit_code),
            (HookState::TimedOut, None)
        );
        assert_eq!(report.output, "on\n");
        assert!(started.elapsed() < Duration::from_secs(1 + 6));
        assert!(!is_alive(bench.pid("pid")?));
    }
    Ok(())
}

/// H8
#[tokio::test]
async fn at_the_timeout_also_what_left_the_session_and_the_family() -> Outcome {
    for bench in benches()? {
        let report = bench
            .script(&format!("{DOUBLE_FORK} sleep 1000"), 1)
            .await?;

        assert_eq!(report.state, HookState::TimedOut);
        assert!(!is_alive(bench.pid("pid")?));
    }
    Ok(())
}

/// H8
#[tokio::test]
async fn at_the_timeout_also_what_ignores_signals_and_stops() -> Outcome {
    for bench in benches()? {
        let script = "trap '' TERM INT HUP; (echo $$ > @/pid; kill -STOP $$) ; sleep 1000";

        let report = bench.script(script, 1).await?;

        assert_eq!(report.state, HookState::TimedOut);
        assert!(!is_alive(bench.pid("pid")?));
    }
    Ok(())
}

/// H8: the orphan holds the output pipe open.
#[tokio::test]
async fn without_waiting_for_a_pipe_that_somebody_holds_open() -> Outcome {
    for bench in benches()? {
        let started = Instant::now();

        let report = bench
            .script(&format!("{DOUBLE_FORK} echo done"), 100)
            .await?;

        assert_eq!(
            (report.state, report.output.as_str()),
            (HookState::Succeeded, "done\n")
        );
        assert!(started.elapsed() < Duration::from_secs(6));
        assert!(!is_alive(bench.pid("pid")?));
        assert!(
            report.notes.iter().any(|note| note.contains("left behind")),
            "{:?}",
            report.notes
        );
    }
    Ok(())
}

/// H8
#[tokio::test]
async fn when_its_caller_says_so() -> Outcome {
    for bench in benches()? {
        let script = format!("{DOUBLE_FORK} touch @/on; sleep 1000");
        let cancel = bench.context.cancel.clone();

        let (report, ()) = tokio::join!(bench.script(&script, 100), async {
            until(|| bench.path("on").exists()).await;
            cancel.cancel();
        });

        assert_eq!(report?.state, HookState::Cancelled);
        assert!(!is_alive(bench.pid("pid")?));
    }
    Ok(())
}

/// H8
#[tokio::test]
async fn when_nobody_waits_for_it_any_more() -> Outcome {
    for bench in benches()? {
        let script = format!("{DOUBLE_FORK} touch @/on; sleep 1000");

        tokio::select! {
            _ = bench.script(&script, 100) => return Err("it ended by itself".into()),
            () = until(|| bench.path("on").exists()) => {}
        }

        let pid = bench.pid("pid")?;
        assert!(dies(pid));
    }
    Ok(())
}

/// H8
#[tokio::test]
async fn when_the_agent_is_killed() -> Outcome {
    for way in ["cgroup", "walk"] {
        let bench = Bench::new()?;
        let mut agent = embedder(&bench, way)?;
        until(|| bench.path("on").exists()).await;
        let (leader, orphan) = (bench.pid("leader")?, bench.pid("pid")?);
        assert!(is_alive(leader) && is_alive(orphan));

        kill_process(Pid::from_child(&agent), Signal::KILL)?;
        agent.wait()?;

        assert!(dies(leader) && dies(orphan), "{way}");
    }
    Ok(())
}

/// H8: a process that waits for any child would take others' away.
#[tokio::test]
async fn without_touching_other_children_of_the_agent() -> Outcome {
    let bench = Bench::new()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a child that is not the runner's"
    )]
    let mut other = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn()?;

    for _ in 0..5 {
        bench.script("(sleep 1000 &) ; exit 0", 10).await?;
    }

    assert_eq!(other.wait()?.code(), Some(3));
    Ok(())
}

/// H8
#[tokio::test]
async fn without_leaving_a_cgroup() -> Outcome {
    let bench = Bench::new()?;

    let report = bench.run(&["/bin/cat", "/proc/self/cgroup"], 10).await?;

    if let Some(path) = report
        .output
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        && path.contains("arkeep-hook-")
    {
        assert!(
            !std::path::Path::new("/sys/fs/cgroup/unified")
                .join(&path[1..])
                .exists()
        );
        assert!(
            !std::path::Path::new("/sys/fs/cgroup")
                .join(&path[1..])
                .exists()
        );
    }
    Ok(())
}

fn embedder(bench: &Bench, way: &str) -> std::io::Result<std::process::Child> {
    let this = env::current_exe()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "stands for an agent, to be killed"
    )]
    Command::new(this)
        .args(["--exact", "ends::as_another_process", "--nocapture"])
        .env("BENCH", bench.dir.path())
        .env("WAY", way)
        .stdout(Stdio::null())
        .spawn()
}

/// Not a test of its own: [`when_the_agent_is_killed`] starts this file again to have an agent.
#[tokio::test]
async fn as_another_process() -> Outcome {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is how it is told what to be"
    )]
    let (Ok(dir), Ok(way)) = (env::var("BENCH"), env::var("WAY")) else {
        return Ok(());
    };
    let mut bench = Bench::new()?;
    if way == "walk" {
        bench.runner = bench.runner.without_cgroup();
    }
    let script = format!("echo $$ > @/leader; {DOUBLE_FORK} touch @/on; sleep 1000");
    let hook = bench.approve(&["/bin/sh", "-c", &script.replace('@', &dir)], 100);
    bench.runner.run(&hook, &bench.context).await?;
    Ok(())
}
