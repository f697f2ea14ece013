//! Which restics this agent has started, so that it knows their locks from those of others.
//!
//! restic calls a lock stale when it names this host and a process that is not here. Machines that
//! were cloned and containers share a name, so the lock of one that lives may look stale on
//! another. A lock is removed only when it is one of ours: this host, a process of the ledger, at
//! that repository, and a time between that process's start and its end.
//!
//! The ledger is a directory with one empty file for each run that holds a lock. It outlives the
//! agent, since the lock of a restic that died with its agent is removed by the next one. The
//! file's name says all: `<process>.<start>.<end>.<repository>`, times in milliseconds, an end of
//! zero while it runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arkeep_core::repository::Repository;
use arkeep_core::{Clock, SystemClock, Timestamp};
use sha2::{Digest, Sha256};

use crate::files;

/// The runs of one agent, those before its last start among them.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    directory: PathBuf,
}

/// A run that has not ended. When this is dropped, it has.
#[derive(Debug)]
pub(super) struct Entered {
    ledger: Ledger,
    run: Run,
}

/// One run of restic.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    process: u32,
    start: u64,
    end: u64,
    place: String,
}

impl Ledger {
    /// Takes up the ledger below this directory. What ran when the last agent ended has ended.
    pub(super) fn open(parent: &Path) -> Self {
        let ledger = Self {
            directory: parent.join("ledger"),
        };
        let now = now();
        let mut ended = Vec::new();
        for run in ledger.runs() {
            match run.end {
                0 => ledger.note_end(run, now),
                _ => ended.push(run),
            }
        }
        ended.sort_by_key(|run| std::cmp::Reverse(run.end));
        for old in ended.iter().skip(MOST_RUNS) {
            let _ = fs::remove_file(ledger.directory.join(old.name()));
        }
        ledger
    }

    /// Notes that a process was started. It takes no lock before it has opened the repository, and
    /// for that it computes for half a second.
    pub(super) fn enter(&self, process: u32, place: String) -> io::Result<Entered> {
        fs::create_dir_all(&self.directory)?;
        let run = Run {
            process,
            start: now(),
            end: 0,
            place,
        };
        files::put(&self.directory, &run.name(), &[])?;
        Ok(Entered {
            ledger: self.clone(),
            run,
        })
    }

    /// Whether a run of this ledger held a lock of this process and time at that place.
    pub(super) fn has(&self, process: u32, at: Timestamp, place: &str) -> bool {
        let Ok(at) = u64::try_from(at.as_unix_millis()) else {
            return false;
        };
        self.runs().iter().any(|run| {
            let begun = run.start.saturating_sub(LEEWAY) <= at;
            let not_over = run.end == 0 || at <= run.end.saturating_add(LEEWAY);
            run.process == process && run.place == place && begun && not_over
        })
    }

    fn runs(&self) -> Vec<Run> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        entries
            .filter_map(|entry| Run::of(entry.ok()?.file_name().to_str()?))
            .collect()
    }

    fn note_end(&self, run: Run, end: u64) {
        let ended = Run { end, ..run.clone() };
        let (from, to) = (run.name(), ended.name());
        let renamed = fs::rename(self.directory.join(from), self.directory.join(to));
        if let Err(error) = renamed {
            tracing::warn!(%error, "the end of a restic was not noted");
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.ledger.note_end(self.run.clone(), now());
    }
}

impl Run {
    fn name(&self) -> String {
        let Self {
            process,
            start,
            end,
            place,
        } = self;
        format!("{process}.{start}.{end}.{place}")
    }

    fn of(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let run = Self {
            process: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
            end: parts.next()?.parse().ok()?,
            place: parts.next()?.to_owned(),
        };
        (run.name() == name).then_some(run)
    }
}

/// A repository's place, as a name of a file that tells nobody where it is.
pub(super) fn place(of: &Repository) -> String {
    let text = format!("{:?} {}", of.location, of.path.as_str());
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn now() -> u64 {
    u64::try_from(SystemClock.now().as_unix_millis()).unwrap_or(0)
}

/// Between the clock of the ledger and the time in a lock, both of this machine.
const LEEWAY: u64 = 2_000;
/// More than a repository ever has locks of ours.
const MOST_RUNS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(millis: u64) -> Timestamp {
        Timestamp::from_unix_millis(i64::try_from(now() + millis).unwrap_or(i64::MAX))
    }

    /// G6
    #[test]
    fn a_lock_is_ours_by_process_place_and_time() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let ledger = Ledger::open(home.path());
        let long_ago = Timestamp::from_unix_millis(1);

        let entered = ledger.enter(7, "a".to_owned())?;
        assert!(ledger.has(7, after(3_600_000), "a"), "it runs");
        drop(entered);

        assert!(ledger.has(7, after(0), "a"));
        for (process, at, place) in [
            (8, after(0), "a"),
            (7, after(0), "b"),
            (7, after(60_000), "a"),
            (7, long_ago, "a"),
        ] {
            assert!(!ledger.has(process, at, place), "{process} {at} {place}");
        }
        Ok(())
    }

    /// G6, G9: an agent that is killed notes no end; its restic ended with it.
    #[test]
    fn what_ran_when_the_agent_died_has_ended_at_the_next_start() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let first = Ledger::open(home.path());
        let never_dropped = first.enter(7, "a".to_owned())?;

        let next = Ledger::open(home.path());

        assert!(next.has(7, after(0), "a"));
        assert!(!next.has(7, after(60_000), "a"));
        drop(never_dropped);
        Ok(())
    }

    #[test]
    fn the_ledger_does_not_grow_for_ever() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let ledger = Ledger::open(home.path());
        fs::create_dir_all(&ledger.directory)?;
        for process in 0..1_100 {
            let name = format!("{process}.1.{}.a", process + 2);
            fs::write(ledger.directory.join(name), "")?;
        }

        let runs = Ledger::open(home.path()).runs();

        assert_eq!(runs.len(), MOST_RUNS);
        assert!(runs.iter().all(|run| run.process >= 100));
        Ok(())
    }
}
