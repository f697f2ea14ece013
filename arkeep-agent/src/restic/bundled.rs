//! A restic that travels inside this program.
//!
//! It is written out before it can be executed, and what lies on a disk can be changed. So the
//! file is opened without following links, its owner, mode, size and hash are checked before each
//! execution, and the file that was checked is the one that is executed. Anything else found
//! under its name is replaced.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use arkeep_core::engine::EngineError;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use super::binary::{self, Identity, Program};

/// The bytes of a restic, and the directory where they are written out.
#[derive(Clone)]
pub struct BundledRestic {
    /// The program.
    pub bytes: &'static [u8],
    /// Its SHA-256, pinned when it was built in.
    pub sha256: [u8; 32],
    /// A directory that only the agent's user can write to, on a file system from which programs
    /// can be executed.
    pub directory: PathBuf,
}

impl BundledRestic {
    /// The restic that this program was built with, to be written out to `directory`; nothing when
    /// it was built without the feature `bundled-restic`, or without a file for it.
    #[must_use]
    pub fn built_in(directory: impl Into<PathBuf>) -> Option<Self> {
        let (bytes, sha256) = BUILT_IN?;
        Some(Self {
            bytes,
            sha256,
            directory: directory.into(),
        })
    }

    /// Opens the file that was written out, and writes it out if there is none like it.
    pub(super) fn open(&self) -> Result<Program, EngineError> {
        if let Some(program) = self.open_written() {
            return Ok(program);
        }
        self.write().map_err(|error| {
            EngineError::Unusable(format!(
                "the bundled restic cannot be written to {}: {error}",
                self.directory.display()
            ))
        })?;
        self.open_written().ok_or_else(|| {
            EngineError::Unusable(format!(
                "the bundled restic in {} is not what was built in; somebody changes it",
                self.directory.display()
            ))
        })
    }

    fn path(&self) -> PathBuf {
        self.directory.join("restic-bundled")
    }

    /// `None` for anything but the very file.
    fn open_written(&self) -> Option<Program> {
        let path = self.path();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(&path, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let own = stat.st_uid == rustix::process::geteuid().as_raw();
        let private = stat.st_mode & 0o7777 == 0o700;
        let whole = u64::try_from(stat.st_size).ok() == u64::try_from(self.bytes.len()).ok();
        if !own || !private || !whole || binary::check(&stat).is_err() {
            return None;
        }
        let mut reader = File::from(file);
        if hash(&mut reader).ok()? != self.sha256 {
            return None;
        }
        Some(Program {
            file: reader.into(),
            path,
            identity: Identity::of(&stat),
        })
    }

    /// Writes it under another name and renames it, so that it is there whole or not at all.
    fn write(&self) -> io::Result<()> {
        if !self.directory.is_dir() {
            fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(&self.directory)?;
        }
        let draft = self.path().with_extension(std::process::id().to_string());
        remove_if_there(&draft)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&draft)?;
        file.write_all(self.bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&draft, self.path())?;
        File::open(&self.directory)?.sync_all()
    }
}

/// The program and its SHA-256, which the build compared with the one that was pinned.
#[cfg(feature = "bundled-restic")]
const BUILT_IN: Option<(&[u8], [u8; 32])> = include!(concat!(env!("OUT_DIR"), "/bundled.rs"));
#[cfg(not(feature = "bundled-restic"))]
const BUILT_IN: Option<(&[u8], [u8; 32])> = None;

impl fmt::Debug for BundledRestic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BundledRestic")
            .field("bytes", &self.bytes.len())
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn hash(reader: &mut impl Read) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(digest.finalize().into());
        }
        digest.update(buffer.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    type Spoil<'a> = &'a dyn Fn(&Path) -> io::Result<()>;

    fn bundled(directory: &Path) -> BundledRestic {
        let bytes = b"the program";
        BundledRestic {
            bytes,
            sha256: Sha256::digest(bytes).into(),
            directory: directory.to_owned(),
        }
    }

    fn content(program: Program) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::from(program.file).read_to_end(&mut bytes)?;
        fs::read(program.path)
    }

    /// G1
    #[test]
    fn what_was_swapped_linked_or_half_written_is_replaced()
    -> Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let elsewhere = place.path().join("elsewhere");
        let ways: [(&str, Spoil<'_>); 5] = [
            ("same size", &|path| fs::write(path, b"another one")),
            ("half", &|path| fs::write(path, b"the pro")),
            ("link", &|path| {
                fs::rename(path, &elsewhere)?;
                symlink(&elsewhere, path)
            }),
            ("writable by others", &|path| {
                fs::set_permissions(path, fs::Permissions::from_mode(0o722))
            }),
            ("gone", &|path| fs::remove_file(path)),
        ];
        for (how, spoil) in ways {
            let bundled = bundled(&place.path().join("bin"));
            bundled.open()?;

            spoil(&bundled.path())?;

            assert_eq!(content(bundled.open()?)?, b"the program", "{how}");
            assert_eq!(
                fs::symlink_metadata(bundled.path())?.permissions().mode(),
                0o100_700
            );
        }
        Ok(())
    }

    /// G1: what was built in can be run, where anything was.
    #[test]
    fn what_was_built_in_is_what_was_pinned() -> Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;

        let Some(bundled) = BundledRestic::built_in(place.path()) else {
            return Ok(());
        };

        assert_eq!(fs::read(bundled.open()?.path)?, bundled.bytes);
        Ok(())
    }

    /// G1
    #[test]
    fn bytes_that_are_not_those_that_were_pinned_are_never_run() -> io::Result<()> {
        let place = tempfile::tempdir()?;
        let wrong = BundledRestic {
            sha256: [0; 32],
            ..bundled(place.path())
        };

        assert!(matches!(wrong.open(), Err(EngineError::Unusable(_))));
        Ok(())
    }
}
