//! The last steps of the hook before its program starts: it gives up, one by one, what it will not
//! need.
//!
//! Like [`warden`](super::warden) this runs behind the fork and keeps the rule of [`kernel`]: calls
//! to the kernel, and nothing that allocates.

use std::io;

use rustix::fs::Mode;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount,
};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, chdir, getppid, set_parent_process_death_signal, setrlimit,
    setsid, umask,
};
use rustix::thread::{
    CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::kernel;
use super::launch::Launch;
use super::record::{Layer, Record, Step};
use super::sandbox::{Mounts, Privileges};
use super::warden::tell;

/// Makes this process what the hook may be. The order matters: root's work first, then the change
/// of user, then what nobody can take back.
pub(super) fn enter(
    launch: &Launch,
    warden: Pid,
    in_cgroup: bool,
) -> Result<(), (Step, io::Error)> {
    let sandbox = &launch.sandbox;
    join_group(launch, in_cgroup).map_err(|error| (Step::Group, error))?;
    set_limits(launch).map_err(|error| (Step::Limits, error))?;
    if let Some(mounts) = &sandbox.mounts {
        layer(launch, Layer::Mounts, hide(mounts))?;
    }
    if sandbox.privileges == Privileges::Root {
        layer(launch, Layer::Capabilities, bound_capabilities())?;
    }
    switch_user(launch).map_err(|error| (Step::User, error))?;
    let dropped = match sandbox.privileges {
        Privileges::None => Ok(()),
        Privileges::Some => drop_capabilities(CapabilitySet::all()),
        Privileges::Root => drop_capabilities(GIVEN_UP),
    };
    layer(launch, Layer::Capabilities, dropped)?;
    isolate(warden).map_err(|error| (Step::Session, error))?;
    kernel::close_on_exec_from_3().map_err(|error| (Step::Descriptors, error))?;
    if let Some(ruleset) = &sandbox.landlock {
        layer(launch, Layer::Landlock, kernel::restrict_by(ruleset))?;
    }
    if let Some(filter) = &sandbox.filter {
        let filtered = seccompiler::apply_filter(filter).map_err(|_| io::ErrorKind::Other.into());
        layer(launch, Layer::Filter, filtered)?;
    }
    Ok(())
}

/// A layer that fails is said, or ends it where all layers are required.
fn layer(launch: &Launch, layer: Layer, result: io::Result<()>) -> Result<(), (Step, io::Error)> {
    let Err(error) = result else { return Ok(()) };
    tell(launch, Record::Lacking(layer));
    if launch.sandbox.required {
        Err((Step::Sandbox, error))
    } else {
        Ok(())
    }
}

fn join_group(launch: &Launch, in_cgroup: bool) -> io::Result<()> {
    let Some(group) = &launch.group else {
        return Ok(());
    };
    let procs = (!in_cgroup).then_some(&group.procs);
    for procs in procs.into_iter().chain(&group.counter) {
        rustix::io::write(procs, b"0")?;
    }
    Ok(())
}

fn set_limits(launch: &Launch) -> io::Result<()> {
    for (resource, most) in [
        (Resource::Core, 0),
        (Resource::Nofile, launch.open_files),
        (Resource::Nproc, launch.processes),
    ] {
        let hard = rustix::process::getrlimit(resource)
            .maximum
            .unwrap_or(u64::MAX);
        let most = Some(most.min(hard));
        setrlimit(
            resource,
            Rlimit {
                current: most,
                maximum: most,
            },
        )?;
    }
    Ok(())
}

/// Puts nothing over the hidden paths, and makes the cgroups read-only, in a mount namespace of
/// the hook's own. What the host mounts later still arrives there.
fn hide(mounts: &Mounts) -> io::Result<()> {
    kernel::own_mounts()?;
    mount_change(
        c"/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for path in &mounts.empty_directories {
        let flags = inert | MountFlags::RDONLY;
        mount(c"none", &**path, c"tmpfs", flags, c"size=4k,mode=000")?;
    }
    for path in &mounts.empty_files {
        mount_bind(c"/dev/null", &**path)?;
    }
    for path in &mounts.processes {
        // Linux gives the memory map and the environment of any process to whoever has
        // CAP_SYS_ADMIN, which a hook of root needs to freeze a file system. So the hook sees its
        // own processes only (Linux 5.8; older kernels refuse the option).
        mount(c"proc", &**path, c"proc", inert, c"hidepid=ptraceable")?;
    }
    for path in &mounts.read_only {
        mount_remount(&**path, inert | MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

/// Takes from root's set, also for programs that are executed later.
fn bound_capabilities() -> io::Result<()> {
    for capability in GIVEN_UP.iter() {
        // Kernels that do not know one do not have it.
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn drop_capabilities(given_up: CapabilitySet) -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective.remove(given_up);
    sets.permitted.remove(given_up);
    sets.inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, sets)?)
}

fn switch_user(launch: &Launch) -> io::Result<()> {
    if let Some(account) = &launch.account {
        set_thread_groups(&account.groups)?;
        set_thread_res_gid(account.gid, account.gid, account.gid)?;
        set_thread_res_uid(account.uid, account.uid, account.uid)?;
    }
    Ok(())
}

fn isolate(warden: Pid) -> io::Result<()> {
    setsid()?;
    umask(Mode::RWXG | Mode::RWXO);
    chdir(c"/")?;
    set_no_new_privs(true)?;
    // After the change of user, which clears it. A warden that died before this call is noticed
    // by the second.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(warden) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    kernel::block_signals(false)
}

/// What a hook of root does without: with these it would read the memory and the files of other
/// processes, the agent's among them, or change the kernel under the other layers.
const GIVEN_UP: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::SYS_MODULE)
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::MAC_OVERRIDE)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::CHECKPOINT_RESTORE)
    .union(CapabilitySet::SETPCAP);
