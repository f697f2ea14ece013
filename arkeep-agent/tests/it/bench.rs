//! An executor over an engine that keeps its repositories in memory, for the order of things and
//! for crashes. What restic does is tested with restic.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arkeep_agent::executor::{Executor, HookGate, Tools};
use arkeep_agent::guard::{DeniedSources, RestoreTargets};
use arkeep_agent::outbox::{Damage, Held, Outbox};
use arkeep_core::engine::{
    BackupEngine, BackupReport, BackupRequest, EngineError, EngineInfo, ForgetReport,
    ForgetRequest, Observer, RestoreReport, RestoreRequest, SnapshotFilter,
};
use arkeep_core::job::{
    Assignment, BackupWork, DestinationWork, Fence, JobReport, LogLevel, ReportBody, RestoreWork,
    Work,
};
use arkeep_core::policy::{Hook, HookPhase, Hooks, Limits, Source};
use arkeep_core::repository::{LocalLocation, Location, Repository};
use arkeep_core::snapshot::{Entry, EntryKind, RepositorySnapshot, ResticId};
use arkeep_core::{
    AgentId, Clock, DestinationId, JobId, PolicyId, SecretString, SystemClock, SystemEntropy,
};
use arkeep_hooks::{Any, HookPolicy, ProcessRunner};
use arkeep_vault::{Keyring, Sealer, Vault};
use async_trait::async_trait;
use tokio::sync::Semaphore;

pub(crate) type TestResult = Result<(), Box<dyn Error>>;
pub(crate) type Opened = (Outbox, Vec<Held>, Vec<Damage>);

/// Repositories in memory. What a backup answers is scripted for each place; a place without a
/// script makes a snapshot.
#[derive(Debug)]
pub(crate) struct ScriptedEngine {
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) script: Mutex<BTreeMap<String, VecDeque<EngineError>>>,
    pub(crate) snapshots: Mutex<BTreeMap<String, Vec<RepositorySnapshot>>>,
    /// Backups and restores wait for a permit each.
    pub(crate) gate: Semaphore,
    /// Removing locks waits for a permit each.
    pub(crate) unlocking: Semaphore,
    pub(crate) incomplete: bool,
}

impl Default for ScriptedEngine {
    fn default() -> Self {
        Self {
            calls: Mutex::default(),
            script: Mutex::default(),
            snapshots: Mutex::default(),
            gate: Semaphore::new(1_000),
            unlocking: Semaphore::new(1_000),
            incomplete: false,
        }
    }
}

impl ScriptedEngine {
    pub(crate) fn failing(place: &str, errors: impl IntoIterator<Item = EngineError>) -> Self {
        let engine = Self::default();
        let errors = errors.into_iter().collect();
        engine
            .script
            .lock()
            .unwrap()
            .insert(place.to_owned(), errors);
        engine
    }

    pub(crate) fn gated() -> Self {
        Self {
            gate: Semaphore::new(0),
            ..Self::default()
        }
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Waits until this was called.
    pub(crate) async fn has_called(&self, call: &str) {
        eventually(|| self.calls().iter().any(|made| made == call)).await;
    }

    fn note(&self, verb: &str, at: &Repository) -> String {
        let place = place(at);
        self.calls.lock().unwrap().push(format!("{verb} {place}"));
        place
    }

    fn scripted(&self, place: &str) -> Result<(), EngineError> {
        let mut script = self.script.lock().unwrap();
        match script.get_mut(place).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl BackupEngine for ScriptedEngine {
    async fn probe(&self) -> Result<EngineInfo, EngineError> {
        self.scripted("probe")?;
        Ok(EngineInfo {
            version: "1".to_owned(),
            source: "path".to_owned(),
        })
    }

    async fn init(&self, at: &Repository, _: &dyn Observer) -> Result<(), EngineError> {
        let place = self.note("init", at);
        self.scripted(&format!("init {place}"))
    }

    async fn backup(
        &self,
        to: &Repository,
        request: &BackupRequest,
        observer: &dyn Observer,
    ) -> Result<BackupReport, EngineError> {
        let place = self.note("backup", to);
        observer.line(LogLevel::Info, &format!("reading for {place}"));
        tokio::select! {
            permit = self.gate.acquire() => permit.map_err(|_| EngineError::Cancelled)?.forget(),
            () = observer.cancelled() => {
                self.note("stopped", to);
                return Err(EngineError::Cancelled);
            }
        }
        self.scripted(&place)?;
        let snapshot = snapshot(request.tags.clone());
        let id = snapshot.id.clone();
        let mut snapshots = self.snapshots.lock().unwrap();
        snapshots.entry(place).or_default().push(snapshot);
        Ok(BackupReport {
            snapshot: id,
            complete: !self.incomplete,
            unread: match self.incomplete {
                true => vec!["/root/secret: permission denied".to_owned()],
                false => Vec::new(),
            },
            bytes_processed: 10,
            bytes_added: 5,
            files_new: 1,
            files_changed: 0,
            files_unmodified: 0,
        })
    }

    async fn snapshots(
        &self,
        of: &Repository,
        filter: &SnapshotFilter,
        observer: &dyn Observer,
    ) -> Result<Vec<RepositorySnapshot>, EngineError> {
        let place = self.note("snapshots", of);
        tokio::select! {
            biased;
            () = observer.cancelled() => return Err(EngineError::Cancelled),
            () = std::future::ready(()) => {}
        }
        self.scripted(&place)?;
        let all = self.snapshots.lock().unwrap();
        let matching = |snapshot: &&RepositorySnapshot| {
            filter.tags.iter().all(|tag| snapshot.tags.contains(tag))
        };
        let found = all.get(&place).into_iter().flatten();
        Ok(found.filter(matching).cloned().collect())
    }

    async fn list_entries(
        &self,
        _: &Repository,
        _: &ResticId,
        path: &str,
        _: &dyn Observer,
    ) -> Result<Vec<Entry>, EngineError> {
        let entry = |number| Entry {
            name: format!("{number}{}", "n".repeat(200)),
            path: format!("{path}/{number}{}", "n".repeat(3_000)),
            kind: EntryKind::File,
            size: 0,
            modified_at: None,
        };
        Ok((0..5_000).map(entry).collect())
    }

    async fn restore(
        &self,
        from: &Repository,
        request: &RestoreRequest,
        _: &dyn Observer,
    ) -> Result<RestoreReport, EngineError> {
        self.note(&format!("restore to {} from", request.target), from);
        let permit = self.gate.acquire().await;
        permit.map_err(|_| EngineError::Cancelled)?.forget();
        Ok(RestoreReport::default())
    }

    async fn forget(
        &self,
        at: &Repository,
        request: &ForgetRequest,
        _: &dyn Observer,
    ) -> Result<ForgetReport, EngineError> {
        let filter = &request.filter;
        self.note(
            &format!("forget {:?} {:?} at", filter.host, filter.tags),
            at,
        );
        Ok(ForgetReport::default())
    }

    async fn check(&self, of: &Repository, _: u8, _: &dyn Observer) -> Result<(), EngineError> {
        let place = self.note("check", of);
        self.scripted(&place)
    }

    async fn unlock(&self, at: &Repository, _: &dyn Observer) -> Result<(), EngineError> {
        self.note("unlock", at);
        let permit = self.unlocking.acquire().await;
        permit.map_err(|_| EngineError::Cancelled)?.forget();
        Ok(())
    }
}

/// An outbox in a directory of its own, and an executor over it.
pub(crate) struct Bench {
    pub(crate) home: tempfile::TempDir,
    pub(crate) sealer: Arc<dyn Sealer>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) engine: Arc<ScriptedEngine>,
    pub(crate) executor: Executor,
}

impl Bench {
    pub(crate) fn new(engine: ScriptedEngine) -> Result<Self, Box<dyn Error>> {
        Self::with_policy(engine, Arc::new(Any))
    }

    pub(crate) fn with_policy(
        engine: ScriptedEngine,
        policy: Arc<dyn HookPolicy>,
    ) -> Result<Self, Box<dyn Error>> {
        let sealer = Arc::new(Vault::new(Keyring::generate(0)?));
        Self::made_of(engine, policy, sealer)
    }

    pub(crate) fn with_sealer(
        engine: ScriptedEngine,
        sealer: Arc<dyn Sealer>,
    ) -> Result<Self, Box<dyn Error>> {
        Self::made_of(engine, Arc::new(Any), sealer)
    }

    fn made_of(
        engine: ScriptedEngine,
        policy: Arc<dyn HookPolicy>,
        sealer: Arc<dyn Sealer>,
    ) -> Result<Self, Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let (outbox, _, _) = open(&home, &sealer)?;
        let outbox = Arc::new(outbox);
        let engine = Arc::new(engine);
        let executor = executor(&engine, &outbox, policy, home.path());
        Ok(Self {
            home,
            sealer,
            outbox,
            engine,
            executor,
        })
    }

    /// The outbox as the next run of the agent finds it.
    pub(crate) fn reopened(&self) -> Result<Opened, Box<dyn Error>> {
        open(&self.home, &self.sealer)
    }

    /// What the next run of the agent is, with the same engine behind it.
    pub(crate) fn restarted(self) -> Result<(Self, Vec<Held>), Box<dyn Error>> {
        let (outbox, held, _) = self.reopened()?;
        let outbox = Arc::new(outbox);
        let executor = executor(&self.engine, &outbox, Arc::new(Any), self.home.path());
        let next = Self {
            outbox,
            executor,
            ..self
        };
        Ok((next, held))
    }

    /// Does what the connection does when an assignment arrives.
    pub(crate) fn assign(&self, assignment: Assignment) -> TestResult {
        self.outbox.admit(&assignment)?;
        self.executor.submit(assignment);
        Ok(())
    }

    /// Waits for the end of a job.
    pub(crate) async fn end_of(&self, job: JobId) -> JobReport {
        eventually(|| self.outbox.report(job, 2).is_some()).await;
        self.outbox.report(job, 2).unwrap()
    }

    /// The lines that wait to be sent.
    pub(crate) fn log_of(&self, job: JobId) -> Vec<String> {
        let batches = self.outbox.unacknowledged_logs().into_iter();
        let of_job = batches.filter(|(of, _)| *of == job);
        let lines = of_job.filter_map(|(job, first)| self.outbox.log_batch(job, first));
        lines
            .flat_map(|batch| batch.lines.into_iter().map(|line| line.text))
            .collect()
    }
}

fn open(home: &tempfile::TempDir, sealer: &Arc<dyn Sealer>) -> Result<Opened, Box<dyn Error>> {
    let root = home.path().join("outbox");
    Ok(Outbox::open(&root, Arc::clone(sealer), 100)?)
}

fn executor(
    engine: &Arc<ScriptedEngine>,
    outbox: &Arc<Outbox>,
    policy: Arc<dyn HookPolicy>,
    home: &std::path::Path,
) -> Executor {
    let tools = Tools {
        engine: Arc::<ScriptedEngine>::clone(engine),
        outbox: Arc::clone(outbox),
        clock: Arc::new(SystemClock),
        hooks: HookGate {
            policy,
            runner: Arc::new(ProcessRunner::new()),
            agent: AgentId::mint(SystemClock.now(), &SystemEntropy),
            decided_in: "/etc/arkeep/agent.toml".to_owned(),
        },
        targets: RestoreTargets::new(vec![home.join("restore")]),
        denied: DeniedSources::new(vec!["/etc/shadow".into()]),
        hostname: "here".to_owned(),
    };
    Executor::new(tools, 2)
}

pub(crate) fn job() -> JobId {
    JobId::mint(SystemClock.now(), &SystemEntropy)
}

/// A backup of `/srv` to a repository at each place.
pub(crate) fn backup(places: &[&str]) -> Assignment {
    let now = SystemClock.now();
    let destination = |place: &&str| DestinationWork {
        destination: DestinationId::mint(now, &SystemEntropy),
        repository: Repository {
            location: Location::Local(LocalLocation {
                path: (*place).to_owned(),
                must_be_mounted: false,
            }),
            path: "".parse().unwrap(),
            credentials: None,
            password: SecretString::from("hunter2-of-the-repository"),
        },
    };
    Assignment {
        job: job(),
        attempt: 1,
        fence: Fence(1),
        policy: Some(PolicyId::mint(now, &SystemEntropy)),
        deadline: None,
        work: Work::Backup(Box::new(BackupWork {
            destinations: places.iter().map(destination).collect(),
            sources: vec![Source::Path("/srv".to_owned())],
            excludes: Vec::new(),
            exclude_larger_than: None,
            one_file_system: false,
            tags: Vec::new(),
            hooks: Hooks::default(),
            limits: Limits::default(),
        })),
    }
}

/// A backup with hooks, each a line for a shell.
pub(crate) fn with_hooks(place: &str, hooks: &[(HookPhase, &str)]) -> Assignment {
    let mut assignment = backup(&[place]);
    if let Work::Backup(work) = &mut assignment.work {
        for (phase, script) in hooks {
            let hook = Hook {
                name: (*script).to_owned(),
                exec: Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec()),
                shell: None,
                timeout: 20,
                signature: None,
            };
            match phase {
                HookPhase::Before => work.hooks.before.push(hook),
                HookPhase::After => work.hooks.after.push(hook),
                HookPhase::OnFailure => work.hooks.on_failure.push(hook),
            }
        }
    }
    assignment
}

pub(crate) fn snapshot(tags: Vec<String>) -> RepositorySnapshot {
    let now = SystemClock.now();
    let id = JobId::mint(now, &SystemEntropy)
        .as_uuid()
        .simple()
        .to_string();
    RepositorySnapshot {
        id: id.parse().unwrap(),
        taken_at: now,
        hostname: "here".to_owned(),
        paths: vec!["/srv".to_owned()],
        tags,
    }
}

/// The parts of an end: outcome, error code, results and hooks.
pub(crate) fn parts(report: &JobReport) -> Parts<'_> {
    match &report.body {
        ReportBody::Finished {
            outcome,
            error,
            results,
            hooks,
        } => Parts {
            outcome: *outcome,
            code: error.as_ref().map(|error| error.code.as_str()),
            detail: error.as_ref().map_or("", |error| error.detail.as_str()),
            results,
            hooks,
        },
        other => panic!("not an end: {other:?}"),
    }
}

pub(crate) struct Parts<'a> {
    pub(crate) outcome: arkeep_core::job::Outcome,
    pub(crate) code: Option<&'a str>,
    pub(crate) detail: &'a str,
    pub(crate) results: &'a [arkeep_core::job::DestinationResult],
    pub(crate) hooks: &'a [arkeep_core::job::HookResult],
}

fn place(at: &Repository) -> String {
    match &at.location {
        Location::Local(local) => local.path.clone(),
        other => format!("{other:?}"),
    }
}

/// Waits until a condition holds; fails after half a minute.
pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let held = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held)
        .await
        .expect("the condition came to hold");
}

/// A restore to this target.
pub(crate) fn restore(from: &str, target: &str) -> Assignment {
    let mut assignment = backup(&[from]);
    if let Work::Backup(work) = &assignment.work {
        assignment.work = Work::Restore(Box::new(RestoreWork {
            destination: work.destinations[0].clone(),
            snapshot: "0123abcd".parse().unwrap(),
            target: target.to_owned(),
            include: Vec::new(),
            overwrite: false,
            limits: Limits::default(),
        }));
    }
    assignment
}

/// How many locks a local repository has. A file that restic was still writing is none.
pub(crate) fn locks_in(directory: &std::path::Path) -> usize {
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    names.filter(|entry| entry.file_name().len() == 64).count()
}
