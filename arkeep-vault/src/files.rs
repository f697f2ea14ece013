//! Files that are read without following a link and never seen half-written.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretSlice;

use crate::crash::crash_point;
use crate::secret::{ReadSecretError, read_secret};

/// What stands at a path, when it is not a file that can be read.
#[derive(Debug)]
pub(crate) enum ReadFault {
    Missing,
    SymbolicLink,
    NotAFile,
    TooLong,
    Io(io::Error),
}

/// A file's content, and what was known of the file when it was read.
pub(crate) struct Content {
    pub(crate) bytes: SecretSlice<u8>,
    pub(crate) mode: u32,
    pub(crate) stamp: Stamp,
}

/// Tells one file at a path from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::symlink_metadata(path)?))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// The file is judged through the descriptor it is read from, so nobody can swap it in between.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Content, ReadFault> {
    let mut file = OpenOptions::new()
        .read(true)
        // O_NONBLOCK, because opening a pipe would otherwise wait for somebody to write to it.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => ReadFault::SymbolicLink,
            Some(libc::ENOENT) => ReadFault::Missing,
            _ => ReadFault::Io(error),
        })?;
    let metadata = file.metadata().map_err(ReadFault::Io)?;
    if !metadata.is_file() {
        return Err(ReadFault::NotAFile);
    }
    let bytes = read_secret(&mut file, limit).map_err(|error| match error {
        ReadSecretError::TooLong { .. } => ReadFault::TooLong,
        ReadSecretError::Io(source) => ReadFault::Io(source),
    })?;
    Ok(Content {
        bytes,
        mode: metadata.permissions().mode() & 0o7777,
        stamp: Stamp::from(&metadata),
    })
}

/// Makes a file of mode 0600 that appears whole or not at all, and only where nothing is.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`] when anything is at `path`, which is then untouched.
pub(crate) fn create_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = Temporary::write(path, content)?;
    // A link, unlike a rename, fails when the name is taken.
    fs::hard_link(&temporary.path, path)?;
    crash_point!("file-linked");
    drop(temporary);
    sync_directory(path)
}

/// Puts a file of mode 0600 in the place of another, which is seen until the new one is whole.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = Temporary::write(path, content)?;
    fs::rename(&temporary.path, path)?;
    crash_point!("file-replaced");
    sync_directory(path)
}

/// Gives a file another name beside it, and makes that survive a power cut.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    crash_point!("file-renamed");
    sync_directory(to)
}

/// Keeps other processes, and other threads, from changing the file at `path`.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for whoever has it. The kernel takes it back when its holder ends, however it ends.
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(beside(path, ".lock"))?;
        file.lock()?;
        Ok(Self { _file: file })
    }
}

/// The path with something added to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file beside its destination, removed unless it was moved there.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(destination: &Path, content: &[u8]) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = OsString::from(".");
        name.push(destination.file_name().unwrap_or_default());
        name.push(format!(".{:016x}.tmp", u64::from_be_bytes(random)));
        let path = destination.with_file_name(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let temporary = Self { path };
        crash_point!("file-created");
        let (first, second) = content.split_at(content.len() / 2);
        file.write_all(first)?;
        crash_point!("file-half-written");
        file.write_all(second)?;
        crash_point!("file-written");
        file.sync_all()?;
        crash_point!("file-synced");
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing here, and a leftover does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a new name in the directory survive a power cut.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()?;
    crash_point!("directory-synced");
    Ok(())
}

/// The directory of a path, which is the current one when the path is a bare name.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_lies_in_the_current_directory() {
        assert_eq!(directory(Path::new("vault.ring")), Path::new("."));
        assert_eq!(directory(Path::new("data/vault.ring")), Path::new("data"));
        assert_eq!(directory(Path::new("/vault.ring")), Path::new("/"));
    }
}
