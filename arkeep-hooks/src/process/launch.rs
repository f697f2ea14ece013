//! Everything a hook needs, made ready before the fork.
//!
//! After the fork there is no allocation: another thread of the agent may have held the
//! allocator's lock at that moment, and in the copy nobody will ever let go of it.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use super::Settings;
use super::account::Account;
use super::given;
use super::group::Group;
use super::kernel::ExecVectors;
use super::sandbox::Sandbox;
use crate::policy::ApprovedHook;
use crate::run::HookContext;

/// What the two processes behind the fork work from.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) exec: ExecVectors,
    pub(super) group: Option<GroupEnds>,
    pub(super) lifeline: OwnedFd,
    pub(super) status: OwnedFd,
    pub(super) account: Option<Account>,
    pub(super) sandbox: Sandbox,
    pub(super) processes: u64,
    pub(super) open_files: u64,
}

/// The cgroup as the two processes see it.
#[derive(Debug)]
pub(super) struct GroupEnds {
    pub(super) directory: OwnedFd,
    pub(super) procs: OwnedFd,
    pub(super) counter: Option<OwnedFd>,
    pub(super) kill: OwnedFd,
    pub(super) to_remove: Vec<CString>,
}

impl Launch {
    pub(super) fn prepare(
        settings: &Settings,
        hook: &ApprovedHook,
        context: &HookContext,
        group: Option<&Group>,
        sandbox: Sandbox,
        ends: (OwnedFd, OwnedFd),
    ) -> io::Result<Self> {
        Ok(Self {
            exec: given::vectors(settings, hook, context)?,
            group: group.map(GroupEnds::of).transpose()?,
            lifeline: ends.0,
            status: ends.1,
            account: settings.account.clone(),
            sandbox,
            processes: settings.limits.processes,
            open_files: settings.limits.open_files,
        })
    }
}

impl GroupEnds {
    fn of(group: &Group) -> io::Result<Self> {
        Ok(Self {
            directory: group.directory().try_clone()?.into(),
            procs: group.procs().try_clone()?.into(),
            counter: group
                .counter()
                .map(|file| file.try_clone())
                .transpose()?
                .map(Into::into),
            kill: group.kill_file().try_clone()?.into(),
            to_remove: group.directories().collect(),
        })
    }
}
