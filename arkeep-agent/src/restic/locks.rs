//! Removing locks, those of our own that nobody holds any more.
//!
//! restic removes every lock that it takes for stale, or all. So it is asked only when each lock
//! that is there was made by a restic of this agent; whether that one is gone, restic judges.

use std::fs;
use std::time::Duration;

use arkeep_core::Timestamp;
use arkeep_core::engine::{EngineError, Observer};
use arkeep_core::repository::Repository;
use serde::Deserialize;

use super::ResticEngine;
use super::call::{Ask, Stopped};
use super::ledger;
use super::listen::Heard;
use super::redact::Redactor;

/// What restic writes into a lock, as far as it says whose it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lock {
    time: Option<Timestamp>,
    hostname: String,
    pid: u32,
}

impl ResticEngine {
    pub(super) async fn remove_stale_locks(
        &self,
        at: &Repository,
        observer: &dyn Observer,
    ) -> Result<(), EngineError> {
        self.wait_for_the_dead().await?;
        self.unlock(at, observer)
            .await
            .map_err(|stopped| stopped.error)
    }

    /// Asks for the locks' owners, and has them removed when all are ours.
    ///
    /// One that another machine makes between the question and the removal, under this host's name,
    /// is not seen. It takes both of them at once, in less than a second.
    pub(super) async fn unlock(
        &self,
        at: &Repository,
        observer: &dyn Observer,
    ) -> Result<(), Stopped> {
        let locks = self.locks(at, observer).await?;
        if locks.is_empty() {
            return Ok(());
        }
        let (ledger, place) = (self.ledger.clone(), ledger::place(at));
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let foreign = locks.into_iter().find(|lock| {
            let ours = |time| ledger.has(lock.pid, time, &place);
            lock.hostname != host || !lock.time.is_some_and(ours)
        });
        if let Some(lock) = foreign {
            return Err(EngineError::Locked(lock.told()).into());
        }
        let ask = Ask {
            verb: "unlock",
            ..Ask::default()
        };
        let ended = self
            .call_once(at, ask, observer, &mut |_, _| false, None)
            .await?;
        Ok(ended.ok()?)
    }

    async fn locks(&self, at: &Repository, observer: &dyn Observer) -> Result<Vec<Lock>, Stopped> {
        let mut ids = Vec::new();
        let mut heed = |heard: Heard<'_>, _: &Redactor| {
            if let Heard::Line(line) = heard {
                let line = line.trim();
                let is_id = line.len() == 64 && line.chars().all(|c| c.is_ascii_hexdigit());
                if is_id && ids.len() < MOST_LOCKS {
                    ids.push(line.to_owned());
                }
            }
            false
        };
        self.ask(at, "list", vec!["locks".to_owned()], observer, &mut heed)
            .await?;
        let mut locks = Vec::new();
        for id in ids {
            let mut text = String::new();
            let mut heed = |heard: Heard<'_>, _: &Redactor| {
                if let Heard::Line(line) = heard
                    && text.len() < LONGEST_LOCK
                {
                    text.push_str(line);
                }
                false
            };
            let operands = vec!["lock".to_owned(), id];
            match self.ask(at, "cat", operands, observer, &mut heed).await {
                // What cannot be read is nobody's of ours.
                Ok(()) => locks.push(serde_json::from_str(&text).unwrap_or_default()),
                Err(Stopped {
                    error: EngineError::Failed(told),
                    ..
                }) if told.contains("not exist") || told.contains("no such file") => {}
                Err(stopped) => return Err(stopped),
            }
        }
        Ok(locks)
    }

    async fn ask(
        &self,
        at: &Repository,
        verb: &'static str,
        operands: Vec<String>,
        observer: &dyn Observer,
        heed: super::listen::Heed<'_>,
    ) -> Result<(), Stopped> {
        let ask = Ask {
            verb,
            flags: vec!["--no-lock".to_owned()],
            operands,
            ..Ask::default()
        };
        let ended = self.call_once(at, ask, observer, heed, None).await?;
        Ok(ended.ok()?)
    }

    /// Waits until the restic of an agent that was killed is gone from the process table.
    ///
    /// Until init has reaped it, restic takes it for the living holder of its lock, and leaves the
    /// lock where it is. Some inits reap only every few seconds; one that never does costs
    /// [`REAPING`], and the lock stays until restic finds it old.
    async fn wait_for_the_dead(&self) -> Result<(), EngineError> {
        let reaped = async {
            let mut look = tokio::time::interval(Duration::from_millis(50));
            loop {
                look.tick().await;
                if !self.look(|| Ok(has_unreaped("restic"))).await? {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(REAPING, reaped)
            .await
            .unwrap_or(Ok(()))
    }
}

impl Lock {
    fn told(&self) -> String {
        let time = self
            .time
            .map_or_else(|| "an unknown time".to_owned(), |time| time.to_string());
        let host: String = self
            .hostname
            .chars()
            .filter(|c| !c.is_control())
            .take(64)
            .collect();
        format!(
            "by process {} on {host} since {time}, a restic that this agent did not start; when it \
             is certain that it is gone, run `restic unlock`",
            self.pid
        )
    }
}

/// Whether a process of this name has died and is not reaped, and not ours to reap.
fn has_unreaped(name: &str) -> bool {
    let own = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else {
        return false;
    };
    entries.flatten().any(|entry| {
        // proc(5): `pid (name) state parent …`; the name itself may hold a parenthesis.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((head, tail)) = stat.rsplit_once(") ") else {
            return false;
        };
        let mut fields = tail.split(' ');
        let dead = fields.next() == Some("Z");
        let others = fields.next() != Some(own.as_str());
        dead && others
            && head
                .split_once(" (")
                .is_some_and(|(_, called)| called == name)
    })
}

/// How long init is given to reap.
const REAPING: Duration = Duration::from_secs(20);
const MOST_LOCKS: usize = 100;
const LONGEST_LOCK: usize = 16 << 10;
