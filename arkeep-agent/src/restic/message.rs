//! What restic says with `--json`, as far as anything depends on it.
//!
//! One shape for 0.14 to 0.19: what a version does not say is a default here, and what it says
//! beyond is passed over.

use arkeep_core::job::Progress;
use serde::Deserialize;

/// One line.
#[derive(Debug, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub(super) enum Message {
    Status(Status),
    Summary(Box<Summary>),
    Error(ErrorMessage),
    ExitError(ExitError),
    #[serde(other)]
    Other,
}

/// How far it has come: the fields of a backup and of a restore.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    percent_done: f64,
    total_files: u64,
    files_done: u64,
    files_restored: u64,
    total_bytes: u64,
    bytes_done: u64,
    bytes_restored: u64,
    seconds_remaining: Option<u64>,
    current_files: Vec<String>,
}

/// How it ended: the fields of a backup, a restore and a check.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    pub(super) snapshot_id: String,
    pub(super) files_new: u64,
    pub(super) files_changed: u64,
    pub(super) files_unmodified: u64,
    pub(super) data_added: u64,
    pub(super) total_bytes_processed: u64,
    pub(super) files_restored: u64,
    pub(super) files_skipped: u64,
    pub(super) bytes_restored: u64,
    pub(super) num_errors: u64,
}

/// A file that could not be read or written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorMessage {
    pub(super) item: String,
    error: Cause,
}

/// 0.14 shows the fields of a system call's error, or none of another's; later ones a text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    message: String,
    #[serde(rename = "Op")]
    call: String,
    #[serde(rename = "Err")]
    number: Option<i32>,
}

/// The last words of a version from 0.17 on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ExitError {
    pub(super) message: String,
}

impl Message {
    /// Reads a line, if it is one of restic's messages.
    pub(super) fn of(line: &str) -> Option<Self> {
        line.starts_with('{')
            .then(|| serde_json::from_str(line).ok())
            .flatten()
    }
}

impl Status {
    /// Whether the run has moved on since `earlier`.
    pub(super) fn is_ahead_of(&self, earlier: &Self) -> bool {
        let counts = |status: &Self| {
            (
                status.total_files,
                status.files_done,
                status.files_restored,
                status.total_bytes,
                status.bytes_done,
                status.bytes_restored,
            )
        };
        counts(self) != counts(earlier)
    }

    /// The same for an observer, with the file's name passed through `clean`.
    pub(super) fn progress(&self, clean: impl Fn(&str) -> String) -> Progress {
        Progress {
            percent: (self.percent_done * 100.0).clamp(0.0, 100.0),
            bytes_done: self.bytes_done.max(self.bytes_restored),
            bytes_total: self.total_bytes,
            files_done: self.files_done.max(self.files_restored),
            files_total: self.total_files,
            seconds_left: self.seconds_remaining,
            current: self.current_files.first().map(|file| clean(file)),
        }
    }
}

impl ErrorMessage {
    /// Why, in a few words.
    pub(super) fn reason(&self) -> String {
        match self.error.number {
            _ if !self.error.message.is_empty() => self.error.message.clone(),
            Some(number) => {
                let cause = std::io::Error::from_raw_os_error(number);
                format!("{}: {cause}", self.error.call)
            }
            None => "restic does not say why".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> (String, String) {
        match Message::of(line) {
            Some(Message::Error(error)) => (error.item.clone(), error.reason()),
            other => panic!("{other:?}"),
        }
    }

    /// G4
    #[test]
    fn an_unreadable_file_is_told_alike_by_every_version() {
        assert_eq!(
            error(
                r#"{"message_type":"error","error":{"Op":"read","Path":"/a","Err":13},"during":"archival","item":"/a"}"#
            ),
            ("/a".into(), "read: Permission denied (os error 13)".into())
        );
        assert_eq!(
            error(
                r#"{"message_type":"error","error":{"message":"open /a: permission denied"},"during":"scan","item":"/a"}"#
            ),
            ("/a".into(), "open /a: permission denied".into())
        );
        assert_eq!(
            error(r#"{"message_type":"error","error":{},"item":"/a"}"#).1,
            "restic does not say why"
        );
    }

    /// G4
    #[test]
    fn what_is_not_known_is_passed_over() {
        assert!(matches!(
            Message::of(r#"{"message_type":"new_in_1.0","x":1}"#),
            Some(Message::Other)
        ));
        for line in [
            "",
            "{",
            "[1]",
            "{}",
            "Fatal: no",
            r#"{"message_type":"status","percent_done":"x"}"#,
        ] {
            assert!(Message::of(line).is_none(), "{line}");
        }
    }
}
