//! One command of restic at one repository.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arkeep_core::engine::{EngineError, Observer, Silent};
use arkeep_core::job::LogLevel;
use arkeep_core::policy::Limits;
use arkeep_core::repository::{Location, Repository};
use arkeep_core::{ExposeSecret, SecretSlice, SecretString};
use tokio::sync::mpsc;

use super::ResticEngine;
use super::binary::Program;
use super::cage::Target;
use super::ledger;
use super::listen::{Ended, Heed, Listener};
use super::mounts::require_mounted;
use super::place::{Place, local_directory, refused};
use super::process::{self, Ending, Feed, Order, Patience};
use super::redact::Redactor;
use super::words::Words;
use super::workdir::WorkDir;
use crate::sys::Leash;

/// What is asked of restic. The arguments are fixed words and flags with bound values; what could
/// be taken for a flag is in `operands`.
#[derive(Debug, Default)]
pub(super) struct Ask<'a> {
    pub(super) verb: &'static str,
    pub(super) flags: Vec<String>,
    /// Flags whose value is read from a pipe.
    pub(super) piped: Vec<(&'static str, Vec<u8>)>,
    /// What comes after `--`.
    pub(super) operands: Vec<String>,
    pub(super) limits: Option<&'a Limits>,
    /// What it may write to, beside what is its own and the repository's.
    pub(super) target: Option<Target>,
    pub(super) kind: Kind,
}

/// What a command needs from its surroundings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It answers at once and leaves no lock.
    #[default]
    Question,
    /// It may go on for days and holds a lock.
    Work,
    /// The same, and it builds a cache of its own that it may leave behind.
    Check,
}

impl ResticEngine {
    /// Runs one command; after one that was stopped, removes the lock it may have left.
    pub(super) async fn call(
        &self,
        at: &Repository,
        ask: Ask<'_>,
        observer: &dyn Observer,
        heed: Heed<'_>,
        stream: Option<mpsc::Sender<Vec<u8>>>,
    ) -> Result<Ended, EngineError> {
        let locks = ask.kind != Kind::Question;
        let ended = Box::pin(self.call_once(at, ask, observer, heed, stream)).await;
        if locks && matches!(ended, Err(Stopped { started: true, .. })) {
            self.remove_lock(at, observer).await;
        }
        ended.map_err(|stopped| stopped.error)
    }

    async fn remove_lock(&self, at: &Repository, observer: &dyn Observer) {
        let unlocked = tokio::time::timeout(TIDYING, self.unlock(at, &Silent)).await;
        if !matches!(unlocked, Ok(Ok(()))) {
            observer.line(
                LogLevel::Warn,
                "the lock of the run that was stopped may still be there; the next run removes it",
            );
        }
    }

    pub(super) async fn call_once(
        &self,
        at: &Repository,
        ask: Ask<'_>,
        observer: &dyn Observer,
        heed: Heed<'_>,
        stream: Option<mpsc::Sender<Vec<u8>>>,
    ) -> Result<Ended, Stopped> {
        let locks = ask.kind != Kind::Question;
        let patience = self.patience(ask.kind, ask.limits);
        let give_way = ask.limits.is_some_and(|limits| limits.io_nice);
        let ready = unless_cancelled(observer, self.prepare(at, ask)).await?;
        let order = Order {
            program: &ready.link,
            args: ready.args,
            env: ready.env,
            leash: Leash {
                keep: ready.keep,
                rules: ready.rules,
                give_way,
            },
            patience,
            grace: self.config.deadlines.grace,
            entry: locks.then(|| (self.ledger.clone(), ledger::place(at))),
        };
        let mut listener = Listener {
            observer,
            redactor: ready.redactor,
            words: Words::default(),
            heed,
        };
        let ran = process::run(&self.spawner, order, observer, &mut listener, stream).await;
        let Listener {
            words, redactor, ..
        } = listener;
        let ending = ran.map_err(|error| cannot_start(&ready.program.path, &error))?;
        let error = match ending {
            Ending::Exited(code) => {
                return Ok(Ended {
                    code,
                    words,
                    redactor,
                });
            }
            Ending::Killed(signal) => EngineError::Failed(format!(
                "restic was killed by signal {signal}: {}",
                words.told(&redactor)
            )),
            Ending::Cancelled => EngineError::Cancelled,
            Ending::Overdue(limit) => EngineError::Failed(format!(
                "no progress for {} seconds, so restic was stopped; is the back-end reachable? {}",
                limit.as_secs(),
                words.was_at(&redactor)
            )),
        };
        Err(Stopped {
            error,
            started: true,
        })
    }

    /// Checks and lays out all that a run needs.
    async fn prepare(&self, at: &Repository, ask: Ask<'_>) -> Result<Ready, EngineError> {
        let password = password(&at.password)?;
        let (program, version) = self.program().await?;
        if let Location::Local(location) = &at.location
            && location.must_be_mounted
        {
            let directory = local_directory(location, at.path.as_str())?;
            self.look(move || require_mounted(&directory)).await?;
        }
        let dir = self.work_dir(&self.config.runtime_dir)?;
        let place = Place::of(at, version, &dir)?;
        let link = program
            .link_in(&dir)
            .map_err(|error| failed("a link", &error))?;
        let own_cache = match ask.kind {
            Kind::Check => Some(self.work_dir(&self.config.cache_dir)?),
            Kind::Question | Kind::Work => None,
        };
        let cache = own_cache
            .as_ref()
            .map_or(self.config.cache_dir.as_path(), WorkDir::path);

        let rules = ask
            .target
            .and_then(|target| rules(&target, at, cache, &dir));
        let mut args: Vec<OsString> = vec![ask.verb.into(), "--json".into()];
        args.push(bound("--cache-dir", cache));
        let mut keep = Vec::new();
        let piped = ask
            .piped
            .into_iter()
            .map(|(flag, content)| (flag, SecretSlice::from(content)));
        for (flag, content) in std::iter::once(("--password-file", password)).chain(piped) {
            let feed = Feed::new(content).map_err(|error| failed("a pipe", &error))?;
            args.push(format!("{flag}={}", feed.path()).into());
            keep.push(feed.into_reader());
        }
        let flags = place.options.iter().cloned().chain(rates(ask.limits));
        args.extend(flags.chain(ask.flags).map(OsString::from));
        args.push("--".into());
        args.extend(ask.operands.into_iter().map(OsString::from));

        let mut env = self.environment(ask.verb, ask.limits, &dir)?;
        let redactor = redactor(at, &place);
        env.extend(place.env);
        Ok(Ready {
            program,
            link,
            args,
            env,
            keep,
            rules,
            redactor,
            _dirs: (dir, own_cache),
        })
    }

    /// The whole environment but for what the back-end needs.
    fn environment(
        &self,
        verb: &str,
        limits: Option<&Limits>,
        dir: &WorkDir,
    ) -> Result<Vec<(&'static str, OsString)>, EngineError> {
        let temporary = self.config.cache_dir.join("tmp");
        fs::create_dir_all(&temporary).map_err(|error| failed("the cache", &error))?;
        let mut env = vec![
            ("PATH", self.config.helpers_path.clone()),
            ("HOME", dir.path().into()),
            ("TMPDIR", temporary.into()),
            ("RESTIC_PROGRESS_FPS", frames(verb).into()),
        ];
        if let Some(cpus) = limits
            .and_then(|limits| limits.cpus)
            .filter(|&cpus| cpus > 0)
        {
            env.push(("GOMAXPROCS", cpus.to_string().into()));
        }
        Ok(env)
    }

    fn patience(&self, kind: Kind, limits: Option<&Limits>) -> Patience {
        let deadlines = &self.config.deadlines;
        if kind == Kind::Question {
            return Patience::Whole(deadlines.answer);
        }
        // Under a limit of few KiB per second a pack on its way is a long silence.
        let rates = limits.map(|limits| [limits.upload_kib, limits.download_kib]);
        let slowest = rates
            .into_iter()
            .flatten()
            .flatten()
            .filter(|&rate| rate > 0)
            .min();
        let stretch = slowest.map_or(0, |rate| PACKS_KIB / u64::from(rate));
        Patience::Silence(deadlines.silence + Duration::from_secs(stretch))
    }

    pub(super) fn work_dir(&self, parent: &Path) -> Result<WorkDir, EngineError> {
        WorkDir::new(parent).map_err(|error| {
            EngineError::Unusable(format!(
                "{} cannot be written to: {error}",
                parent.display()
            ))
        })
    }

    /// Looks at the file system where a dead server can hold nobody up but this thread.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let looked = tokio::task::spawn_blocking(look);
        match tokio::time::timeout(self.config.deadlines.answer, looked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(EngineError::Failed(
                "a look at the disk broke off".to_owned(),
            )),
            Err(_) => Err(EngineError::Failed(
                "a file system does not answer; is its server away?".to_owned(),
            )),
        }
    }
}

/// All that a run needs, there while it lasts.
#[derive(Debug)]
struct Ready {
    program: Program,
    link: PathBuf,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    keep: Vec<OwnedFd>,
    rules: Option<OwnedFd>,
    redactor: Redactor,
    _dirs: (WorkDir, Option<WorkDir>),
}

/// A command that came to no end of its own.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) error: EngineError,
    /// Whether a process was there that may have left a lock.
    started: bool,
}

impl From<EngineError> for Stopped {
    fn from(error: EngineError) -> Self {
        Self {
            error,
            started: false,
        }
    }
}

/// What is asked before anything is started can be given up too: a file system whose server is
/// away does not answer.
pub(super) async fn unless_cancelled<T>(
    observer: &dyn Observer,
    ask: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    tokio::select! {
        biased;
        () = observer.cancelled() => Err(EngineError::Cancelled),
        answer = ask => answer,
    }
}

/// restic trims the content of a password file and reads a byte-order mark in it as one; a
/// password that it would not read as written would lock its owner out of the repository.
fn password(password: &SecretString) -> Result<SecretSlice<u8>, EngineError> {
    let text = password.expose_secret();
    if text.is_empty() {
        return Err(refused("the repository password is empty"));
    }
    if text.trim() != text || text.starts_with('\u{feff}') || text.contains('\0') {
        return Err(refused(
            "the repository password begins or ends with white space, or holds a character that \
             restic does not read back",
        ));
    }
    Ok(SecretSlice::from(text.as_bytes().to_vec()))
}

fn redactor(at: &Repository, place: &Place) -> Redactor {
    let mut redactor = Redactor::default();
    redactor.learn(&at.password);
    for secret in &place.secrets {
        redactor.learn(secret);
    }
    redactor
}

/// The rules for a run that writes to a target.
fn rules(target: &Target, at: &Repository, cache: &Path, dir: &WorkDir) -> Option<OwnedFd> {
    let mut places = vec![
        cache.to_owned(),
        dir.path().to_owned(),
        PathBuf::from("/dev/null"),
    ];
    match &at.location {
        // Its lock lies in the repository.
        Location::Local(location) => {
            places.push(local_directory(location, at.path.as_str()).ok()?);
        }
        // A remote may be a directory of this machine, and only rclone knows which.
        Location::Rclone(_) => return None,
        Location::Rest(_) | Location::S3(_) | Location::Sftp(_) => {}
    }
    target.alone_with(&places)
}

/// How often restic says how far it has come, per second: as an observer can be told, or, where it
/// says so in a line of the log, every ten seconds.
fn frames(verb: &str) -> &'static str {
    match verb {
        // A little slower than twice, lest every other sign come too early by a hair.
        "backup" | "restore" => "1.8",
        _ => "0.1",
    }
}

fn rates(limits: Option<&Limits>) -> impl Iterator<Item = String> {
    let rates = [
        (
            "--limit-upload",
            limits.and_then(|limits| limits.upload_kib),
        ),
        (
            "--limit-download",
            limits.and_then(|limits| limits.download_kib),
        ),
    ];
    rates.into_iter().filter_map(|(flag, rate)| {
        let rate = rate.filter(|&rate| rate > 0)?;
        Some(format!("{flag}={rate}"))
    })
}

fn bound(flag: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(flag);
    argument.push("=");
    argument.push(path);
    argument
}

fn failed(what: &str, error: &std::io::Error) -> EngineError {
    EngineError::Failed(format!("{what} cannot be made: {error}"))
}

fn cannot_start(path: &Path, error: &std::io::Error) -> EngineError {
    match error.kind() {
        std::io::ErrorKind::ArgumentListTooLong => {
            refused("the request names more than the kernel takes as arguments")
        }
        std::io::ErrorKind::InvalidInput => {
            refused("the request has a NUL character in it, which no path and no name can have")
        }
        _ => EngineError::Unusable(format!("{} cannot be run: {error}", path.display())),
    }
}

/// For removing the lock of a run that was stopped: its back-end may be the reason for the stop.
const TIDYING: Duration = Duration::from_secs(30);

/// restic fills packs of up to 128 MiB before it says that it has come further.
const PACKS_KIB: u64 = 256 * 1024;
