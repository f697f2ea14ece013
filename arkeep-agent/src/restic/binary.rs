//! Which restic is run, and the check that it is that one.
//!
//! A path is a name, and what it names may be swapped between a look and the use. The program is
//! therefore opened first, the open file is checked, and the open file is what is executed.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

use arkeep_core::engine::EngineError;
use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::bundled::BundledRestic;
use super::workdir::WorkDir;

/// Where restic comes from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BinarySource {
    /// It was built into this program.
    Bundled(BundledRestic),
    /// The machine's owner named it: `path` under `[restic]` in `agent.toml`.
    Configured(PathBuf),
    /// The first in these directories, written as `PATH` is. Relative ones are passed over.
    Path(OsString),
}

/// A program that was opened and checked.
#[derive(Debug)]
pub(super) struct Program {
    /// What is executed.
    pub(super) file: OwnedFd,
    /// What it was called when it was opened.
    pub(super) path: PathBuf,
    /// Changes when the file does.
    pub(super) identity: Identity,
}

/// Tells one file from another, and one content from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, i64),
}

impl Program {
    /// Makes a link to the open file, so that the process is called `restic` and not by the number
    /// of a descriptor.
    pub(super) fn link_in(&self, dir: &WorkDir) -> io::Result<PathBuf> {
        let link = dir.path().join("restic");
        let target = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        std::os::unix::fs::symlink(target, &link)?;
        Ok(link)
    }
}

impl BinarySource {
    /// The word for [`EngineInfo::source`](arkeep_core::engine::EngineInfo::source).
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Bundled(_) => "bundled",
            Self::Configured(_) => "configured",
            Self::Path(_) => "path",
        }
    }

    /// Opens the program and checks it.
    pub(super) fn open(&self) -> Result<Program, EngineError> {
        match self {
            Self::Bundled(bundled) => bundled.open(),
            Self::Configured(path) => open_checked(path),
            Self::Path(directories) => open_checked(&search(directories)?),
        }
    }
}

fn search(directories: &OsStr) -> Result<PathBuf, EngineError> {
    std::env::split_paths(directories)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("restic"))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            EngineError::Unusable(format!(
                "restic was not found in {}; {ADVICE}",
                directories.display()
            ))
        })
}

fn open_checked(path: &Path) -> Result<Program, EngineError> {
    let unusable = |why: &dyn std::fmt::Display| {
        EngineError::Unusable(format!(
            "{} cannot be used: {why}; {ADVICE}",
            path.display()
        ))
    };
    if !path.is_absolute() {
        return Err(unusable(&"the path is not absolute"));
    }
    // Links are followed here, once; from here on the name is nothing but a name.
    let real = fs::canonicalize(path).map_err(|error| unusable(&error))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&real, flags, Mode::empty())
        .map_err(|error| unusable(&io::Error::from(error)))?;
    let stat = rustix::fs::fstat(&file).map_err(|error| unusable(&io::Error::from(error)))?;
    check(&stat).map_err(|why| unusable(&why))?;
    Ok(Program {
        file,
        path: real,
        identity: Identity::of(&stat),
    })
}

/// Refuses what somebody else than root and this process's user could have put there.
pub(super) fn check(stat: &Stat) -> Result<(), &'static str> {
    let mode = Mode::from_raw_mode(stat.st_mode);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is not a regular file");
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user than root and the agent's");
    }
    if mode.intersects(Mode::WGRP | Mode::WOTH) {
        return Err("others than its owner can write to it");
    }
    if !mode.intersects(Mode::XUSR | Mode::XGRP | Mode::XOTH) {
        return Err("it is not executable");
    }
    Ok(())
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            changed: (
                stat.st_ctime,
                i64::try_from(stat.st_ctime_nsec).unwrap_or(0),
            ),
        }
    }
}

/// What to do when there is no usable restic.
pub(super) const ADVICE: &str = "install restic 0.14 or later (https://restic.net) so that root \
     owns it and nobody else can write to it, and name it with `path` under `[restic]` in \
     agent.toml if it is not in PATH";
