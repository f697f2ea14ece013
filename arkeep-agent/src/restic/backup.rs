//! Taking a snapshot, and proving it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use arkeep_core::engine::{BackupReport, BackupRequest, EngineError, Observer, SnapshotFilter};
use arkeep_core::repository::Repository;
use arkeep_core::snapshot::ResticId;
use rustix::io::Errno;
use tokio::time::Instant;

use super::ResticEngine;
use super::call::{Ask, Kind, unless_cancelled};
use super::list::{Node, parent};
use super::listen::Heard;
use super::message::{Message, Status, Summary};
use super::place::refused;
use crate::paths::plain;

impl ResticEngine {
    pub(super) async fn take_snapshot(
        &self,
        to: &Repository,
        request: &BackupRequest,
        observer: &dyn Observer,
    ) -> Result<BackupReport, EngineError> {
        let flags = self.backup_flags(request)?;
        let mut piped = vec![("--files-from-raw", source_list(&request.sources)?)];
        if !request.excludes.is_empty() {
            piped.push(("--exclude-file", exclude_list(&request.excludes)?));
        }
        let sources = request.sources.clone();
        let look = self.look(move || judge(&sources));
        let mut unread = unless_cancelled(observer, look).await?;

        let mut summary: Option<Summary> = None;
        let mut gauge = Gauge::new(observer);
        let mut heed = |heard: Heard<'_>, redactor: &super::redact::Redactor| match heard {
            Heard::Message(Message::Status(status)) => {
                gauge.show(status, |file| redactor.clean(file))
            }
            Heard::Message(Message::Summary(end)) => {
                summary = Some(*end);
                true
            }
            Heard::Message(Message::Error(error)) => {
                let what = match error.item.is_empty() {
                    true => error.reason(),
                    false => error.item,
                };
                unread.add(&redactor.clean(&what));
                false
            }
            Heard::Complaint(line) => {
                // Before 0.19 this line is all there is: the exit code is that of success.
                if let Some(path) = line.strip_suffix(" does not exist, skipping") {
                    unread.add(&redactor.clean(path));
                }
                false
            }
            _ => false,
        };
        let ask = Ask {
            verb: "backup",
            flags,
            piped,
            limits: Some(&request.limits),
            kind: Kind::Work,
            ..Ask::default()
        };
        let ended = self.call(to, ask, observer, &mut heed, None).await?;
        let whole = match ended.code {
            0 => true,
            3 => false,
            code => return Err(ended.error(code)),
        };
        let summary = summary.filter(|summary| !summary.snapshot_id.is_empty());
        let Some(summary) = summary else {
            return Err(EngineError::Failed(format!(
                "restic ended without naming a snapshot: {}",
                ended.words.told(&ended.redactor)
            )));
        };
        let snapshot = self.prove(to, &summary.snapshot_id, observer).await?;
        if leaves_out(request) {
            self.require_sources(to, request, &snapshot, &mut unread, observer)
                .await?;
        }
        Ok(BackupReport {
            snapshot,
            complete: whole && unread.is_empty(),
            unread: unread.list(),
            bytes_processed: summary.total_bytes_processed,
            bytes_added: summary.data_added,
            files_new: summary.files_new,
            files_changed: summary.files_changed,
            files_unmodified: summary.files_unmodified,
        })
    }

    /// The full id of the snapshot that restic named, if the repository lists it.
    async fn prove(
        &self,
        to: &Repository,
        named: &str,
        observer: &dyn Observer,
    ) -> Result<ResticId, EngineError> {
        let id = named.parse().map_err(|_| {
            EngineError::Failed("restic named a snapshot by what is no id".to_owned())
        })?;
        let listed = self
            .list_snapshots(to, &SnapshotFilter::default(), Some(&id), observer)
            .await?;
        listed
            .into_iter()
            .map(|snapshot| snapshot.id)
            .find(|listed| listed.as_str().starts_with(id.as_str()))
            .ok_or_else(|| {
                EngineError::Failed(format!(
                    "restic named the snapshot {id}, but the repository does not list it"
                ))
            })
    }

    /// Names the sources that a pattern or a limit left out as a whole: restic calls a snapshot
    /// without them complete.
    async fn require_sources(
        &self,
        to: &Repository,
        request: &BackupRequest,
        snapshot: &ResticId,
        unread: &mut Unread,
        observer: &dyn Observer,
    ) -> Result<(), EngineError> {
        let sources: Vec<String> = request
            .sources
            .iter()
            .map(|source| plain(Path::new(source)).to_string_lossy().into_owned())
            .filter(|source| source != "/")
            .collect();
        for some in sources.chunks(SOURCES_AT_ONCE) {
            let mut wanted: BTreeSet<&str> = some.iter().map(String::as_str).collect();
            let mut each = |node: Node| {
                wanted.remove(node.path.as_str());
                if let Some(above) = parent(&node.path) {
                    wanted.remove(above);
                }
            };
            self.nodes(to, snapshot, some, observer, &mut each).await?;
            for source in wanted {
                let named = |name: &String| plain(Path::new(name)) == Path::new(source);
                if !unread.names.iter().any(named) {
                    unread.add(&format!(
                        "{source} is not in the snapshot: an exclude or the limit on sizes leaves \
                         all of it out"
                    ));
                }
            }
        }
        Ok(())
    }

    fn backup_flags(&self, request: &BackupRequest) -> Result<Vec<String>, EngineError> {
        let mut flags = vec![format!("--host={}", self.host)];
        for tag in &request.tags {
            check_word("tag", tag)?;
            flags.push(format!("--tag={tag}"));
        }
        if let Some(bytes) = request.exclude_larger_than {
            flags.push(format!("--exclude-larger-than={bytes}"));
        }
        if request.one_file_system {
            flags.push("--one-file-system".to_owned());
        }
        Ok(flags)
    }
}

/// Tells an observer how far a run has come, at most twice a second.
pub(super) struct Gauge<'a> {
    observer: &'a dyn Observer,
    last: Status,
    shown: Option<Instant>,
}

impl<'a> Gauge<'a> {
    pub(super) fn new(observer: &'a dyn Observer) -> Self {
        Self {
            observer,
            last: Status::default(),
            shown: None,
        }
    }

    /// Answers whether the run has come further.
    pub(super) fn show(&mut self, status: Status, clean: impl Fn(&str) -> String) -> bool {
        let now = Instant::now();
        if self.shown.is_none_or(|shown| now - shown >= HALF_A_SECOND) {
            self.shown = Some(now);
            self.observer.progress(status.progress(clean));
        }
        let ahead = status.is_ahead_of(&self.last);
        self.last = status;
        ahead
    }
}

/// What a snapshot lacks, each thing once and not more of them than anyone would read.
#[derive(Debug, Default)]
struct Unread {
    names: BTreeSet<String>,
    more: u64,
}

impl Unread {
    fn add(&mut self, name: &str) {
        if self.names.len() < MOST_UNREAD {
            self.names.insert(name.to_owned());
        } else if !self.names.contains(name) {
            self.more += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn list(self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.names.into_iter().chain(more).collect()
    }
}

/// What the snapshot will lack: the sources that are not there, and those that are links. restic
/// saves a link as a link, and nothing of what it leads to. An error when none is there.
fn judge(sources: &[String]) -> Result<Unread, EngineError> {
    let mut unread = Unread::default();
    let mut missing = BTreeSet::new();
    for source in sources {
        // A slash at its end would have the link followed here, and not by restic.
        let path = plain(Path::new(source));
        match fs::metadata(&path) {
            Err(error) if is_missing(&error) => {
                missing.insert(source);
                unread.add(source);
            }
            Ok(_) if path.is_symlink() => {
                let end = fs::canonicalize(&path).unwrap_or_default();
                unread.add(&format!(
                    "{source} is a link, and only the link was saved: name {} as the source",
                    end.display()
                ));
            }
            // Other errors restic meets itself, and says what it met.
            _ => {}
        }
    }
    let names: BTreeSet<&String> = sources.iter().collect();
    if missing.len() == names.len() {
        return Err(EngineError::SourcesMissing(unread.list().join(", ")));
    }
    Ok(unread)
}

/// Also of a link that leads nowhere, and of one that leads to itself.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Whether something may leave out a whole source.
fn leaves_out(request: &BackupRequest) -> bool {
    !request.excludes.is_empty() || request.exclude_larger_than.is_some()
}

/// Paths, each ended by a NUL, which no path can hold.
fn source_list(sources: &[String]) -> Result<Vec<u8>, EngineError> {
    if sources.is_empty() {
        return Err(refused("there are no sources to back up"));
    }
    let mut list = Vec::new();
    for source in sources {
        if !source.starts_with('/') {
            return Err(EngineError::Refused(format!(
                "the source {source:?} is not an absolute path"
            )));
        }
        if source.contains('\0') {
            return Err(refused(
                "a source has a NUL character in it, which no path can have",
            ));
        }
        list.extend_from_slice(source.as_bytes());
        list.push(0);
    }
    Ok(list)
}

/// Patterns, one to a line, written so that restic reads each as it stands: it would drop blanks
/// at either end, take `#` for a comment, and put variables of its environment for `$NAME`.
fn exclude_list(excludes: &[String]) -> Result<Vec<u8>, EngineError> {
    let mut list = String::new();
    for pattern in excludes {
        if pattern.trim().is_empty() || pattern.contains(['\n', '\r', '\0']) {
            return Err(EngineError::Refused(format!(
                "the exclude pattern {pattern:?} is empty or has a line end in it"
            )));
        }
        let kept = pattern.replace('$', "$$");
        let body = kept.trim();
        let (start, end) = kept.split_once(body).unwrap_or_default();
        bracket(&mut list, start);
        match body.strip_prefix('#') {
            Some(rest) if start.is_empty() => {
                list.push_str("[#]");
                list.push_str(rest);
            }
            _ => list.push_str(body),
        }
        bracket(&mut list, end);
        list.push('\n');
    }
    Ok(list.into_bytes())
}

/// `[c]` matches the character and is no blank at the end of a line.
fn bracket(list: &mut String, blanks: &str) {
    for blank in blanks.chars() {
        list.push('[');
        list.push(blank);
        list.push(']');
    }
}

/// Refuses what cannot stand in a flag's value: restic splits lists at commas.
pub(super) fn check_word(what: &str, word: &str) -> Result<(), EngineError> {
    if word.is_empty() || word.contains([',', '\0']) || word.trim() != word {
        return Err(EngineError::Refused(format!(
            "the {what} {word:?} is empty, has a comma in it, or begins or ends with a blank"
        )));
    }
    Ok(())
}

const HALF_A_SECOND: Duration = Duration::from_millis(500);
const MOST_UNREAD: usize = 1_000;
/// They are arguments, of which the kernel takes two megabytes.
const SOURCES_AT_ONCE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str]) -> Result<String, EngineError> {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        exclude_list(&patterns).map(|list| String::from_utf8_lossy(&list).into_owned())
    }

    /// G2
    #[test]
    fn a_pattern_is_read_as_it_stands() -> Result<(), EngineError> {
        assert_eq!(
            excludes(&["*.tmp", " a", "b ", "#c", "$HOME/x", "!d", "a b"])?,
            "*.tmp\n[ ]a\nb[ ]\n[#]c\n$$HOME/x\n!d\na b\n"
        );
        Ok(())
    }

    /// G2
    #[test]
    fn a_pattern_is_one_line() {
        for pattern in ["", " ", "a\nb", "a\r", "a\0"] {
            assert!(excludes(&[pattern]).is_err(), "{pattern:?}");
        }
    }

    /// G2
    #[test]
    fn a_source_is_an_absolute_path() {
        for sources in [&[][..], &["etc"], &["/a", "--help"], &["/a\0b"], &[""]] {
            let sources: Vec<String> = sources.iter().map(|&source| source.to_owned()).collect();
            assert!(source_list(&sources).is_err(), "{sources:?}");
        }
    }

    #[test]
    fn what_nobody_would_read_is_counted() {
        let mut unread = Unread::default();
        for number in 0..MOST_UNREAD + 7 {
            unread.add(&format!("/{number}"));
            unread.add("/0");
        }

        let list = unread.list();
        assert_eq!(list.len(), MOST_UNREAD + 1);
        assert_eq!(list.last().map(String::as_str), Some("and 7 more"));
    }
}
