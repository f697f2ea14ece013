//! Making, checking and unlocking a repository.

use std::fs;
use std::path::Path;

use arkeep_core::engine::{EngineError, Observer};
use arkeep_core::job::LogLevel;
use arkeep_core::repository::{Location, Repository};

use super::ResticEngine;
use super::call::{Ask, Kind};
use super::listen::Heard;
use super::message::Message;
use super::place::{local_directory, refused};
use super::redact::Redactor;
use super::restore::is_news;

impl ResticEngine {
    /// Makes a repository, after restic has said that there is none.
    pub(super) async fn make_repository(
        &self,
        at: &Repository,
        observer: &dyn Observer,
    ) -> Result<(), EngineError> {
        let look = Ask {
            verb: "cat",
            flags: vec!["--no-lock".to_owned()],
            operands: vec!["config".to_owned()],
            ..Ask::default()
        };
        let found = self
            .call(at, look, observer, &mut |_, _| false, None)
            .await?;
        match found.ok() {
            Err(EngineError::RepositoryMissing(_)) => {}
            Ok(()) => return Err(refused("there is a repository already")),
            Err(error) => return Err(error),
        }
        if let Location::Local(location) = &at.location {
            let directory = local_directory(location, at.path.as_str())?;
            self.look(move || require_no_remains(&directory)).await?;
        }
        let make = Ask {
            verb: "init",
            ..Ask::default()
        };
        self.call(at, make, observer, &mut |_, _| false, None)
            .await?
            .ok()
    }

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
        let ask = Ask {
            verb: "unlock",
            ..Ask::default()
        };
        self.call(at, ask, observer, &mut |_, _| false, None)
            .await?
            .ok()
    }
}

/// Refuses a directory with keys or data in it and no configuration: a repository that lost one
/// file can be mended, but not after another was made over it.
fn require_no_remains(directory: &Path) -> Result<(), EngineError> {
    let remains = ["keys", "snapshots", "index"].into_iter().any(|part| {
        fs::read_dir(directory.join(part)).is_ok_and(|mut entries| entries.next().is_some())
    });
    match remains {
        false => Ok(()),
        true => Err(EngineError::Refused(format!(
            "{} holds keys or snapshots but no repository configuration; it may be a repository \
             that lost its `config` file. Restore that file, or move the directory away",
            directory.display()
        ))),
    }
}
