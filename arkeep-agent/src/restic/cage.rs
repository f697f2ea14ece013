//! Keeping a restore below its target.
//!
//! restic follows links, and whoever can write below a target while a restore runs can put one in
//! its way. Where the kernel has Landlock, a restic that restores can therefore make, write,
//! remove and rename nothing but below the target, in its own directories, and in a repository on
//! this machine. What the kernel does not confine that way stays open: modes, owners and times of
//! files that are there.

use std::fs::{self, DirBuilder};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use arkeep_core::engine::EngineError;
use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, path_beneath_rules,
};
use rustix::fs::{Mode, OFlags};

use crate::paths::plain;

/// A target that is there, held open, so that another directory under its name is another one.
#[derive(Debug)]
pub(super) struct Target(OwnedFd);

impl Target {
    /// Makes the directory if it is not there, and opens it.
    ///
    /// Refuses one that is reached through a link: what it is judged by is its name.
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        let failed = |error: std::io::Error| {
            EngineError::Failed(format!("{} cannot be used: {error}", path.display()))
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let real = fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd())).map_err(failed)?;
        if real != plain(path) {
            return Err(EngineError::Refused(format!(
                "{} leads to {}; name where it really is",
                path.display(),
                real.display()
            )));
        }
        Ok(Self(open))
    }

    /// The rules for a process that writes here and in these places alone; nothing where the
    /// kernel has none.
    pub(super) fn alone_with(&self, places: &[PathBuf]) -> Option<OwnedFd> {
        let rules = self.rules(places).inspect_err(|error| {
            tracing::debug!(%error, "a restore is not confined to its target");
        });
        rules.ok().flatten()
    }

    fn rules(&self, places: &[PathBuf]) -> Result<Option<OwnedFd>, RulesetError> {
        let writing = AccessFs::from_write(ABI::V3);
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_write(ABI::V2))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(writing)?
            .create()?
            .add_rule(PathBeneath::new(&self.0, writing))?
            .add_rules(path_beneath_rules(places, writing))?;
        Ok(rules.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G12
    #[test]
    fn a_target_behind_a_link_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let home = tempfile::tempdir()?;
        let home = home.path().canonicalize()?;
        std::os::unix::fs::symlink("real", home.join("link"))?;

        assert!(Target::open(&home.join("real/deep")).is_ok());
        for path in ["link", "link/deep"] {
            assert!(Target::open(&home.join(path)).is_err(), "{path}");
        }
        assert!(Target::open(&home.join("real/deep/")).is_ok());
        Ok(())
    }
}
