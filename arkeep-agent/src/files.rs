//! Files that appear whole or not at all, and stay after a power cut.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::failpoint;

/// Puts `content` at `directory/name`, replacing what is there. On the disk when this returns.
///
/// A reader sees the old file or the new one. What a crash leaves behind begins with [`TEMPORARY`].
pub(crate) fn put(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{TEMPORARY}{name}"));
    let written = write_synced(&temporary, content).and_then(|()| {
        failpoint::hit("file.before-rename");
        fs::rename(&temporary, directory.join(name))?;
        failpoint::hit("file.after-rename");
        sync_directory(directory)
    });
    if written.is_err() {
        // The disk may be full: what cannot be used must not take room either.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The directory that holds `path`: for a bare name, the one that the program was started in.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes a directory that only its owner enters, or takes the one that is there.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] when what is there is another user's, open to others, or not
/// a directory. The text says what to do.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return sync_directory(parent_of(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = fs::symlink_metadata(path)?;
    let refuse = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    if !found.is_dir() {
        return refuse(format!("{} is not a directory", path.display()));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return refuse(format!("{} belongs to another user", path.display()));
    }
    if found.mode() & 0o077 != 0 && fs::read_dir(path)?.next().is_none() {
        // Nobody has put anything there yet that others may have seen.
        return fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    }
    if found.mode() & 0o077 != 0 {
        return refuse(format!(
            "{path} is open to other users; run `chmod 700 {path}`",
            path = path.display()
        ));
    }
    Ok(())
}

/// Reads a regular file of at most `limit` bytes, never through a link.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    read_open(&file, limit)
}

/// Opens a regular file, never through a link, and never waits for the other end of a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok(file)
}

/// The content of an open file of at most `limit` bytes.
pub(crate) fn read_open(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("longer than {limit} bytes"),
        ));
    }
    Ok(content)
}

/// How the names of unfinished files begin.
pub(crate) const TEMPORARY: &str = ".new-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_lies_in_the_working_directory() {
        assert_eq!(parent_of(Path::new("state")), Path::new("."));
        assert_eq!(parent_of(Path::new("a/state")), Path::new("a"));
        assert_eq!(parent_of(Path::new("/state")), Path::new("/"));
        assert_eq!(parent_of(Path::new("/")), Path::new("/"));
    }

    #[test]
    fn a_file_is_its_owners_alone() -> io::Result<()> {
        let home = tempfile::tempdir()?;

        put(home.path(), "a", b"one")?;
        put(home.path(), "a", b"two")?;

        let file = home.path().join("a");
        assert_eq!(read(&file, 10)?, b"two");
        assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_link_is_not_followed() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        put(home.path(), "a", b"one")?;
        std::os::unix::fs::symlink("a", home.path().join("b"))?;

        assert!(read(&home.path().join("b"), 10).is_err());
        Ok(())
    }

    #[test]
    fn an_empty_directory_is_closed_to_others() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let path = home.path().join("state");
        fs::create_dir(&path)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;

        private_directory(&path)?;

        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o700);
        Ok(())
    }

    #[test]
    fn a_directory_open_to_others_is_refused() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let path = home.path().join("state");
        private_directory(&path)?;
        put(&path, "a", b"one")?;

        fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;

        let refused = private_directory(&path).unwrap_err().to_string();
        assert!(refused.contains("chmod 700"), "{refused}");
        Ok(())
    }
}
