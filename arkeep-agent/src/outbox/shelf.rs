use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arkeep_core::JobId;
use arkeep_core::secret::{ExposeSecret, SecretSlice};
use arkeep_vault::{Binding, SealError, Sealer};

use super::record::Name;
use crate::files::{self, TEMPORARY};

/// Sealed files, in one directory for each job.
///
/// A directory appears with its first file and goes as a whole; a file appears whole or not at
/// all. Each is sealed for its name, so that one moved or renamed does not open.
#[derive(Debug)]
pub(super) struct Shelf {
    root: PathBuf,
    sealer: Arc<dyn Sealer>,
}

/// A file that is there and cannot be used.
#[derive(Debug)]
pub(super) enum TakeError {
    /// It was altered, torn, or sealed by another key.
    Damaged,
    /// The disk did not give it. It may be fine.
    Disk(io::Error),
}

/// A file that was not written.
#[derive(Debug)]
pub(super) enum PutError {
    Disk(io::Error),
    Seal(SealError),
}

impl PutError {
    /// Whether the disk is full: for the file itself, or for the ring that counts what is sealed.
    pub(super) fn is_for_want_of_room(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = match self {
            Self::Disk(error) => Some(error),
            Self::Seal(error) => Some(error),
        };
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            if io.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl From<io::Error> for PutError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Shelf {
    /// Opens the shelf and clears away what a crash left half-made or half-removed.
    pub(super) fn open(root: &Path, sealer: Arc<dyn Sealer>) -> io::Result<Self> {
        files::private_directory(root)?;
        files::private_directory(&root.join(DAMAGED))?;
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(TEMPORARY.as_bytes()) || name.starts_with(GONE.as_bytes()) {
                let removed = match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path()),
                    false => fs::remove_file(entry.path()),
                };
                if let Err(error) = removed {
                    let path = entry.path();
                    tracing::warn!(path = %path.display(), %error, "a remain cannot be removed");
                }
            }
        }
        Ok(Self {
            root: root.to_owned(),
            sealer,
        })
    }

    /// The jobs and the names of their files, both in order.
    pub(super) fn jobs(&self) -> io::Result<Vec<(JobId, io::Result<Vec<String>>)>> {
        let mut jobs = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let Some(job) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            jobs.push((job, names(&self.root.join(&name))));
        }
        jobs.sort_by_key(|(job, _)| *job);
        Ok(jobs)
    }

    /// Makes the directory of a job with one file in it.
    pub(super) fn create(
        &self,
        job: JobId,
        name: &str,
        content: &SecretSlice<u8>,
    ) -> Result<(), PutError> {
        let unfinished = self.root.join(format!("{TEMPORARY}{job}"));
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&unfinished)?;
        let made = self
            .seal(job, name, content)
            .and_then(|sealed| Ok(files::put(&unfinished, name, &sealed)?))
            .and_then(|()| Ok(fs::rename(&unfinished, self.directory(job))?))
            .and_then(|()| Ok(files::sync_directory(&self.root)?));
        if made.is_err() {
            let _ = fs::remove_dir_all(&unfinished);
        }
        made
    }

    /// Adds a file to a job, or replaces it.
    pub(super) fn put(
        &self,
        job: JobId,
        name: &str,
        content: &SecretSlice<u8>,
    ) -> Result<(), PutError> {
        let sealed = self.seal(job, name, content)?;
        Ok(files::put(&self.directory(job), name, &sealed)?)
    }

    /// Reads a file of a job.
    pub(super) fn take(&self, job: JobId, name: &str) -> Result<SecretSlice<u8>, TakeError> {
        let sealed = match files::read(&self.directory(job).join(name), LONGEST) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(TakeError::Damaged);
            }
            Err(error) => return Err(TakeError::Disk(error)),
        };
        self.sealer
            .open_bytes(&sealed, &binding(job, name))
            .map_err(|_| TakeError::Damaged)
    }

    /// Keeps some room for the day when the disk is full. Without it there is less, that is all.
    pub(super) fn reserve(&self) {
        let room = vec![0xa5; RESERVE];
        if !self.root.join(RESERVED).exists() {
            let _ = files::put(&self.root, RESERVED, &room);
        }
    }

    /// Gives the room back, for what must be written now; false when there was none.
    pub(super) fn release(&self) -> bool {
        fs::remove_file(self.root.join(RESERVED)).is_ok()
    }

    /// Removes a file of a job. One that is not there is removed.
    pub(super) fn remove(&self, job: JobId, name: &str) -> io::Result<()> {
        match fs::remove_file(self.directory(job).join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Renames a file of a job, whose content does not open any more.
    pub(super) fn rename(&self, job: JobId, from: &Name, to: &Name) -> io::Result<()> {
        let directory = self.directory(job);
        fs::rename(
            directory.join(from.to_string()),
            directory.join(to.to_string()),
        )
    }

    /// Removes all of a job, or nothing.
    pub(super) fn discard(&self, job: JobId) -> io::Result<()> {
        let gone = self.root.join(format!("{GONE}{job}"));
        fs::rename(self.directory(job), &gone)?;
        files::sync_directory(&self.root)?;
        fs::remove_dir_all(gone)
    }

    /// Moves a damaged file, or with no name all of a job, where it blocks nothing and can be
    /// looked at. Returns where that is.
    pub(super) fn set_aside(&self, job: JobId, name: Option<&str>) -> io::Result<PathBuf> {
        let (from, to) = match name {
            Some(name) => (self.directory(job).join(name), format!("{job}.{name}")),
            None => (self.directory(job), job.to_string()),
        };
        let aside = self.root.join(DAMAGED);
        let to = aside.join(to);
        if fs::read_dir(&aside)?.count() >= MOST_DAMAGED {
            match from.is_dir() {
                true => fs::remove_dir_all(&from)?,
                false => fs::remove_file(&from)?,
            }
            return Ok(from);
        }
        if to.is_dir() {
            fs::remove_dir_all(&to)?;
        } else if from.is_dir() {
            let _ = fs::remove_file(&to);
        }
        fs::rename(&from, &to)?;
        files::sync_directory(&aside)?;
        Ok(to)
    }

    fn seal(&self, job: JobId, name: &str, content: &SecretSlice<u8>) -> Result<Vec<u8>, PutError> {
        self.sealer
            .seal(content, &binding(job, name))
            .map(|sealed| sealed.into_bytes())
            .map_err(PutError::Seal)
    }

    pub(super) fn directory(&self, job: JobId) -> PathBuf {
        self.root.join(job.to_string())
    }
}

/// The names of a job's files, in order, without those that were never finished.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(directory)? {
        let file = file?;
        match file.file_name().into_string() {
            Ok(name) if name.starts_with(TEMPORARY) => fs::remove_file(file.path())?,
            Ok(name) => names.push(name),
            Err(_) => {}
        }
    }
    names.sort();
    Ok(names)
}

/// Wraps what holds no secret of its own but is sealed all the same.
pub(super) fn bytes(content: Vec<u8>) -> SecretSlice<u8> {
    content.into()
}

/// Reads JSON out of an opened file.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    content: &SecretSlice<u8>,
) -> Result<T, TakeError> {
    serde_json::from_slice(content.expose_secret()).map_err(|_| TakeError::Damaged)
}

fn binding(job: JobId, name: &str) -> Binding {
    Binding::new("outbox", "entry", format!("{job}/{name}")).in_domain("arkeep-agent")
}

const DAMAGED: &str = "damaged";
const GONE: &str = ".gone-";
const RESERVED: &str = "reserve";
// Some ends of jobs, with what their hooks printed.
const RESERVE: usize = 512 << 10;
const MOST_DAMAGED: usize = 100;
// What a vault seals at most, and its header.
const LONGEST: u64 = (16 << 20) + 64;
