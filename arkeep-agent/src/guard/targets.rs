use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

/// Where files may be put back.
///
/// # Security
///
/// A target is judged by where it really is, and so is every link below it: restic follows a link
/// that is in its way, so a link that an earlier restore left behind would lead a later one out.
/// The judgement holds for as long as nothing else writes below the target: the executor runs one
/// restore at a time. Whoever can write below an allowed directory while a restore runs can still
/// redirect it, as far as the kernel does not confine restic; allow directories that only the agent's user can write to, and none that another
/// agent is allowed too.
#[derive(Debug, Clone, Default)]
pub struct RestoreTargets {
    allowed: Vec<PathBuf>,
}

/// A restore was refused before anything was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetRefused {
    /// The target is not an absolute path of plain components.
    #[error("the target must be an absolute path without `..`")]
    NotPlain,
    /// The target is in none of the allowed directories.
    #[error(
        "{} is not in `allowed_targets` under `[restore]` in the agent's own configuration; \
         add it there and restart the agent, or choose another target",
        .target.display()
    )]
    NotAllowed {
        /// Where the target really is.
        target: PathBuf,
    },
    /// Something below the target leads out of it.
    #[error(
        "{} is a link that leads out of the target; restore into an empty directory",
        .link.display()
    )]
    LeadsOut {
        /// The link.
        link: PathBuf,
    },
    /// The target holds more than can be looked through.
    #[error("the target holds too many files to look through; restore into an empty directory")]
    TooLarge,
    /// The target cannot be made or looked at.
    #[error("the target cannot be used: {0}")]
    Unusable(io::Error),
}

impl RestoreTargets {
    /// Allows these directories and all that is below them. `/` allows everything, also in place.
    #[must_use]
    pub fn new(allowed: Vec<PathBuf>) -> Self {
        Self { allowed }
    }

    /// Judges a target, makes it if it is not there, and answers with where it really is.
    ///
    /// # Errors
    ///
    /// [`TargetRefused`]: nothing may be restored. A directory of the target may have been made.
    pub fn prepare(&self, target: &str) -> Result<PathBuf, TargetRefused> {
        let target = Path::new(target);
        let plain = target.is_absolute()
            && target
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !plain {
            return Err(TargetRefused::NotPlain);
        }
        let (there, missing) = deepest(target)?;
        let real = missing
            .iter()
            .rev()
            .fold(there.clone(), |path, name| path.join(name));
        self.judge(&real)?;
        let mut path = there;
        for name in missing.iter().rev() {
            path.push(name);
            // Fails on anything that is there by now, also on a link.
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(TargetRefused::Unusable)?;
        }
        if real.canonicalize().map_err(TargetRefused::Unusable)? != real {
            return Err(TargetRefused::NotAllowed { target: real });
        }
        if real != Path::new("/") {
            Links::of(&real).look_through(&real)?;
        }
        Ok(real)
    }

    fn judge(&self, real: &Path) -> Result<(), TargetRefused> {
        let allowed = self.allowed.iter().any(|allowed| {
            let allowed = allowed.canonicalize().unwrap_or_else(|_| allowed.clone());
            real.starts_with(allowed)
        });
        if allowed {
            return Ok(());
        }
        Err(TargetRefused::NotAllowed {
            target: real.to_owned(),
        })
    }
}

/// The deepest part of the path that is there, really, and the names that are missing, last first.
fn deepest(path: &Path) -> Result<(PathBuf, Vec<std::ffi::OsString>), TargetRefused> {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        match fs::symlink_metadata(there) {
            Ok(_) => {
                // Also a link that leads nowhere ends here: it may lead somewhere later.
                let real = there.canonicalize().map_err(TargetRefused::Unusable)?;
                return Ok((real, missing));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(TargetRefused::Unusable(error)),
        }
        let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else {
            return Err(TargetRefused::NotPlain);
        };
        missing.push(name.to_owned());
        there = parent;
    }
}

/// Looks for links that lead out of a directory.
struct Links<'a> {
    root: &'a Path,
    left: usize,
}

impl<'a> Links<'a> {
    fn of(root: &'a Path) -> Self {
        Self {
            root,
            left: MOST_ENTRIES,
        }
    }

    fn look_through(mut self, directory: &Path) -> Result<(), TargetRefused> {
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).map_err(TargetRefused::Unusable)? {
                let entry = entry.map_err(TargetRefused::Unusable)?;
                self.left = self.left.checked_sub(1).ok_or(TargetRefused::TooLarge)?;
                let kind = entry.file_type().map_err(TargetRefused::Unusable)?;
                let path = entry.path();
                if kind.is_dir() {
                    directories.push(path);
                } else if kind.is_symlink() && !self.stays_inside(&path) {
                    return Err(TargetRefused::LeadsOut { link: path });
                }
            }
        }
        Ok(())
    }

    /// A link that leads nowhere may lead out: a file would be made at its end.
    fn stays_inside(&self, link: &Path) -> bool {
        link.canonicalize()
            .is_ok_and(|end| end.starts_with(self.root))
    }
}

const MOST_ENTRIES: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Place {
        _home: tempfile::TempDir,
        home: PathBuf,
        targets: RestoreTargets,
    }

    fn place() -> io::Result<Place> {
        let held = tempfile::tempdir()?;
        let home = held.path().canonicalize()?;
        fs::create_dir(home.join("allowed"))?;
        fs::create_dir(home.join("other"))?;
        let targets = RestoreTargets::new(vec![home.join("allowed")]);
        Ok(Place {
            _home: held,
            home,
            targets,
        })
    }

    impl Place {
        fn prepare(&self, path: &str) -> Result<PathBuf, TargetRefused> {
            let target = format!("{}/{path}", self.home.display());
            self.targets.prepare(&target)
        }
    }

    /// G12
    #[test]
    fn a_target_in_an_allowed_directory_is_made() -> Result<(), Box<dyn Error>> {
        let place = place()?;

        let target = place.prepare("allowed/a/b")?;

        assert_eq!(target, place.home.join("allowed/a/b"));
        assert!(target.is_dir());
        Ok(())
    }

    /// G12
    #[test]
    fn nothing_is_allowed_unless_it_is_listed() -> Result<(), Box<dyn Error>> {
        let place = place()?;

        for path in ["other", "other/new", "allowed2", ""] {
            let refused = place.prepare(path);
            assert!(
                matches!(refused, Err(TargetRefused::NotAllowed { .. })),
                "{path}"
            );
        }
        assert!(RestoreTargets::default().prepare("/").is_err());
        assert!(!place.home.join("allowed2").exists());
        Ok(())
    }

    /// G12
    #[test]
    fn parents_and_relative_paths_are_refused() -> Result<(), Box<dyn Error>> {
        let place = place()?;

        assert!(matches!(
            place.prepare("allowed/../other"),
            Err(TargetRefused::NotPlain)
        ));
        for target in ["", "allowed", "./allowed"] {
            let refused = place.targets.prepare(target);
            assert!(matches!(refused, Err(TargetRefused::NotPlain)), "{target}");
        }
        Ok(())
    }

    /// G12
    #[test]
    fn a_link_does_not_lead_out() -> Result<(), Box<dyn Error>> {
        let place = place()?;
        symlink(place.home.join("other"), place.home.join("allowed/out"))?;
        symlink(place.home.join("later"), place.home.join("allowed/nowhere"))?;

        for path in [
            "allowed/out",
            "allowed/out/new",
            "allowed/nowhere",
            "allowed/nowhere/new",
        ] {
            assert!(place.prepare(path).is_err(), "{path}");
        }
        assert!(!place.home.join("other/new").exists());
        assert!(!place.home.join("later").exists());
        Ok(())
    }

    /// G12: restic writes through a link that an earlier restore put there.
    #[test]
    fn a_link_below_the_target_does_not_lead_out_either() -> Result<(), Box<dyn Error>> {
        let place = place()?;
        fs::create_dir_all(place.home.join("allowed/t/deep"))?;
        symlink("deep", place.home.join("allowed/t/inside"))?;
        assert!(place.prepare("allowed/t").is_ok());

        symlink(
            place.home.join("other"),
            place.home.join("allowed/t/deep/out"),
        )?;

        assert!(matches!(
            place.prepare("allowed/t"),
            Err(TargetRefused::LeadsOut { .. })
        ));
        Ok(())
    }

    /// G12
    #[test]
    fn in_place_needs_the_root_to_be_listed() -> Result<(), Box<dyn Error>> {
        assert!(place()?.targets.prepare("/").is_err());
        assert_eq!(
            RestoreTargets::new(vec!["/".into()]).prepare("/")?,
            Path::new("/")
        );
        Ok(())
    }
}
