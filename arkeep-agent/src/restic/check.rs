//! Checking a repository.

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
}
