//! restic's last words, and what they mean.
//!
//! From 0.17 on the exit code tells most failures apart. 0.14 to 0.16 know one code for all of
//! them, and what happened must be read from the text. The text holds paths that others choose,
//! so nothing is looked for anywhere but at its beginning and at its end.

use std::collections::VecDeque;

use arkeep_core::engine::EngineError;

use super::redact::Redactor;

/// Keeps what a failure is explained with, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Words {
    fatal: String,
    last: VecDeque<String>,
}

impl Words {
    /// Takes a line of standard error.
    pub(super) fn hear(&mut self, line: &str) {
        if !self.fatal.is_empty() || line.starts_with(FATAL) || line.starts_with(LOCKED) {
            self.say_fatal(line);
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(clip(line, LONGEST_LINE).to_owned());
    }

    /// Takes the message of an `exit_error`.
    pub(super) fn hear_exit(&mut self, message: &str) {
        if self.fatal.is_empty() {
            message.lines().for_each(|line| self.say_fatal(line));
        }
    }

    fn say_fatal(&mut self, line: &str) {
        if self.fatal.len() < LONGEST_FATAL {
            if !self.fatal.is_empty() {
                self.fatal.push('\n');
            }
            self.fatal.push_str(clip(line, LONGEST_LINE));
        }
    }

    /// What restic said, in one line without secrets.
    pub(super) fn told(&self, redactor: &Redactor) -> String {
        let lines: Vec<String> = if self.fatal.is_empty() {
            self.last.iter().map(|line| redactor.clean(line)).collect()
        } else {
            self.fatal
                .lines()
                .map(|line| redactor.clean(line))
                .collect()
        };
        match lines.join("; ").trim() {
            "" => "restic gave no reason".to_owned(),
            told => told.to_owned(),
        }
    }

    /// What restic was at when it was stopped: the last error that it would have tried again after,
    /// else its last words. Those that follow a stop are about the stop.
    pub(super) fn was_at(&self, redactor: &Redactor) -> String {
        let tried_again = |line: &&String| line.contains(" returned error, retrying after ");
        match self.last.iter().rev().find(tried_again) {
            Some(line) => redactor.clean(line),
            None => self.told(redactor),
        }
    }

    /// The error that an exit code other than success stands for.
    pub(super) fn error(&self, code: i32, redactor: &Redactor) -> EngineError {
        let told = self.told(redactor);
        match (code, self.meaning()) {
            (10, _) | (1, Some(Meaning::Missing)) => EngineError::RepositoryMissing(told),
            (11, _) | (1, Some(Meaning::Locked)) => EngineError::Locked(told),
            (12, _) | (1, Some(Meaning::Password)) => EngineError::WrongPassword,
            (1, Some(Meaning::NoSource)) => EngineError::SourcesMissing(told),
            (1..=3, _) => EngineError::Failed(told),
            (130, _) => EngineError::Failed(format!("restic was interrupted: {told}")),
            (code, _) => EngineError::Failed(format!("restic ended with code {code}: {told}")),
        }
    }

    fn meaning(&self) -> Option<Meaning> {
        let first = self.fatal.lines().next()?;
        let text = first.strip_prefix(FATAL).unwrap_or(first).trim();
        if let Some(why) = text.strip_prefix("unable to open config file: ") {
            // Anything but a plain "not there" (a refused connection, a password, a permission)
            // says nothing about whether there is a repository.
            return NOT_THERE
                .iter()
                .any(|end| why.ends_with(end))
                .then_some(Meaning::Missing);
        }
        if text.starts_with("wrong password or no key found") {
            return Some(Meaning::Password);
        }
        if text.starts_with(LOCKED) {
            return Some(Meaning::Locked);
        }
        NO_SOURCE.contains(&text).then_some(Meaning::NoSource)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Missing,
    Locked,
    Password,
    NoSource,
}

fn clip(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

const FATAL: &str = "Fatal: ";
const LOCKED: &str = "unable to create lock in backend: repository is already locked";
/// In this order: local and rclone, REST, S3 (key and bucket), SFTP.
const NOT_THERE: [&str; 5] = [
    ": no such file or directory",
    "<config/> does not exist",
    "The specified key does not exist.",
    "The specified bucket does not exist",
    ": file does not exist",
];
const NO_SOURCE: [&str; 2] = [
    "all target directories/files do not exist",
    "all source directories/files do not exist",
];
const LAST_LINES: usize = 8;
const LONGEST_LINE: usize = 1_024;
const LONGEST_FATAL: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, lines: &[&str]) -> EngineError {
        let mut words = Words::default();
        lines.iter().for_each(|line| words.hear(line));
        words.error(code, &Redactor::default())
    }

    /// G4
    #[test]
    fn codes_are_told_apart_where_restic_does() {
        for (code, word) in [
            (1, "restic_failed"),
            (2, "restic_failed"),
            (10, "repository_missing"),
            (11, "repository_locked"),
            (12, "wrong_password"),
            (130, "restic_failed"),
            (99, "restic_failed"),
        ] {
            assert_eq!(error(code, &["some text"]).code(), word, "{code}");
        }
        assert_eq!(
            error(99, &["some text"]),
            EngineError::Failed("restic ended with code 99: some text".to_owned())
        );
    }

    /// G4
    #[test]
    fn messages_are_told_apart_where_the_code_does_not() {
        for (line, word) in [
            ("Fatal: wrong password or no key found", "wrong_password"),
            (
                "Fatal: unable to open config file: stat /r/config: no such file or directory",
                "repository_missing",
            ),
            (
                "Fatal: unable to open config file: <config/> does not exist",
                "repository_missing",
            ),
            (
                "unable to create lock in backend: repository is already locked by PID 7 on h",
                "repository_locked",
            ),
            (
                "Fatal: unable to create lock in backend: repository is already locked exclusively by PID 7",
                "repository_locked",
            ),
            (
                "Fatal: all target directories/files do not exist",
                "sources_missing",
            ),
        ] {
            assert_eq!(error(1, &["noise", line, "more"]).code(), word, "{line}");
        }
    }

    /// G5
    #[test]
    fn a_repository_that_cannot_be_reached_is_not_called_missing() {
        for line in [
            "Fatal: unable to open config file: stat /r/config: permission denied",
            "Fatal: unable to open config file: unexpected HTTP response (401): 401 Unauthorized",
            "Fatal: unable to open config file: Head \"http://h/\": dial tcp: connection refused",
            "Fatal: unable to open config file: stat /no such file or directory/config: permission denied",
            "Fatal: unable to open config file: context canceled",
            "Fatal: wrong password: <config/> does not exist",
        ] {
            assert_eq!(error(1, &[line]).code(), "restic_failed", "{line}");
        }
    }

    /// G4
    #[test]
    fn a_run_that_was_stopped_is_explained_by_what_it_tried_again() {
        let mut words = Words::default();
        for line in [
            "Save(<lock/x>) returned error, retrying after 1s: read-only file system",
            "signal interrupt received, cleaning up",
            "Fatal: unable to create lock in backend: context canceled",
        ] {
            words.hear(line);
        }

        let told = words.was_at(&Redactor::default());
        assert!(told.ends_with("read-only file system"), "{told}");
    }

    /// G4
    #[test]
    fn a_flood_of_words_is_bounded() {
        let mut words = Words::default();
        words.hear("Fatal: begin");
        for _ in 0..100_000 {
            words.hear(&"ä".repeat(5_000));
        }

        let told = words.told(&Redactor::default());
        assert!(
            told.len() < LONGEST_FATAL + 2 * LONGEST_LINE,
            "{}",
            told.len()
        );
    }
}
