//! The agent's core, killed with SIGKILL at every step of a job and started again.
//!
//! The agent is this test program, run once more as [`one_life_of_the_agent`]. The server is a
//! ledger: a line for each thing that the agent told it. The repository is a directory with a file
//! for each snapshot.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arkeep_agent::executor::{Executor, HookGate, Tools};
use arkeep_agent::guard::{DeniedSources, RestoreTargets};
use arkeep_agent::outbox::{Admission, Outbox};
use arkeep_agent::state::StateDir;
use arkeep_core::engine::{
    BackupEngine, BackupReport, BackupRequest, EngineError, EngineInfo, ForgetReport,
    ForgetRequest, Observer, RestoreReport, RestoreRequest, SnapshotFilter,
};
use arkeep_core::job::LogLevel;
use arkeep_core::policy::HookPhase::{After, Before};
use arkeep_core::repository::Repository;
use arkeep_core::secret::ExposeSecret;
use arkeep_core::snapshot::{Entry, RepositorySnapshot, ResticId};
use arkeep_core::{AgentId, Clock, SystemClock, SystemEntropy};
use arkeep_hooks::{Any, ProcessRunner};
use arkeep_transport::wire;
use async_trait::async_trait;
use rstest::rstest;

use crate::bench::{TestResult, parts, snapshot, with_hooks};

/// G10
#[rstest]
#[case::before_the_assignment_is_kept("admit.before")]
#[case::after_the_assignment_is_kept("admit.after")]
#[case::before_it_is_accepted("test.before-accepted")]
#[case::before_the_start_is_kept("started.before")]
#[case::after_the_start_is_kept("started.after")]
#[case::before_the_work("work.before")]
#[case::before_the_first_hook("hook.before")]
#[case::during_the_first_hook("test.during-hook")]
#[case::after_the_first_hook("hook.after")]
#[case::before_the_hook_is_kept("so-far.before")]
#[case::after_the_hook_is_kept("so-far.after")]
#[case::before_the_snapshot("test.before-snapshot")]
#[case::after_the_snapshot("test.after-snapshot")]
#[case::before_the_snapshot_is_kept("so-far.before:2")]
#[case::after_the_snapshot_is_kept("so-far.after:2")]
#[case::before_the_last_hook("hook.before:2")]
#[case::after_the_last_hook("hook.after:2")]
#[case::after_the_work("work.after")]
#[case::before_the_end_is_kept("finished.before")]
#[case::after_the_end_is_kept("finished.after")]
#[case::before_the_end_is_sent("test.before-sent")]
#[case::after_the_end_is_sent("test.after-sent")]
#[case::before_it_is_forgotten("acknowledge.before")]
#[case::after_it_is_forgotten("acknowledge.after")]
fn the_server_learns_the_truth_once_after_a_kill(#[case] point: &str) -> TestResult {
    let world = World::new()?;

    let killed = world.live(Some(point))?;
    assert_eq!(killed.signal(), Some(9), "the agent got to {point}");
    world.live_to_the_end()?;

    world.check(point)
}

/// G10: wherever a file is written, before and after it gets its name.
#[rstest]
fn no_file_is_seen_half_written(
    #[values("file.before-rename", "file.after-rename")] place: &str,
    #[values(1, 2, 3, 4, 5, 6, 7, 8)] time: u32,
) -> TestResult {
    let world = World::new()?;
    let point = format!("{place}:{time}");

    world.live(Some(&point))?;
    world.live_to_the_end()?;

    world.check(&point)
}

/// Not a test of its own: the agent that the tests above start and kill.
#[tokio::test]
async fn one_life_of_the_agent() -> TestResult {
    let Some(world) = World::of_the_parent() else {
        return Ok(());
    };
    world.live_through().await
}

struct World {
    home: PathBuf,
    _held: Option<tempfile::TempDir>,
}

impl World {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let held = tempfile::tempdir()?;
        let home = held.path().to_owned();
        let witness = |name: &str| format!("echo {name} >> {}/hooks", home.display());
        let before = format!(
            "{}; if [ -e {home}/kill ]; then kill -9 $(cat {home}/kill); sleep 20; fi",
            witness("before"),
            home = home.display()
        );
        let assignment = with_hooks("a", &[(Before, &before), (After, &witness("after"))]);
        let encoded = wire::encode_assignment(&assignment)?;
        fs::write(home.join("assignment"), encoded.expose_secret())?;
        fs::create_dir(home.join("repository"))?;
        Ok(Self {
            home,
            _held: Some(held),
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the tests tell the agent where its world is"
    )]
    fn of_the_parent() -> Option<Self> {
        Some(Self {
            home: std::env::var_os("ARKEEP_TEST_WORLD")?.into(),
            _held: None,
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the agent that is killed is a process"
    )]
    fn live(&self, point: Option<&str>) -> Result<ExitStatus, Box<dyn std::error::Error>> {
        let mut agent = Command::new(std::env::current_exe()?);
        agent
            .args(["--exact", "crash::one_life_of_the_agent"])
            .env("ARKEEP_TEST_WORLD", &self.home)
            .stdout(Stdio::null());
        if let Some(point) = point {
            agent.env("ARKEEP_FAILPOINT", point);
        }
        Ok(agent.status()?)
    }

    fn live_to_the_end(&self) -> TestResult {
        assert!(self.live(None)?.success());
        // And once more: nothing may come up again.
        assert!(self.live(None)?.success());
        Ok(())
    }

    /// What the server and the repository know in the end must agree.
    fn check(&self, point: &str) -> TestResult {
        let snapshots: Vec<String> = fs::read_dir(self.path("repository"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()?;
        let runs = self.lines("runs");
        let mut ends = self.lines("ledger");
        ends.retain(|line| line.starts_with("end "));
        ends.sort();
        ends.dedup();

        assert!(runs.len() <= 1, "{point}: run {} times", runs.len());
        assert_eq!(ends.len(), 1, "{point}: {ends:?}");
        match snapshots.as_slice() {
            [] => assert!(ends[0].contains("Failed"), "{point}: {ends:?}"),
            [snapshot] => assert!(
                ends[0].contains(snapshot.as_str()) && !ends[0].contains("Failed"),
                "{point}: {ends:?}"
            ),
            more => panic!("{point}: {more:?}"),
        }
        let hooks = self.lines("hooks");
        if hooks.contains(&"before".to_owned()) {
            assert!(hooks.contains(&"after".to_owned()), "{point}: {hooks:?}");
        }
        let left = fs::read_dir(self.path("state/outbox"))?.count();
        assert_eq!(
            left, 2,
            "{point}: all but the reserve and the directory for damage is forgotten"
        );
        Ok(())
    }

    async fn live_through(&self) -> TestResult {
        let assignment = wire::decode_assignment(&fs::read(self.path("assignment"))?)?;
        let job = assignment.job;
        if is_wanted("test.during-hook") {
            fs::write(self.path("kill"), std::process::id().to_string())?;
        } else {
            let _ = fs::remove_file(self.path("kill"));
        }
        let state = StateDir::open(&self.path("state"))?;
        let vault = state.vault(SystemClock.now())?;
        let (outbox, held, damage) = Outbox::open(&state.outbox(), vault, 10)?;
        assert!(damage.is_empty(), "a kill damages nothing: {damage:?}");
        let outbox = Arc::new(outbox);
        let executor = self.executor(&outbox);
        executor.resume(held);

        let ledger = self.lines("ledger");
        if !ledger.contains(&"accepted".to_owned()) {
            let admission = outbox.admit(&assignment)?;
            die_at("test.before-accepted");
            self.tell("ledger", "accepted")?;
            if admission == Admission::New {
                executor.submit(assignment);
            }
        } else if ledger.iter().any(|line| line.starts_with("end ")) && outbox.held().is_empty() {
            return Ok(());
        }

        while outbox.report(job, 2).is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let report = outbox.report(job, 2).ok_or("it was there")?;
        die_at("test.before-sent");
        let end = parts(&report);
        let snapshots: Vec<_> = end
            .results
            .iter()
            .map(|result| &result.snapshot_id)
            .collect();
        self.tell(
            "ledger",
            &format!("end {:?} {:?} {snapshots:?}", end.outcome, end.code),
        )?;
        die_at("test.after-sent");
        for (job, first) in outbox.unacknowledged_logs() {
            let batch = outbox.log_batch(job, first).ok_or("it was there")?;
            let last = batch.lines.last().ok_or("it has lines")?.seq;
            outbox.acknowledge_log(job, 1, last)?;
        }
        outbox.acknowledge(job, 1, 2)?;
        Ok(())
    }

    fn executor(&self, outbox: &Arc<Outbox>) -> Executor {
        let tools = Tools {
            engine: Arc::new(DirectoryEngine {
                home: self.home.clone(),
            }),
            outbox: Arc::clone(outbox),
            clock: Arc::new(SystemClock),
            hooks: HookGate {
                policy: Arc::new(Any),
                runner: Arc::new(ProcessRunner::new()),
                agent: AgentId::mint(SystemClock.now(), &SystemEntropy),
                decided_in: "agent.toml".to_owned(),
            },
            targets: RestoreTargets::default(),
            denied: DeniedSources::default(),
            hostname: "here".to_owned(),
        };
        Executor::new(tools, 1)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn tell(&self, name: &str, line: &str) -> std::io::Result<()> {
        tell(&self.path(name), line)
    }
}

/// Snapshots as files, so that they outlive the agent.
#[derive(Debug)]
struct DirectoryEngine {
    home: PathBuf,
}

#[async_trait]
impl BackupEngine for DirectoryEngine {
    async fn probe(&self) -> Result<EngineInfo, EngineError> {
        Ok(EngineInfo {
            version: "1".to_owned(),
            source: "path".to_owned(),
        })
    }

    async fn init(&self, _: &Repository, _: &dyn Observer) -> Result<(), EngineError> {
        Ok(())
    }

    async fn backup(
        &self,
        _: &Repository,
        request: &BackupRequest,
        observer: &dyn Observer,
    ) -> Result<BackupReport, EngineError> {
        let failed = |error: std::io::Error| EngineError::Failed(error.to_string());
        tell(&self.home.join("runs"), "run").map_err(failed)?;
        observer.line(LogLevel::Info, "a line");
        die_at("test.before-snapshot");
        let snapshot = snapshot(request.tags.clone());
        let file = self.home.join("repository").join(snapshot.id.as_str());
        fs::write(file, request.tags.join("\n")).map_err(failed)?;
        die_at("test.after-snapshot");
        Ok(BackupReport {
            snapshot: snapshot.id,
            complete: true,
            unread: Vec::new(),
            bytes_processed: 1,
            bytes_added: 1,
            files_new: 1,
            files_changed: 0,
            files_unmodified: 0,
        })
    }

    async fn snapshots(
        &self,
        _: &Repository,
        filter: &SnapshotFilter,
        _: &dyn Observer,
    ) -> Result<Vec<RepositorySnapshot>, EngineError> {
        let failed = |error: std::io::Error| EngineError::Failed(error.to_string());
        let mut found = Vec::new();
        for entry in fs::read_dir(self.home.join("repository")).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let text = fs::read_to_string(&path).map_err(failed)?;
            let tags: Vec<String> = text.lines().map(str::to_owned).collect();
            let name = path.file_name().unwrap().to_string_lossy();
            if filter.tags.iter().all(|tag| tags.contains(tag)) {
                found.push(RepositorySnapshot {
                    id: name.parse().unwrap(),
                    ..snapshot(tags)
                });
            }
        }
        Ok(found)
    }

    async fn list_entries(
        &self,
        _: &Repository,
        _: &ResticId,
        _: &str,
        _: &dyn Observer,
    ) -> Result<Vec<Entry>, EngineError> {
        Ok(Vec::new())
    }

    async fn restore(
        &self,
        _: &Repository,
        _: &RestoreRequest,
        _: &dyn Observer,
    ) -> Result<RestoreReport, EngineError> {
        Ok(RestoreReport::default())
    }

    async fn forget(
        &self,
        _: &Repository,
        _: &ForgetRequest,
        _: &dyn Observer,
    ) -> Result<ForgetReport, EngineError> {
        Ok(ForgetReport::default())
    }

    async fn check(&self, _: &Repository, _: u8, _: &dyn Observer) -> Result<(), EngineError> {
        Ok(())
    }

    async fn unlock(&self, _: &Repository, _: &dyn Observer) -> Result<(), EngineError> {
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the same switch as that of the agent's own places"
)]
fn is_wanted(point: &str) -> bool {
    std::env::var("ARKEEP_FAILPOINT").is_ok_and(|wanted| wanted == point)
}

fn die_at(point: &str) {
    if is_wanted(point) {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}

fn tell(file: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())
}
