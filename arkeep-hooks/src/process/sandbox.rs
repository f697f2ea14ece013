//! What stands between a hook and the machine, made ready before the fork.
//!
//! | layer        | takes away                                            | needs               |
//! |--------------|-------------------------------------------------------|---------------------|
//! | mounts       | the hidden directories; `/proc` of other processes; writing to cgroups | `CAP_SYS_ADMIN` |
//! | capabilities | other processes' memory and files, kernel modules     | root (else it has none) |
//! | Landlock     | other processes' memory; without mounts, the hidden directories | Linux 5.19 |
//! | system calls | `ptrace`, mounts, keys, BPF and their kin             | seccomp             |
//!
//! A layer that cannot be had is said in the report, or refuses the hook where the configuration
//! requires all of them.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope, path_beneath_rules,
};
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};
use seccompiler::BpfProgram;

use super::filter;
use super::group::mounts_of;
use super::record::Layer;

/// The layers, as far as this machine has them.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) mounts: Option<Mounts>,
    pub(super) privileges: Privileges,
    pub(super) landlock: Option<OwnedFd>,
    pub(super) filter: Option<BpfProgram>,
    /// Whether a layer that fails after the fork refuses the hook.
    pub(super) required: bool,
    /// What is known to be missing already.
    pub(super) lacking: Vec<String>,
}

/// What the agent may do that others may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privileges {
    /// Nothing.
    None,
    /// Some capabilities, given to it by its service manager. A hook gets none of them.
    Some,
    /// Everything. A hook of root keeps what it takes to freeze a file system or stop a service.
    Root,
}

/// What is mounted over what.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) empty_directories: Vec<CString>,
    pub(super) empty_files: Vec<CString>,
    pub(super) read_only: Vec<CString>,
    pub(super) processes: Vec<CString>,
}

impl Sandbox {
    /// What is ready, by name.
    pub(super) fn layers(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.mounts.is_some(), Layer::Mounts),
            (self.privileges != Privileges::None, Layer::Capabilities),
            (self.landlock.is_some(), Layer::Landlock),
            (self.filter.is_some(), Layer::Filter),
        ]
        .into_iter()
        .filter(|(ready, _)| *ready)
        .map(|(_, layer)| layer.name())
    }

    pub(super) fn prepare(hidden: &[PathBuf], required: bool) -> Self {
        let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
        let privileges = match (geteuid().is_root(), held.is_empty()) {
            (true, _) => Privileges::Root,
            (false, false) => Privileges::Some,
            (false, true) => Privileges::None,
        };
        let hidden: Vec<PathBuf> = hidden
            .iter()
            .filter_map(|path| fs::canonicalize(path).ok())
            .collect();
        let mut lacking = Vec::new();
        let mounts = held
            .contains(CapabilitySet::SYS_ADMIN)
            .then(|| Mounts::over(&hidden));
        let landlock = match &mounts {
            Some(_) => against_ptrace(),
            None => around(&hidden),
        };
        let landlock = landlock
            .inspect_err(|error| {
                lacking.push(if mounts.is_some() {
                    format!("Landlock: {error}")
                } else {
                    format!("Landlock, and so nothing hides the agent's files: {error}")
                });
            })
            .ok()
            .and_then(Option::<OwnedFd>::from);
        let filter = filter::program()
            .inspect_err(|error| lacking.push(format!("system call filter: {error}")))
            .ok();
        Self {
            mounts,
            privileges,
            landlock,
            filter,
            required,
            lacking,
        }
    }
}

impl Mounts {
    fn over(hidden: &[PathBuf]) -> Self {
        let mut mounts = Self::default();
        for path in hidden {
            let Ok(target) = CString::new(path.as_os_str().as_bytes()) else {
                continue;
            };
            if path.is_dir() {
                mounts.empty_directories.push(target);
            } else {
                mounts.empty_files.push(target);
            }
        }
        // A hook of root could move itself into another cgroup.
        mounts.read_only = points(&["cgroup", "cgroup2"]);
        mounts.processes = points(&["proc"]);
        mounts
    }
}

fn points(kinds: &[&str]) -> Vec<CString> {
    kinds
        .iter()
        .flat_map(|kind| mounts_of(kind))
        .filter_map(|path| CString::new(path.as_os_str().as_bytes()).ok())
        .collect()
}

/// Any Landlock domain keeps its processes from the memory of others. This one takes nothing else
/// away: moving files between directories, which every domain refuses unless told, is allowed.
fn against_ptrace() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::Refer))
}

/// Allows everything but the way to the hidden paths. Landlock has no "all but", so what lies
/// beside the way is listed.
fn around(hidden: &[PathBuf]) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(ABI::V5);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V2))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        // Nothing but this keeps a hook of the agent's own user from killing agent and warden.
        .scope(Scope::Signal)?
        .create()?;
    ruleset = ruleset.add_rules(path_beneath_rules(beside(hidden), all))?;
    Ok(ruleset)
}

/// Everything that lies beside the ways to these paths, and no symbolic link: what one points to
/// is listed under its own name, or not.
fn beside(hidden: &[PathBuf]) -> Vec<PathBuf> {
    let mut open = vec![PathBuf::from("/")];
    let mut beside = Vec::new();
    while let Some(dir) = open.pop() {
        if !hidden.iter().any(|path| path.starts_with(&dir)) {
            beside.push(dir);
        } else if !hidden.contains(&dir) {
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            open.extend(
                entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
                    .map(|entry| entry.path()),
            );
        }
    }
    beside
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// H7
    #[test]
    fn lists_what_is_beside_the_hidden_paths_and_nothing_on_the_way()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let root = fs::canonicalize(dir.path())?;
        for path in ["a/b/secret/key", "a/b/other", "a/c", "d"] {
            fs::create_dir_all(root.join(path))?;
        }
        std::os::unix::fs::symlink("b/secret", root.join("a/link"))?;

        let mut below: Vec<_> = beside(&[root.join("a/b/secret")])
            .into_iter()
            .filter_map(|path| path.strip_prefix(&root).ok().map(Path::to_owned))
            .collect();
        below.sort();

        assert_eq!(below, ["a/b/other", "a/c", "d"].map(PathBuf::from));
        Ok(())
    }
}
