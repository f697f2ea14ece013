//! Hearing restic: what it says goes to whoever asked, to the log, and into its last words.

use arkeep_core::engine::{EngineError, Observer};
use arkeep_core::job::LogLevel;

use super::message::Message;
use super::process::Ears;
use super::redact::Redactor;
use super::words::Words;

/// How restic ended, and what it said last.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) words: Words,
    pub(super) redactor: Redactor,
}

impl Ended {
    /// Success, or the error that the code stands for.
    pub(super) fn ok(&self) -> Result<(), EngineError> {
        match self.code {
            0 => Ok(()),
            code => Err(self.error(code)),
        }
    }

    pub(super) fn error(&self, code: i32) -> EngineError {
        self.words.error(code, &self.redactor)
    }
}

/// Hears restic's messages, other than its errors and last words.
pub(super) type Heed<'a> = &'a mut (dyn FnMut(Heard<'_>, &Redactor) -> bool + Send);

/// What comes from restic. The answer says whether it is news.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    /// A message that was understood.
    Message(Message),
    /// A line of standard output that is none of these.
    Line(&'a str),
    /// A line of standard error that is none.
    Complaint(&'a str),
}

/// Sorts what restic says: messages to whoever asked, words to the log, the last ones to keep.
pub(super) struct Listener<'a> {
    pub(super) observer: &'a dyn Observer,
    pub(super) redactor: Redactor,
    pub(super) words: Words,
    pub(super) heed: Heed<'a>,
}

impl Ears for Listener<'_> {
    fn out(&mut self, line: &str) -> bool {
        match Message::of(line) {
            Some(Message::ExitError(last)) => {
                self.words.hear_exit(&last.message);
                false
            }
            // A listing has its own words, and the newer ones call each of them a message.
            Some(Message::Other) | None => (self.heed)(Heard::Line(line), &self.redactor),
            Some(message) => (self.heed)(Heard::Message(message), &self.redactor),
        }
    }

    fn err(&mut self, line: &str) {
        match Message::of(line) {
            Some(Message::ExitError(last)) => {
                self.words.hear_exit(&last.message);
                let text = self.redactor.clean(&last.message.replace('\n', "; "));
                self.observer.line(LogLevel::Error, &text);
            }
            Some(Message::Error(error)) => {
                let text = format!("{}: {}", error.item, error.reason());
                self.words.hear(&text);
                self.observer
                    .line(LogLevel::Warn, &self.redactor.clean(&text));
                (self.heed)(Heard::Message(Message::Error(error)), &self.redactor);
            }
            Some(message) => {
                (self.heed)(Heard::Message(message), &self.redactor);
            }
            None => {
                self.words.hear(line);
                let level = match line.starts_with("Fatal") {
                    true => LogLevel::Error,
                    false => LogLevel::Warn,
                };
                self.observer.line(level, &self.redactor.clean(line));
                (self.heed)(Heard::Complaint(line), &self.redactor);
            }
        }
    }
}
