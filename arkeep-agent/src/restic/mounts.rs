//! Whether a directory lies on a file system of its own.
//!
//! A disk that is not mounted leaves an empty directory behind, and a backup into that directory
//! fills the root file system with copies of itself. The owner can say that a destination must be
//! a mount; then it is looked up before anything is started.

use std::path::{Path, PathBuf};
use std::{fs, io};

use arkeep_core::engine::EngineError;

/// Refuses a directory with no file system mounted there or above it, below `/`.
pub(super) fn require_mounted(directory: &Path) -> Result<(), EngineError> {
    let checked = real_name(directory).and_then(|real| {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(covering_mount(&mounts, &real).is_some())
    });
    match checked {
        Ok(true) => Ok(()),
        Ok(false) => Err(EngineError::NotMounted(format!(
            "no file system is mounted at {} or above it; mount it, or turn off `must_be_mounted` \
             of the destination",
            directory.display()
        ))),
        Err(error) => Err(EngineError::NotMounted(format!(
            "{} cannot be looked at: {error}",
            directory.display()
        ))),
    }
}

/// The path without links, as far as it exists.
fn real_name(path: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        match fs::canonicalize(there) {
            Ok(real) => {
                return Ok(missing
                    .iter()
                    .rev()
                    .fold(real, |path, name| path.join(name)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link whose target is gone exists, and what it hides is not known.
                if there.is_symlink() {
                    return Err(error);
                }
                missing.push(there.file_name().ok_or(error)?);
                there = there.parent().unwrap_or(Path::new("/"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The deepest mount point below `/` that `path` lies on (proc_pid_mountinfo(5)).
fn covering_mount(mountinfo: &str, path: &Path) -> Option<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            let point = PathBuf::from(unescape(mount.split(' ').nth(4)?));
            // An automounter's own entry says that something may be mounted, not that it is.
            (!file_system.starts_with("autofs ")).then_some(point)
        })
        .filter(|point| point != Path::new("/") && path.starts_with(point))
        .max_by_key(|point| point.components().count())
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .into_iter()
    .fold(field.to_owned(), |text, (escape, plain)| {
        text.replace(escape, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
1 0 8:1 / / rw - ext4 /dev/sda rw
2 1 8:2 / /mnt/usb\\040disk rw,nosuid shared:3 - ext4 /dev/sdb rw
3 1 0:9 / /net/nas rw - autofs systemd-1 rw
";

    /// G5
    #[test]
    fn a_mount_covers_what_is_below_it_and_nothing_else() {
        for (path, covered) in [
            ("/mnt/usb disk", true),
            ("/mnt/usb disk/restic/p", true),
            ("/mnt/usb disk2", false),
            ("/mnt", false),
            ("/srv", false),
            ("/net/nas/x", false),
        ] {
            assert_eq!(
                covering_mount(MOUNTS, Path::new(path)).is_some(),
                covered,
                "{path}"
            );
        }
    }

    /// G5
    #[test]
    fn a_link_is_followed_before_its_mount_is_looked_up() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/proc/self", &link)?;

        assert!(require_mounted(&link.join("nothing")).is_ok());
        Ok(())
    }
}
