//! Making a repository, once, however many begin at the same moment.
//!
//! `restic init` looks for a configuration, thinks for a second or two about its key, and then
//! writes the key and the configuration, over one that appeared meanwhile. Two at once leave two
//! keys that one password opens and one configuration that only one of them reads; what the other
//! one's backup wrote is lost, whatever that backup said.
//!
//! In a local directory this cannot happen. restic makes the repository in a directory beside, and
//! its parts are renamed into place:
//!
//! | step                      | who comes second                                          |
//! |---------------------------|-----------------------------------------------------------|
//! | `data`, `index`, …        | finds them there: they are empty and alike                |
//! | `keys`                    | fails: a directory with a key in it cannot be replaced    |
//! | `config`, the winner's    | finishes this step for a winner that was killed before it |
//!
//! So there is never a second key and never another configuration, and whoever lost opens what the
//! winner made. Another back-end has no such step. There the repository is opened once more after
//! it was made, and used only when it opens and has one key; that two machines do not begin at once
//! is the server's to see to.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use arkeep_core::engine::{EngineError, Observer};
use arkeep_core::repository::{LocalLocation, Location, RelativePath, Repository};
use arkeep_core::{Entropy, SystemEntropy};

use super::ResticEngine;
use super::call::Ask;
use super::listen::Heard;
use super::place::{local_directory, refused};
use super::redact::Redactor;
use crate::files::sync_directory;

impl ResticEngine {
    /// Makes a repository, after restic has said that there is none. Also when another one made it
    /// at the same moment, it is there and opens when this returns.
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
        match &at.location {
            Location::Local(location) => {
                let directory = local_directory(location, at.path.as_str())?;
                self.make_beside(at, location, directory, observer).await?;
            }
            _ => self.init_at(at, observer).await?,
        }
        self.require_one_key(at, observer).await
    }

    async fn make_beside(
        &self,
        at: &Repository,
        location: &LocalLocation,
        directory: PathBuf,
        observer: &dyn Observer,
    ) -> Result<(), EngineError> {
        let there = directory.clone();
        if self.look(move || finish_or_refuse(&there)).await? {
            return Ok(());
        }
        let beside = Beside::of(&directory);
        let path = beside.0.to_str().map(ToOwned::to_owned);
        let draft = Repository {
            location: Location::Local(LocalLocation {
                path: path.ok_or_else(|| refused("the destination's path is not text"))?,
                ..location.clone()
            }),
            path: RelativePath::default(),
            ..at.clone()
        };
        self.init_at(&draft, observer).await?;
        self.look(move || {
            let won = publish(&beside.0, &directory).map_err(|error| {
                EngineError::Failed(format!(
                    "the new repository cannot be moved into {}: {error}",
                    directory.display()
                ))
            })?;
            if !won {
                finish_or_refuse(&directory)?;
            }
            Ok(())
        })
        .await
    }

    async fn init_at(&self, at: &Repository, observer: &dyn Observer) -> Result<(), EngineError> {
        let make = Ask {
            verb: "init",
            ..Ask::default()
        };
        self.call(at, make, observer, &mut |_, _| false, None)
            .await?
            .ok()
    }

    /// Opens the new repository and refuses it when another key is there beside its own.
    async fn require_one_key(
        &self,
        at: &Repository,
        observer: &dyn Observer,
    ) -> Result<(), EngineError> {
        let mut keys = 0_usize;
        let mut heed = |heard: Heard<'_>, _: &Redactor| {
            if let Heard::Line(line) = heard {
                let line = line.trim();
                keys +=
                    usize::from(line.len() == 64 && line.chars().all(|c| c.is_ascii_hexdigit()));
            }
            false
        };
        let ask = Ask {
            verb: "list",
            flags: vec!["--no-lock".to_owned()],
            operands: vec!["keys".to_owned()],
            ..Ask::default()
        };
        let ended = self.call(at, ask, observer, &mut heed, None).await?;
        match (ended.ok(), keys) {
            (Ok(()), 1) => Ok(()),
            (Err(EngineError::WrongPassword), _) => Err(EngineError::WrongPassword),
            (Err(EngineError::Failed(told)), _) => Err(unproven(&told)),
            (Ok(()), keys) => Err(unproven(&format!("it has {keys} keys"))),
            (Err(error), _) => Err(error),
        }
    }
}

fn unproven(why: &str) -> EngineError {
    EngineError::Failed(format!(
        "the repository was made, but not by one alone: {why}. Nothing was written to it. Remove \
         what was made at its place and run the backup again"
    ))
}

/// A repository on its way to its place, removed when this is dropped and it is not there yet.
#[derive(Debug)]
struct Beside(PathBuf);

impl Beside {
    fn of(directory: &Path) -> Self {
        Self(directory.join(fresh_name()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(path = %self.0.display(), %error, "cannot remove a draft");
            }
            _ => {}
        }
    }
}

fn fresh_name() -> String {
    // Random: the other one may run on another machine.
    let mut number = [0; 16];
    SystemEntropy.fill(&mut number);
    format!("{BESIDE}{:032x}", u128::from_ne_bytes(number))
}

/// Renames the parts of a repository into `directory`; false when another one's key is there.
fn publish(beside: &Path, directory: &Path) -> io::Result<bool> {
    for part in fs::read_dir(beside)? {
        let name = part?.file_name();
        if name == KEYS || name == CONFIG {
            continue;
        }
        let place = directory.join(&name);
        match fs::rename(beside.join(&name), &place) {
            Err(error) if place.symlink_metadata().is_err() => return Err(error),
            _ => {}
        }
    }
    match fs::rename(beside.join(KEYS), directory.join(KEYS)) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
            ) =>
        {
            return Ok(false);
        }
        done => done?,
    }
    move_config(beside, directory)?;
    Ok(true)
}

/// The last step of whoever's keys are in place. Another one may have made it for him.
fn move_config(beside: &Path, directory: &Path) -> io::Result<()> {
    let config = directory.join(CONFIG);
    match fs::rename(beside.join(CONFIG), &config) {
        Err(error) if error.kind() != ErrorKind::NotFound || !config.exists() => Err(error),
        _ => sync_directory(directory),
    }
}

/// Whether the repository is there, when need be by the last step of one who was killed before it.
///
/// Refuses a directory with keys or data in it and no configuration: a repository that lost one
/// file can be mended, but not after another was made over it.
fn finish_or_refuse(directory: &Path) -> Result<bool, EngineError> {
    if directory.join(CONFIG).exists() {
        return Ok(true);
    }
    let remains = [KEYS, "snapshots", "index"].into_iter().any(|part| {
        fs::read_dir(directory.join(part)).is_ok_and(|mut entries| entries.next().is_some())
    });
    if !remains {
        return Ok(false);
    }
    if let Some(beside) = without_keys(directory)
        && move_config(&beside, directory).is_ok()
    {
        return Ok(true);
    }
    // Whoever made the last step meanwhile has made it for all.
    if directory.join(CONFIG).exists() {
        return Ok(true);
    }
    Err(EngineError::Refused(format!(
        "{} holds keys or snapshots but no repository configuration; it may be a repository that \
         lost its `config` file. Restore that file, or move the directory away",
        directory.display()
    )))
}

/// The draft whose keys are in place: the winner's.
fn without_keys(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let is_draft = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(BESIDE))
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_draft)
        .find(|path| path.join(CONFIG).exists() && path.join(KEYS).symlink_metadata().is_err())
}

const BESIDE: &str = ".arkeep-new-";
const KEYS: &str = "keys";
const CONFIG: &str = "config";

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// Something of the shape of a repository, whose key and configuration belong together.
    fn draft(directory: &Path, mark: &str) -> io::Result<PathBuf> {
        let path = directory.join(fresh_name());
        for part in ["data/00", "index", "snapshots", "locks", KEYS] {
            fs::create_dir_all(path.join(part))?;
        }
        fs::write(path.join(KEYS).join(mark), mark)?;
        fs::write(path.join(CONFIG), mark)?;
        Ok(path)
    }

    fn names(directory: &Path) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(directory)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// G5, G14: of many at once one wins, with its key and its configuration.
    #[test]
    fn one_of_many_is_published_whole() -> io::Result<()> {
        for round in 0..50 {
            let home = tempfile::tempdir()?;
            let home = home.path();
            let marks = ["a", "b", "c", "d"];
            let drafts: Vec<_> = marks
                .iter()
                .map(|mark| draft(home, mark))
                .collect::<Result<_, _>>()?;
            let together = Barrier::new(drafts.len());

            let won = std::thread::scope(|scope| {
                let begin = |draft: &PathBuf| {
                    let (draft, together) = (draft.clone(), &together);
                    scope.spawn(move || {
                        together.wait();
                        let won = publish(&draft, home)?;
                        assert!(won || finish_or_refuse(home).is_ok_and(|there| there));
                        Ok::<_, io::Error>(won)
                    })
                };
                let threads: Vec<_> = drafts.iter().map(begin).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect::<Result<Vec<bool>, _>>()
            })?;

            assert_eq!(won.iter().filter(|won| **won).count(), 1, "round {round}");
            let winner = won.iter().position(|won| *won).map(|place| marks[place]);
            assert_eq!(names(&home.join(KEYS))?, [winner.unwrap()]);
            assert_eq!(fs::read_to_string(home.join(CONFIG))?, winner.unwrap());
        }
        Ok(())
    }

    /// G5, G10: a winner that was killed between its two steps is finished by the next one.
    #[test]
    fn a_killed_winners_last_step_is_made_for_it() -> Result<(), Box<dyn std::error::Error>> {
        let home = tempfile::tempdir()?;
        let home = home.path();
        draft(home, "loser")?;
        let killed = draft(home, "winner")?;
        fs::rename(killed.join(KEYS), home.join(KEYS))?;

        assert!(finish_or_refuse(home)?);

        assert_eq!(fs::read_to_string(home.join(CONFIG))?, "winner");
        Ok(())
    }

    /// G5
    #[test]
    fn keys_without_a_configuration_are_left_alone() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let home = home.path();
        draft(home, "other")?;
        fs::create_dir(home.join(KEYS))?;
        fs::write(home.join(KEYS).join("lost"), "lost")?;

        assert!(matches!(
            finish_or_refuse(home),
            Err(EngineError::Refused(_))
        ));
        assert!(!home.join(CONFIG).exists());
        Ok(())
    }
}
