//! How a rotation is told: a bar for people, one JSON object a line for programs.

use std::io::{self, IsTerminal as _, Write};

use arkeep_vault::KeyId;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::super::MaintenanceError;
use crate::reseal::{Outcome, Progress, ResealError};

/// Tells how far a rotation is.
pub(super) struct Teller<'a> {
    out: &'a mut dyn Write,
    bar: Option<ProgressBar>,
    key: Option<KeyId>,
    failed: Option<io::Error>,
}

/// What a program is told. Fields may be added.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Rotated {
        key: String,
    },
    Progress {
        done: u64,
        total: u64,
        resealed: u64,
        unopened: u64,
    },
    Unopened {
        column: String,
        id: String,
        reason: &'a str,
    },
    Done {
        total: u64,
        resealed: u64,
        unopened: u64,
    },
}

impl<'a> Teller<'a> {
    /// Tells it to `out`, which is standard output.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        let bar = io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            // The pattern is a constant; without it the bar has its usual form.
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} sealed values") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            out,
            bar,
            key: None,
            failed: None,
        }
    }

    /// Whoever is to be told may be gone. That is said at the end: the values move all the same.
    pub(super) fn rotated(&mut self, key: KeyId) {
        self.key = Some(key);
        let told = match &self.bar {
            Some(_) => writeln!(self.out, "key {key} seals from now on"),
            None => self.line(&Event::Rotated {
                key: key.to_string(),
            }),
        };
        self.failed = told.err();
    }

    /// Called after each value; a program is told of every hundredth.
    pub(super) fn at(&mut self, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            return;
        }
        if self.failed.is_none() && progress.done.is_multiple_of(EVERY) {
            let told = self.line(&Event::Progress {
                done: progress.done,
                total: progress.total,
                resealed: progress.resealed,
                unopened: progress.unopened,
            });
            self.failed = told.err();
        }
    }

    pub(super) fn ended(
        mut self,
        walked: Result<Outcome, ResealError>,
    ) -> Result<Outcome, MaintenanceError> {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        let outcome = walked.map_err(MaintenanceError::Interrupted)?;
        for unopened in &outcome.unopened {
            match &self.bar {
                Some(_) => writeln!(self.out, "{unopened}")?,
                None => self.line(&Event::Unopened {
                    column: unopened.column.to_string(),
                    id: unopened.id.to_string(),
                    reason: &unopened.reason,
                })?,
            }
        }
        let progress = outcome.progress;
        match (&self.bar, self.key) {
            (Some(_), Some(key)) => writeln!(
                self.out,
                "{} sealed values moved to key {key}, {} do not open",
                progress.resealed, progress.unopened
            )?,
            _ => self.line(&Event::Done {
                total: progress.total,
                resealed: progress.resealed,
                unopened: progress.unopened,
            })?,
        }
        Ok(outcome)
    }

    fn line(&mut self, event: &Event<'_>) -> io::Result<()> {
        writeln!(self.out, "{}", serde_json::to_string(event)?)?;
        self.out.flush()
    }
}

const EVERY: u64 = 100;
