//! What a hook tries and cannot do.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use arkeep_hooks::process::{Account, Limits};
use arkeep_hooks::{HookState, ProcessRunner, RunError};

use crate::support::{Bench, Outcome, is_alive};

/// A directory that the agent keeps to itself, beside things that it does not.
fn with_secret() -> Result<Bench, Box<dyn std::error::Error>> {
    let mut bench = Bench::new()?;
    fs::create_dir(bench.path("state"))?;
    fs::write(bench.path("state/key"), "the agent's key")?;
    fs::write(bench.path("beside"), "the hook's file")?;
    let state = bench.path("state");
    bench.runner = bench.runner.hide(state);
    Ok(bench)
}

const LOOK: &str = "cat @/beside; for p in @/state/key /proc/$AGENT/root@/state/key \
                    /proc/$AGENT/cwd/state/key; do cat $p; done";

fn look(agent: u32) -> String {
    LOOK.replace("$AGENT", &agent.to_string())
}

/// H7
#[tokio::test]
async fn reach_hidden_files() -> Outcome {
    let bench = with_secret()?;

    let report = bench.script(&look(std::process::id()), 10).await?;

    assert!(
        report.output.contains("the hook's file"),
        "{}",
        report.output
    );
    assert!(
        !report.output.contains("the agent's key"),
        "{}",
        report.output
    );
    Ok(())
}

/// H7
#[tokio::test]
async fn reach_hidden_files_by_moving_what_hides_them() -> Outcome {
    let bench = with_secret()?;

    let script = "umount @/state; mount --bind / /mnt; unshare -m umount @/state; \
                  nsenter -t 1 -m cat @/state/key; chroot /proc/1/root cat @/state/key; \
                  cat @/state/key";
    let report = bench.script(script, 10).await?;

    assert!(
        !report.output.contains("the agent's key"),
        "{}",
        report.output
    );
    Ok(())
}

/// H7
#[tokio::test]
async fn read_the_agents_memory_environment_and_descriptors() -> Outcome {
    let bench = Bench::new()?;
    let agent = std::process::id();

    for script in [
        format!("cat /proc/{agent}/environ"),
        format!("head -c 1 /proc/{agent}/mem"),
        format!("cat /proc/{agent}/maps"),
        format!("ls /proc/{agent}/fd/"),
        format!("cat /proc/{agent}/fd/0"),
    ] {
        let report = bench.script(&script, 10).await?;

        assert_eq!(
            report.state,
            HookState::Failed,
            "{script}: {}",
            report.output
        );
        assert!(is_refused(&report.output), "{script}: {}", report.output);
    }
    Ok(())
}

/// Nothing but messages that say no.
fn is_refused(output: &str) -> bool {
    let no = ["Permission denied", "No such file or directory"];
    !output.is_empty()
        && output
            .lines()
            .all(|line| no.iter().any(|no| line.ends_with(no)))
}

/// H7: the copy of the agent that guards the hook is as secret as the agent.
#[tokio::test]
async fn read_the_wardens_memory() -> Outcome {
    let bench = Bench::new()?;

    let report = bench
        .script("cat /proc/$PPID/maps /proc/$PPID/environ", 10)
        .await?;

    assert!(is_refused(&report.output), "{}", report.output);
    Ok(())
}

/// H7
#[tokio::test]
async fn make_calls_that_a_hook_has_no_use_for() -> Outcome {
    let mut bench = Bench::new()?;
    bench.context.job = "hostile-calls".to_owned();
    bench.context.state = std::process::id().to_string();
    let this = env::current_exe()?.display().to_string();

    let report = bench
        .run(
            &[&this, "--exact", "cage::hostile_calls", "--nocapture"],
            10,
        )
        .await?;

    let refused = report
        .output
        .lines()
        .filter(|line| line.ends_with(": refused"))
        .count();
    assert_eq!(refused, 14, "{}", report.output);
    Ok(())
}

/// Not a test of its own: [`make_calls_that_a_hook_has_no_use_for`] starts this file as a hook.
#[test]
#[expect(unsafe_code, reason = "a hostile program does not ask the type system")]
fn hostile_calls() {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is how it is told what to be"
    )]
    let (job, agent) = (env::var("BACKUP_JOB"), env::var("BACKUP_STATE"));
    if job.as_deref() != Ok("hostile-calls") {
        return;
    }
    let agent: libc::c_long = agent.ok().and_then(|agent| agent.parse().ok()).unwrap();
    let root = c"/".as_ptr() as libc::c_long;
    let calls: [(&str, libc::c_long, [libc::c_long; 5]); 14] = [
        (
            "ptrace",
            libc::SYS_ptrace,
            [libc::PTRACE_ATTACH.into(), agent, 0, 0, 0],
        ),
        (
            "process_vm_readv",
            libc::SYS_process_vm_readv,
            [agent, 0, 0, 0, 0],
        ),
        ("keyctl", libc::SYS_keyctl, [0, -3, 0, 0, 0]),
        (
            "mount",
            libc::SYS_mount,
            [root, root, 0, libc::MS_BIND as libc::c_long, 0],
        ),
        ("umount", libc::SYS_umount2, [root, 0, 0, 0, 0]),
        ("open_tree", libc::SYS_open_tree, [-100, root, 1, 0, 0]),
        ("bpf", libc::SYS_bpf, [0, 0, 0, 0, 0]),
        (
            "unshare",
            libc::SYS_unshare,
            [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0],
        ),
        ("setns", libc::SYS_setns, [0, 0, 0, 0, 0]),
        (
            "open_by_handle_at",
            libc::SYS_open_by_handle_at,
            [-100, root, 0, 0, 0],
        ),
        (
            "perf_event_open",
            libc::SYS_perf_event_open,
            [0, 0, 0, 0, 0],
        ),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, [0, 0, 0, 0, 0]),
        (
            "clone in a namespace",
            libc::SYS_clone,
            [(libc::CLONE_NEWUSER | libc::SIGCHLD).into(), 0, 0, 0, 0],
        ),
        (
            "ptrace by x32",
            0x4000_0000 + 521,
            [libc::PTRACE_ATTACH.into(), agent, 0, 0, 0],
        ),
    ];
    for (name, call, [a, b, c, d, e]) in calls {
        // SAFETY: each is meant to be refused before it looks at its arguments.
        let result = unsafe { libc::syscall(call, a, b, c, d, e) };
        let error = std::io::Error::last_os_error().raw_os_error();
        let refused = result == -1 && matches!(error, Some(libc::EPERM | libc::ENOSYS));
        println!(
            "{name}: {}",
            if refused { "refused" } else { "went through" }
        );
    }
}

/// H8
#[tokio::test]
async fn leave_its_cgroup() -> Outcome {
    let bench = Bench::new()?;

    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/pids; do \
                  test -e $d/cgroup.procs && echo $$ > $d/cgroup.procs && echo left; done; \
                  cat /proc/$$/cgroup";
    let report = bench.script(script, 10).await?;

    assert!(!report.output.contains("left"), "{}", report.output);
    Ok(())
}

/// H8
#[tokio::test]
async fn start_more_processes_than_it_may() -> Outcome {
    let mut bench = Bench::new()?;
    bench.runner = bench.runner.limits(Limits {
        processes: 20,
        ..Limits::default()
    });

    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do \
                  sleep 1000 & echo $! > @/pid; echo started; done";
    let report = bench.script(script, 10).await?;

    let started = report.output.matches("started").count();
    assert!(
        report.output.contains("Cannot fork") && started < 20,
        "{}",
        report.output
    );
    assert!(!is_alive(bench.pid("pid")?));
    Ok(())
}

/// H8
#[tokio::test]
async fn take_the_machine_down_with_a_fork_bomb() -> Outcome {
    let mut bench = Bench::new()?;
    bench.runner = bench.runner.limits(Limits {
        processes: 60,
        ..Limits::default()
    });

    let report = bench.script("b() { b | b & }; b; sleep 1000", 1).await?;

    assert!(
        matches!(report.state, HookState::TimedOut | HookState::Failed),
        "{report:?}"
    );
    assert!(report.elapsed.as_secs() < 7);
    Ok(())
}

/// H7
#[tokio::test]
async fn pass_off_a_value_as_something_else() -> Outcome {
    let mut bench = Bench::new()?;
    for value in ["a b", "", "*", "a\nb", "a\0b", "$(id)"] {
        bench.context.job = value.to_owned();

        let error = bench.run(&["/bin/true"], 10).await.unwrap_err();

        assert!(matches!(error, RunError::System(_)), "{value:?}");
    }
    Ok(())
}

/// H7
#[tokio::test]
async fn run_without_a_sandbox_that_is_required() -> Outcome {
    let mut bench = Bench::new()?;
    bench.runner = bench.runner.without_cgroup().require_sandbox(true);

    let error = bench.run(&["/bin/touch", "@/ran"], 10).await.unwrap_err();

    assert!(matches!(error, RunError::Sandbox(_)), "{error:?}");
    assert!(!bench.path("ran").exists());
    Ok(())
}

/// H7
#[tokio::test]
async fn keep_what_is_missing_to_itself() -> Outcome {
    let with = ProcessRunner::new().inspect().await?;
    let without = ProcessRunner::new().without_cgroup().inspect().await?;

    let missing = |line: &String| line.contains("not on this machine: cgroup");
    assert!(without.lacking.iter().any(missing), "{without:?}");
    assert!(!without.layers.contains(&"cgroup"), "{without:?}");
    assert_ne!(
        with.layers.contains(&"cgroup"),
        with.lacking.iter().any(missing),
        "{with:?}"
    );
    for layer in ["Landlock", "system call filter"] {
        let missing = |line: &String| line.contains(layer);
        assert_ne!(
            with.layers.contains(&layer),
            with.lacking.iter().any(missing),
            "{with:?}"
        );
    }
    Ok(())
}

/// H7: an agent that is not root hides its files by Landlock.
#[tokio::test]
async fn reach_hidden_files_of_an_agent_that_is_not_root() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let bench = with_secret()?;
    let nobody = 65534;
    std::os::unix::fs::chown(bench.path("state/key"), Some(nobody), Some(nobody))?;
    // Where every user can execute it. By another process: a copy that this one has open for
    // writing while another test forks cannot be executed.
    let this = bench.path("agent");
    #[expect(clippy::disallowed_methods, reason = "a file is copied")]
    Command::new("/bin/cp")
        .arg(env::current_exe()?)
        .arg(&this)
        .status()?;
    #[expect(clippy::disallowed_methods, reason = "stands for an agent")]
    let status = Command::new(&this)
        .args(["--exact", "cage::as_another_user", "--nocapture"])
        .env("BENCH", bench.dir.path())
        .uid(nobody)
        .gid(nobody)
        .stdout(Stdio::null())
        .status()?;

    assert!(status.success());
    let output = fs::read_to_string(bench.path("output"))?;
    assert!(output.contains("the hook's file"), "{output}");
    assert!(!output.contains("the agent's key"), "{output}");
    assert!(output.contains("environ: Permission denied"), "{output}");
    assert!(output.contains("alive after kill"), "{output}");
    Ok(())
}

/// Not a test of its own: [`reach_hidden_files_of_an_agent_that_is_not_root`] is run by another
/// user this way.
#[tokio::test]
async fn as_another_user() -> Outcome {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is how it is told what to be"
    )]
    let Ok(dir) = env::var("BENCH") else {
        return Ok(());
    };
    let mut bench = Bench::new()?;
    bench.runner = bench.runner.hide(format!("{dir}/state"));
    let agent = std::process::id();
    let script = format!(
        "{}; cat /proc/{agent}/environ; kill -9 {agent}; kill -9 $PPID; echo alive after kill",
        look(agent)
    );

    let report = bench.script(&script.replace('@', &dir), 10).await?;

    fs::write(
        format!("{dir}/output"),
        format!("{}{:?}", report.output, report.notes),
    )?;
    Ok(())
}

/// H7
#[tokio::test]
async fn reach_hidden_files_as_another_user() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut bench = with_secret()?;
    bench.runner = bench.runner.run_as(Account::by_name("nobody")?);

    let report = bench.script(&look(std::process::id()), 10).await?;

    assert!(
        report.output.contains("the hook's file"),
        "{}",
        report.output
    );
    assert!(
        !report.output.contains("the agent's key"),
        "{}",
        report.output
    );
    Ok(())
}
