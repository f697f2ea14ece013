//! What is in a repository: its snapshots, and the directories of one.

use arkeep_core::Timestamp;
use arkeep_core::engine::{EngineError, Observer, SnapshotFilter};
use arkeep_core::repository::Repository;
use arkeep_core::snapshot::{Entry, EntryKind, RepositorySnapshot, ResticId};
use serde::Deserialize;

use super::ResticEngine;
use super::backup::check_word;
use super::call::Ask;
use super::listen::Heard;
use super::place::refused;
use super::redact::Redactor;
use super::stream;

impl ResticEngine {
    /// Lists the snapshots that match, oldest first; only `id` when it is given.
    pub(super) async fn list_snapshots(
        &self,
        of: &Repository,
        filter: &SnapshotFilter,
        id: Option<&ResticId>,
        observer: &dyn Observer,
    ) -> Result<Vec<RepositorySnapshot>, EngineError> {
        // Listing takes no lock: it must answer beside a prune and above a read-only repository.
        let mut flags = vec!["--no-lock".to_owned()];
        flags.extend(filter_flags(filter)?);
        let ask = Ask {
            verb: "snapshots",
            flags,
            operands: id.iter().map(ToString::to_string).collect(),
            ..Ask::default()
        };
        let (sender, parsed) = stream::array::<Vec<RawSnapshot>>();
        let ended = self
            .call(of, ask, observer, &mut |_, _| false, Some(sender))
            .await?;
        ended.ok()?;
        let listed = parsed
            .await
            .map_err(|_| unreadable("snapshots", &"the reader broke off"))?
            .map_err(|error| unreadable("snapshots", &error))?;
        let mut snapshots: Vec<RepositorySnapshot> = listed
            .unwrap_or_default()
            .into_iter()
            .map(RepositorySnapshot::from)
            .collect();
        snapshots.sort_by_key(|snapshot| snapshot.taken_at);
        Ok(snapshots)
    }

    /// Lists one directory of a snapshot.
    pub(super) async fn list_directory(
        &self,
        of: &Repository,
        snapshot: &ResticId,
        path: &str,
        observer: &dyn Observer,
    ) -> Result<Vec<Entry>, EngineError> {
        let directory = snapshot_path(path)?;
        let mut entries = Vec::new();
        let mut itself = (directory == "/").then_some(EntryKind::Directory);
        let mut too_many = false;
        let mut each = |node: Node| {
            if node.path == directory {
                itself = Some(node.kind());
            } else if parent(&node.path) == Some(directory) {
                too_many |= entries.len() == MOST_ENTRIES;
                if !too_many {
                    entries.push(Entry::from(node));
                }
            }
        };
        self.nodes(of, snapshot, &[directory.to_owned()], observer, &mut each)
            .await?;
        match itself {
            _ if too_many => Err(EngineError::Failed(format!(
                "the directory has more than {MOST_ENTRIES} entries, too many to list"
            ))),
            Some(EntryKind::Directory) => Ok(entries),
            Some(_) => Err(EngineError::Refused(format!(
                "{directory} is not a directory in snapshot {snapshot}"
            ))),
            // restic before 0.19 shows the root's children without their parents.
            None if !entries.is_empty() => Ok(entries),
            None => Err(EngineError::Failed(format!(
                "snapshot {snapshot} has no directory {directory}"
            ))),
        }
    }

    /// Hands over the nodes at these paths of a snapshot and, for directories, those right below.
    pub(super) async fn nodes(
        &self,
        of: &Repository,
        snapshot: &ResticId,
        paths: &[String],
        observer: &dyn Observer,
        each: &mut (dyn FnMut(Node) + Send),
    ) -> Result<(), EngineError> {
        let mut operands = vec![snapshot.to_string()];
        operands.extend_from_slice(paths);
        let ask = Ask {
            verb: "ls",
            flags: vec!["--no-lock".to_owned()],
            operands,
            ..Ask::default()
        };
        let mut found = false;
        let mut heed = |heard: Heard<'_>, _: &Redactor| {
            let Heard::Line(line) = heard else {
                return false;
            };
            if let Ok(Listed::Node(node)) = serde_json::from_str(line) {
                each(node);
            } else if line.contains(r#""struct_type":"snapshot""#) {
                found = true;
            }
            true
        };
        let ended = self.call(of, ask, observer, &mut heed, None).await?;
        ended.ok()?;
        // 0.14 ends well when there is no such snapshot.
        match found {
            true => Ok(()),
            false => Err(EngineError::Failed(format!(
                "there is no snapshot {snapshot} in the repository"
            ))),
        }
    }
}

/// Flags that narrow a command to the snapshots that match: all of the tags, one host.
pub(super) fn filter_flags(filter: &SnapshotFilter) -> Result<Vec<String>, EngineError> {
    let mut flags = Vec::new();
    for tag in &filter.tags {
        check_word("tag", tag)?;
    }
    if !filter.tags.is_empty() {
        // One flag with a comma asks for both tags, two flags for either.
        flags.push(format!("--tag={}", filter.tags.join(",")));
    }
    if let Some(host) = &filter.host {
        check_word("host", host)?;
        flags.push(format!("--host={host}"));
    }
    Ok(flags)
}

/// An absolute path of a snapshot without a `/` at its end.
pub(super) fn snapshot_path(path: &str) -> Result<&str, EngineError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    let trimmed = path.trim_end_matches('/');
    match (path.strip_prefix('/'), trimmed) {
        (Some(_), "") => Ok("/"),
        (Some(_), trimmed) if trimmed.split('/').skip(1).all(plain) && !path.contains('\0') => {
            Ok(trimmed)
        }
        _ => Err(refused(
            "the path is not an absolute path of plain components",
        )),
    }
}

pub(super) fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

pub(super) fn unreadable(what: &str, why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Failed(format!("restic's list of {what} cannot be read: {why}"))
}

/// A snapshot as restic writes it.
#[derive(Debug, Deserialize)]
pub(super) struct RawSnapshot {
    id: ResticId,
    time: String,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    paths: Option<Vec<String>>,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl From<RawSnapshot> for RepositorySnapshot {
    fn from(raw: RawSnapshot) -> Self {
        Self {
            id: raw.id,
            taken_at: raw.time.parse().unwrap_or(Timestamp::UNIX_EPOCH),
            hostname: raw.hostname,
            paths: raw.paths.unwrap_or_default(),
            tags: raw.tags.unwrap_or_default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "struct_type", rename_all = "snake_case")]
enum Listed {
    Node(Node),
    #[serde(other)]
    Other,
}

/// A file, directory or other thing of a snapshot.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    pub(super) path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    mtime: String,
}

impl Node {
    fn kind(&self) -> EntryKind {
        match self.kind.as_str() {
            "file" => EntryKind::File,
            "dir" => EntryKind::Directory,
            "symlink" => EntryKind::Symlink,
            _ => EntryKind::Other,
        }
    }
}

impl From<Node> for Entry {
    fn from(node: Node) -> Self {
        let kind = node.kind();
        Self {
            kind,
            size: if kind == EntryKind::File {
                node.size
            } else {
                0
            },
            modified_at: node.mtime.parse().ok(),
            name: node.name,
            path: node.path,
        }
    }
}

const MOST_ENTRIES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_snapshot_is_absolute_and_plain() {
        for (path, plain) in [("/", "/"), ("/a", "/a"), ("/a/b/", "/a/b"), ("/-o", "/-o")] {
            assert_eq!(snapshot_path(path).ok(), Some(plain), "{path}");
        }
        for path in ["", "a", "/a/../b", "/./a", "/a//b", "--x", "/a\0"] {
            assert!(snapshot_path(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_parent_is_one_component_shorter() {
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/"), None);
    }
}
