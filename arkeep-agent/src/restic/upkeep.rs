//! Checking and unlocking a repository.

use std::fs;
use std::time::Duration;

use arkeep_core::engine::{EngineError, Observer};
use arkeep_core::job::LogLevel;
use arkeep_core::repository::Repository;

use super::ResticEngine;
use super::call::{Ask, Kind};
use super::listen::Heard;
use super::message::Message;
use super::place::refused;
use super::redact::Redactor;
use super::restore::is_news;

impl ResticEngine {
    pub(super) async fn check_repository(
        &self,
        of: &Repository,
        read_data_percent: u8,
        observer: &dyn Observer,
    ) -> Result<(), EngineError> {
        let flag = match read_data_percent {
            0 => None,
            1..=99 => Some(format!("--read-data-subset={read_data_percent}%")),
            100 => Some("--read-data".to_owned()),
            _ => return Err(refused("more than all of the data cannot be read")),
        };
        let mut errors = 0;
        let mut last = String::new();
        let mut heed = |heard: Heard<'_>, redactor: &Redactor| match heard {
            Heard::Message(Message::Summary(summary)) => {
                errors = summary.num_errors;
                true
            }
            Heard::Line(line) => {
                observer.line(LogLevel::Info, &redactor.clean(line));
                is_news(&mut last, line)
            }
            _ => false,
        };
        let ask = Ask {
            verb: "check",
            flags: flag.into_iter().collect(),
            kind: Kind::Check,
            ..Ask::default()
        };
        let ended = self.call(of, ask, observer, &mut heed, None).await?;
        // The code comes first: above a lock, the summary of a check that was not made is clean.
        ended.ok()?;
        match errors {
            0 => Ok(()),
            errors => Err(EngineError::Failed(format!(
                "the check found {errors} errors: {}",
                ended.words.told(&ended.redactor)
            ))),
        }
    }

    pub(super) async fn remove_stale_locks(
        &self,
        at: &Repository,
        observer: &dyn Observer,
    ) -> Result<(), EngineError> {
        self.wait_for_the_dead().await?;
        let ask = Ask {
            verb: "unlock",
            ..Ask::default()
        };
        self.call(at, ask, observer, &mut |_, _| false, None)
            .await?
            .ok()
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

/// How long init is given to reap.
const REAPING: Duration = Duration::from_secs(20);

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
