//! What a hook tries on things that are not its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use arkeep_hooks::process::{Account, Limits};
use rustix::process::geteuid;

use crate::support::{Bench, Outcome, is_alive};

/// A directory of the agent, and whether what is in it is as it was.
struct Own {
    bench: Bench,
}

impl Own {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let mut bench = Bench::new()?;
        fs::create_dir(bench.path("state"))?;
        // As open as a careless owner could leave them.
        fs::set_permissions(bench.path("state"), fs::Permissions::from_mode(0o777))?;
        fs::write(bench.path("state/key"), "the agent's key")?;
        fs::set_permissions(bench.path("state/key"), fs::Permissions::from_mode(0o666))?;
        let state = bench.path("state");
        bench.runner = bench.runner.hide(state);
        Ok(Self { bench })
    }

    async fn is_untouched_by(&self, script: &str) -> Outcome {
        let report = self.bench.script(script, 10).await?;

        let state = self.bench.path("state");
        let files: Vec<_> = fs::read_dir(&state)?.collect::<Result<_, _>>()?;
        assert_eq!(files.len(), 1, "{}", report.output);
        let key = fs::read_to_string(state.join("key"))?;
        assert_eq!(key, "the agent's key", "{}", report.output);
        assert!(!self.bench.path("copy").exists(), "{}", report.output);
        Ok(())
    }
}

const WRITE: &str = "echo x > @/state/key; echo x >> @/state/key; echo x > @/state/new; \
                     rm -f @/state/key; ln @/state/key @/copy; mv @/state/key @/copy; \
                     mv @/state @/copy; chmod 000 @/state/key; true";

/// H7
#[tokio::test]
async fn change_what_the_agent_keeps_to_itself() -> Outcome {
    Own::new()?.is_untouched_by(WRITE).await
}

/// H7
#[tokio::test]
async fn change_what_the_agent_keeps_to_itself_as_another_user() -> Outcome {
    if !geteuid().is_root() {
        return Ok(());
    }
    let mut own = Own::new()?;
    own.bench.runner = own.bench.runner.run_as(Account::by_name("nobody")?);

    own.is_untouched_by(WRITE).await
}

/// H7
#[tokio::test]
async fn write_to_files_that_its_user_may_not_write() -> Outcome {
    if !geteuid().is_root() {
        return Ok(());
    }
    let mut bench = Bench::new()?;
    bench.runner = bench.runner.run_as(Account::by_name("nobody")?);
    fs::create_dir(bench.path("roots"))?;
    fs::write(bench.path("roots/file"), "root's")?;

    let script = "for f in /etc/arkeep-hook @/roots/file @/roots/new /proc/sys/kernel/core_pattern \
                  /proc/1/oom_score_adj; do echo x > $f && echo wrote $f; done; echo x > @/own";
    let report = bench.script(script, 10).await?;

    assert!(!report.output.contains("wrote"), "{}", report.output);
    assert_eq!(fs::read_to_string(bench.path("roots/file"))?, "root's");
    assert!(!bench.path("roots/new").exists());
    assert!(!std::path::Path::new("/etc/arkeep-hook").exists());
    // The test itself could have written.
    assert_eq!(fs::read_to_string(bench.path("own"))?, "x\n");
    Ok(())
}

/// H8: without a cgroup, a user that is not root has a limit of its own.
#[tokio::test]
async fn start_more_processes_than_its_user_may() -> Outcome {
    if !geteuid().is_root() {
        return Ok(());
    }
    let mut bench = Bench::new()?;
    bench.runner = bench
        .runner
        .without_cgroup()
        .run_as(Account::by_name("nobody")?)
        .limits(Limits {
            processes: 12,
            ..Limits::default()
        });

    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do \
                  sleep 1000 & echo $! > @/pid; echo started; done";
    let report = bench.script(script, 10).await?;

    let started = report.output.matches("started").count();
    assert!(
        report.output.contains("Cannot fork") && started < 12,
        "{}",
        report.output
    );
    assert!(!is_alive(bench.pid("pid")?));
    Ok(())
}

/// H8: root without a cgroup has no limit, and is told so.
#[tokio::test]
async fn start_any_number_of_processes_unsaid() -> Outcome {
    if !geteuid().is_root() {
        return Ok(());
    }
    let mut bench = Bench::new()?;
    bench.runner = bench.runner.without_cgroup();

    let report = bench.run(&["/bin/true"], 10).await?;

    let said = |note: &String| note.contains("a bound on the number of processes");
    assert!(report.notes.iter().any(said), "{:?}", report.notes);
    assert!(!report.layers.contains(&"bound on processes"));
    Ok(())
}
