use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

/// A private directory for one run of restic, removed when it is dropped.
#[derive(Debug)]
pub(super) struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    /// Makes a directory below `parent` that only this process's user can enter.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        if !parent.is_dir() {
            fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(parent)?;
        }
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match builder.create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only this process's user can read.
    pub(super) fn write(&self, name: &str, mode: u32, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)?
            .write_all(content)?;
        Ok(path)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a run's directory");
        }
    }
}

/// Removes what agents that were killed left below `parent`.
pub(super) fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_of_the_dead) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_of_the_dead(name: &str) -> bool {
    let owner = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'))
        .and_then(|(pid, _)| pid.parse::<u32>().ok());
    owner.is_some_and(|pid| {
        !Path::new(OsStr::new("/proc"))
            .join(pid.to_string())
            .exists()
    })
}

const PREFIX: &str = "restic-run-";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// G3
    #[test]
    fn nobody_else_can_enter_and_nothing_stays() -> io::Result<()> {
        let parent = tempfile::tempdir()?;
        let run = WorkDir::new(parent.path())?;
        let file = run.write("key", 0o600, b"secret")?;

        assert_eq!(
            fs::metadata(run.path())?.permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(fs::metadata(file)?.permissions().mode() & 0o777, 0o600);
        drop(run);
        assert_eq!(fs::read_dir(parent.path())?.count(), 0);
        Ok(())
    }

    /// G3
    #[test]
    fn the_remains_of_a_killed_agent_are_swept_and_no_others() -> io::Result<()> {
        let parent = tempfile::tempdir()?;
        let living = WorkDir::new(parent.path())?;
        // No process has a number beyond the kernel's greatest, 2^22.
        fs::create_dir(parent.path().join("restic-run-4194305-0"))?;
        fs::create_dir(parent.path().join("restic-running"))?;

        sweep(parent.path());

        assert!(living.path().exists());
        assert_eq!(fs::read_dir(parent.path())?.count(), 2);
        Ok(())
    }
}
