use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use arkeep_core::job::{Assignment, Outcome, RestoreWork, Work};
use arkeep_core::policy::{Limits, Source};
use arkeep_transport::session::EngineStatus;

use crate::bench::{TestResult, backup, eventually, job, locks_in, parts};

use super::server::{Machine, Server, said};

/// A backup of the machine's source to a repository on it.
fn backup_of(machine: &Machine) -> Assignment {
    let mut assignment = backup(&[&machine.path("repository").to_string_lossy()]);
    if let Work::Backup(work) = &mut assignment.work {
        let source = machine.path("source").to_string_lossy().into_owned();
        work.sources = vec![Source::Path(source)];
    }
    assignment
}

fn locks(machine: &Machine) -> usize {
    locks_in(&machine.path("repository/locks"))
}

/// A backup that keeps restic at work for a while.
fn slow_backup_of(machine: &Machine) -> Result<Assignment, Box<dyn std::error::Error>> {
    let mut noise = std::io::Read::take(fs::File::open("/dev/urandom")?, 20 << 20);
    let mut big = fs::File::create(machine.path("source/big"))?;
    std::io::copy(&mut noise, &mut big)?;
    let mut assignment = backup_of(machine);
    if let Work::Backup(work) = &mut assignment.work {
        work.limits.upload_kib = Some(256);
    }
    Ok(assignment)
}

/// G6, G10: one whole job over mutual TLS, and its restore.
#[tokio::test]
async fn backs_up_and_restores() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;
    let allowed = machine.path("restore");
    let config = format!("[restore]\nallowed_targets = [{allowed:?}]\n");
    fs::write(machine.path("agent.toml"), config)?;
    let agent = machine.run()?;
    let first = backup_of(&machine);

    server.heard.assign(&first).await;

    let report = server.heard.end_of(first.job).await;
    let end = parts(&report);
    assert_eq!(end.outcome, Outcome::Succeeded, "{report:?}");
    let Work::Backup(work) = &first.work else {
        unreachable!("it is a backup");
    };
    let restore = Assignment {
        job: job(),
        work: Work::Restore(Box::new(RestoreWork {
            destination: work.destinations[0].clone(),
            snapshot: end.results[0].snapshot_id.clone().ok_or("a snapshot")?,
            target: allowed.to_string_lossy().into_owned(),
            include: Vec::new(),
            overwrite: false,
            limits: Limits::default(),
        })),
        ..first.clone()
    };
    server.heard.assign(&restore).await;
    let report = server.heard.end_of(restore.job).await;
    assert_eq!(parts(&report).outcome, Outcome::Succeeded, "{report:?}");
    let source = machine.path("source/a");
    let back = allowed.join(source.strip_prefix("/")?);
    assert_eq!(fs::read_to_string(back)?, "hello");
    assert_eq!(agent.end().await?.code(), Some(0));
    Ok(())
}

/// V8: what belongs to a process that is not dumpable belongs to root in /proc.
#[tokio::test]
async fn keeps_its_memory_to_itself() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;
    let user = machine.give_away()?;
    let agent = machine.run_as(user)?;
    server.heard.connected().await;

    let proc = Path::new("/proc").join(agent.pid().to_string());
    assert_eq!(fs::metadata(proc.join("environ"))?.uid(), 0);
    let limits = fs::read_to_string(proc.join("limits"))?;
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let numbers: Vec<_> = core
        .ok_or("a line")?
        .split_whitespace()
        .skip(4)
        .take(2)
        .collect();
    assert_eq!(numbers, ["0", "0"]);

    // And the work is done all the same.
    let assignment = backup_of(&machine);
    server.heard.assign(&assignment).await;
    let report = server.heard.end_of(assignment.job).await;
    assert_eq!(parts(&report).outcome, Outcome::Succeeded, "{report:?}");
    assert_eq!(agent.end().await?.code(), Some(0));
    Ok(())
}

/// V4: neither the log of the agent nor that of a job shows a secret.
#[tokio::test]
async fn tells_no_secret() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "log_level = 'trace'\n").await?;
    let agent = machine.run()?;
    let assignment = backup_of(&machine);

    server.heard.assign(&assignment).await;
    server.heard.end_of(assignment.job).await;
    agent.end().await?;

    let log = machine.log();
    assert!(log.contains("job accepted"), "{log}");
    let lines = server.heard.lines.lock().unwrap().join("\n");
    for told in [log, lines] {
        assert!(
            !told.contains("hunter2") && !told.contains("PRIVATE KEY"),
            "{told}"
        );
    }
    Ok(())
}

/// G1: no restic, and the agent is there all the same and says so; the job fails with that text.
#[tokio::test]
async fn stays_connected_without_restic() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "[restic]\npath = '/nonexistent/restic'\n").await?;
    let agent = machine.run()?;
    let assignment = backup_of(&machine);

    server.heard.assign(&assignment).await;

    let report = server.heard.end_of(assignment.job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("restic_unusable"))
    );
    let hello = server.heard.hellos.lock().unwrap()[0].clone();
    assert_eq!(hello.engine, EngineStatus::Unusable(end.detail.to_owned()));
    assert!(end.detail.contains("/nonexistent/restic"), "{}", end.detail);
    assert_eq!(agent.end().await?.code(), Some(0));
    Ok(())
}

/// G9: SIGTERM while restic runs.
#[tokio::test]
async fn ends_on_sigterm_with_restic_stopped_and_the_job_reported() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;
    let agent = machine.run()?;
    let first = backup_of(&machine);
    server.heard.assign(&first).await;
    server.heard.end_of(first.job).await;
    let second = slow_backup_of(&machine)?;
    server.heard.assign(&second).await;
    eventually(|| locks(&machine) > 0).await;

    let status = agent.end().await?;

    assert_eq!(status.code(), Some(0), "{}", machine.log());
    let report = server.heard.end_of(second.job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Cancelled, Some("agent_stopped"))
    );
    assert_eq!(locks(&machine), 0);
    Ok(())
}

/// G10, G9: SIGKILL while restic runs. The truth is told once, and the next backup finds no lock.
#[tokio::test]
async fn accounts_for_a_job_after_sigkill() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;
    let agent = machine.run()?;
    let first = backup_of(&machine);
    server.heard.assign(&first).await;
    server.heard.end_of(first.job).await;
    let second = slow_backup_of(&machine)?;
    server.heard.assign(&second).await;
    eventually(|| locks(&machine) > 0).await;

    agent.kill().await?;
    let agent = machine.run()?;

    let report = server.heard.end_of(second.job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("interrupted"))
    );
    assert_eq!(locks(&machine), 0);
    let third = backup_of(&machine);
    server.heard.assign(&third).await;
    let report = server.heard.end_of(third.job).await;
    assert_eq!(parts(&report).outcome, Outcome::Succeeded, "{report:?}");
    assert_eq!(server.heard.ends_of(second.job).len(), 1);
    agent.end().await?;
    Ok(())
}

/// G10, T8: the server goes while a job runs and comes back after it; the result arrives once.
#[tokio::test]
async fn reports_when_the_server_is_back() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;
    let agent = machine.run()?;
    let assignment = backup_of(&machine);
    server.heard.assign(&assignment).await;
    eventually(|| !server.heard.accepted.lock().unwrap().is_empty()).await;

    server.go_away().await;
    let finished = machine
        .state()
        .join("outbox")
        .join(assignment.job.to_string())
        .join("finished");
    eventually(|| finished.exists() || !server.heard.ends_of(assignment.job).is_empty()).await;
    server.come_back().await?;

    let report = server.heard.end_of(assignment.job).await;
    assert_eq!(parts(&report).outcome, Outcome::Succeeded, "{report:?}");
    eventually(|| !finished.exists()).await;
    assert_eq!(server.heard.ends_of(assignment.job).len(), 1);
    agent.end().await?;
    Ok(())
}

#[tokio::test]
async fn refuses_what_it_cannot_start_with() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;
    let refused = async |machine: &Machine, arguments: &[&str]| -> Result<_, std::io::Error> {
        machine.command(arguments).output().await
    };

    // Usage.
    let output = refused(&machine, &["run", "--nonsense"]).await?;
    assert_eq!(output.status.code(), Some(2));

    // Configuration.
    fs::write(machine.path("agent.toml"), "[hooks]\npolcy = 'any'\n")?;
    let output = refused(&machine, &["run"]).await?;
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("polcy") && said(&output).contains("agent.toml"));
    fs::write(machine.path("agent.toml"), "")?;

    // Another agent on the same state directory.
    let agent = machine.run()?;
    server.heard.connected().await;
    let output = refused(&machine, &["run"]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("another agent"), "{}", said(&output));
    agent.end().await?;

    // The key.
    fs::remove_file(machine.state().join("key"))?;
    let output = refused(&machine, &["run"]).await?;
    assert_eq!(output.status.code(), Some(4));
    assert!(!machine.state().join("key").exists());

    // No identity.
    let stranger = Machine::new("")?;
    let output = refused(&stranger, &["run"]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("enroll"), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn the_doctor_says_what_is_wrong_in_one_line_each() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;

    let well = machine.command(["doctor"]).output().await?;
    let lines = String::from_utf8(well.stdout)?;
    assert_eq!(well.status.code(), Some(0), "{lines}");
    for what in [
        "configuration",
        "state",
        "restic",
        "identity",
        "clock",
        "server",
    ] {
        assert!(lines.contains(&format!("ok   {what}: ")), "{lines}");
    }

    server.go_away().await;
    fs::write(
        machine.path("agent.toml"),
        "[restic]\npath = '/nonexistent'\n",
    )?;
    let ill = machine.command(["doctor"]).output().await?;
    let lines = String::from_utf8(ill.stdout)?;
    assert_eq!(ill.status.code(), Some(1), "{lines}");
    for what in ["restic", "server"] {
        assert!(lines.contains(&format!("FAIL {what}: ")), "{lines}");
    }
    Ok(())
}

/// The service manager hears when the agent is ready, and that it ends.
#[tokio::test]
async fn tells_the_service_manager() -> TestResult {
    let server = Server::start().await?;
    let machine = Machine::of(&server, "").await?;
    let socket = machine.path("notify");
    let manager = tokio::net::UnixDatagram::bind(&socket)?;
    let agent = machine.run_with(|command| {
        command.env("NOTIFY_SOCKET", &socket);
    })?;
    let mut message = [0; 64];

    let length = manager.recv(&mut message).await?;
    assert_eq!(message[..length].trim_ascii(), b"READY=1");

    assert_eq!(agent.end().await?.code(), Some(0));
    let length = manager.recv(&mut message).await?;
    assert_eq!(message[..length].trim_ascii(), b"STOPPING=1");
    Ok(())
}
