//! Whole jobs with the restic of this machine.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arkeep_agent::executor::{Executor, HookGate, Tools};
use arkeep_agent::guard::{DeniedSources, RestoreTargets};
use arkeep_agent::outbox::Outbox;
use arkeep_agent::restic::{BinarySource, ResticConfig, ResticEngine};
use arkeep_core::engine::{BackupEngine, Silent, SnapshotFilter};
use arkeep_core::job::{Assignment, DestinationWork, JobReport, Outcome, RestoreWork, Work};
use arkeep_core::policy::{Limits, Source};
use arkeep_core::snapshot::{RepositorySnapshot, ResticId};
use arkeep_core::{AgentId, Clock, SystemClock, SystemEntropy};
use arkeep_hooks::{Off, ProcessRunner};
use arkeep_vault::{Keyring, Vault};

use crate::bench::{TestResult, backup, eventually, job, locks_in, parts};

struct Machine {
    home: PathBuf,
    outbox: Arc<Outbox>,
    engine: Arc<ResticEngine>,
    executor: Executor,
    _held: tempfile::TempDir,
}

impl Machine {
    fn new() -> Result<Self, Box<dyn Error>> {
        let held = tempfile::tempdir()?;
        let home = held.path().canonicalize()?;
        fs::create_dir(home.join("source"))?;
        let sealer = Arc::new(Vault::new(Keyring::generate(0)?));
        let (outbox, _, _) = Outbox::open(&home.join("outbox"), sealer, 10)?;
        let outbox = Arc::new(outbox);
        let path = BinarySource::Path("/usr/local/bin:/usr/bin:/bin".into());
        let config = ResticConfig::new(path, home.join("cache"), home.join("run"));
        let engine = Arc::new(ResticEngine::new(config)?);
        let tools = Tools {
            engine: Arc::<ResticEngine>::clone(&engine),
            outbox: Arc::clone(&outbox),
            clock: Arc::new(SystemClock),
            hooks: HookGate {
                policy: Arc::new(Off),
                runner: Arc::new(ProcessRunner::new()),
                agent: AgentId::mint(SystemClock.now(), &SystemEntropy),
                decided_in: "agent.toml".to_owned(),
            },
            targets: RestoreTargets::new(vec![home.join("restore")]),
            denied: DeniedSources::new(vec![home.join("source/denied*")]),
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        };
        Ok(Self {
            home,
            outbox,
            engine,
            executor: Executor::new(tools, 2),
            _held: held,
        })
    }

    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        let path = self.home.join("source").join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, content)
    }

    /// A backup of the source to a repository of this machine.
    fn backup(&self, excludes: &[&str]) -> Assignment {
        let mut assignment = backup(&[&self.home.join("repository").to_string_lossy()]);
        if let Work::Backup(work) = &mut assignment.work {
            let source = self.home.join("source").to_string_lossy().into_owned();
            work.sources = vec![Source::Path(source)];
            work.excludes = excludes
                .iter()
                .map(|pattern| (*pattern).to_owned())
                .collect();
        }
        assignment
    }

    async fn run(&self, assignment: Assignment) -> Result<JobReport, Box<dyn Error>> {
        let job = assignment.job;
        self.begin(assignment)?;
        eventually(|| self.outbox.report(job, 2).is_some()).await;
        Ok(self.outbox.report(job, 2).ok_or("it was there")?)
    }

    fn begin(&self, assignment: Assignment) -> TestResult {
        self.outbox.admit(&assignment)?;
        self.executor.submit(assignment);
        Ok(())
    }

    async fn snapshots(&self, of: &Assignment) -> Result<Vec<RepositorySnapshot>, Box<dyn Error>> {
        let repository = &destination(of).repository;
        let all = SnapshotFilter::default();
        Ok(self.engine.snapshots(repository, &all, &Silent).await?)
    }

    fn restore(&self, from: &Assignment, snapshot: &ResticId, target: &str) -> Assignment {
        Assignment {
            job: job(),
            work: Work::Restore(Box::new(RestoreWork {
                destination: destination(from).clone(),
                snapshot: snapshot.clone(),
                target: self.home.join(target).to_string_lossy().into_owned(),
                include: Vec::new(),
                overwrite: true,
                limits: Limits::default(),
            })),
            ..from.clone()
        }
    }

    fn locks(&self) -> usize {
        locks_in(&self.home.join("repository/locks"))
    }
}

fn destination(of: &Assignment) -> &DestinationWork {
    match &of.work {
        Work::Backup(work) => &work.destinations[0],
        other => panic!("not a backup: {other:?}"),
    }
}

fn snapshot_of(report: &JobReport) -> ResticId {
    parts(report).results[0]
        .snapshot_id
        .clone()
        .expect("a snapshot")
}

/// G6, S4
#[tokio::test]
async fn what_was_backed_up_comes_back() -> TestResult {
    let machine = Machine::new()?;
    machine.write("a", b"hello")?;
    machine.write("-o deep/b", &[0; 100_000])?;
    let first = machine.backup(&[]);

    let report = machine.run(first.clone()).await?;
    assert_eq!(parts(&report).outcome, Outcome::Succeeded, "{report:?}");
    let snapshots = machine.snapshots(&first).await?;
    assert_eq!(snapshots.len(), 1);
    assert!(snapshots[0].tags.contains(&format!("job:{}", first.job)));

    let restore = machine.restore(&first, &snapshot_of(&report), "restore/here");
    let report = machine.run(restore).await?;
    assert_eq!(parts(&report).outcome, Outcome::Succeeded, "{report:?}");
    let source = machine.home.join("source");
    let back = machine
        .home
        .join("restore/here")
        .join(source.strip_prefix("/")?);
    assert_eq!(fs::read(back.join("a"))?, b"hello");
    assert_eq!(fs::read(back.join("-o deep/b"))?, [0; 100_000]);
    assert_eq!(machine.locks(), 0);
    Ok(())
}

/// The owner's word is the last one, whatever the server asks for.
#[tokio::test]
async fn a_denied_path_is_in_no_snapshot() -> TestResult {
    let machine = Machine::new()?;
    machine.write("a", b"hello")?;
    machine.write("denied*/secret", b"secret")?;
    machine.write("denied-not/b", b"not a secret")?;
    let source = machine.home.join("source");
    let denied = source.join("denied*");
    let assignment = machine.backup(&[&format!("!{}", denied.display()), "!secret", "!*"]);

    let report = machine.run(assignment.clone()).await?;

    assert_eq!(parts(&report).outcome, Outcome::Succeeded, "{report:?}");
    let repository = &destination(&assignment).repository;
    let listed = machine
        .engine
        .list_entries(
            repository,
            &snapshot_of(&report),
            &source.to_string_lossy(),
            &Silent,
        )
        .await?;
    let mut names: Vec<_> = listed.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "denied-not"]);
    Ok(())
}

/// G9
#[tokio::test]
async fn a_stopped_backup_leaves_no_lock() -> TestResult {
    let machine = Machine::new()?;
    machine.write("a", b"hello")?;
    machine.run(machine.backup(&[])).await?;
    // Random, so that it has to be written, and slowly.
    let noise = fs::File::open("/dev/urandom")?;
    let mut big = fs::File::create(machine.home.join("source/big"))?;
    std::io::copy(&mut std::io::Read::take(noise, 20 << 20), &mut big)?;
    let mut assignment = machine.backup(&[]);
    if let Work::Backup(work) = &mut assignment.work {
        work.limits.upload_kib = Some(256);
    }
    let job = assignment.job;

    machine.begin(assignment)?;
    eventually(|| machine.locks() > 0).await;
    assert!(machine.executor.shut_down(Duration::from_secs(20)).await);

    let report = machine.outbox.report(job, 2).ok_or("an end")?;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Cancelled, Some("agent_stopped"))
    );
    assert_eq!(machine.locks(), 0);
    Ok(())
}

/// G12: two snapshots, the first with a link where the second has a directory.
#[tokio::test]
async fn a_restored_link_does_not_lead_the_next_restore_out() -> TestResult {
    let machine = Machine::new()?;
    let outside = machine.home.join("outside");
    fs::create_dir(&outside)?;
    let trap = machine.home.join("source/trap");
    std::os::unix::fs::symlink(&outside, &trap)?;
    let first = machine.backup(&[]);
    let link = snapshot_of(&machine.run(first.clone()).await?);
    fs::remove_file(&trap)?;
    machine.write("trap/written", b"by the restore")?;
    let second = machine.backup(&[]);
    let directory = snapshot_of(&machine.run(second).await?);

    let report = machine
        .run(machine.restore(&first, &link, "restore/t"))
        .await?;
    assert_eq!(parts(&report).outcome, Outcome::Succeeded);
    let report = machine
        .run(machine.restore(&first, &directory, "restore/t"))
        .await?;

    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("target_refused"))
    );
    assert!(!outside.join("written").exists());
    Ok(())
}

/// S4
#[tokio::test]
async fn sources_that_are_missing_are_never_a_success() -> TestResult {
    let machine = Machine::new()?;
    machine.write("a", b"hello")?;
    let gone = Source::Path(machine.home.join("gone").to_string_lossy().into_owned());
    let mut one_of_two = machine.backup(&[]);
    let mut all = machine.backup(&[]);
    if let Work::Backup(work) = &mut one_of_two.work {
        work.sources.push(gone.clone());
    }
    if let Work::Backup(work) = &mut all.work {
        work.sources = vec![gone];
    }

    let report = machine.run(one_of_two).await?;
    let end = parts(&report);
    assert_eq!(end.outcome, Outcome::Partial, "{report:?}");
    assert!(end.results[0].snapshot_id.is_some());

    let report = machine.run(all).await?;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("sources_missing"))
    );
    assert!(end.results[0].snapshot_id.is_none());
    Ok(())
}
