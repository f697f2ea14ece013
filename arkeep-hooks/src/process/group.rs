//! A cgroup for each hook: the one thing that a process cannot leave by forking.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A fresh cgroup below our own: one of version 2, to kill what is in it (`cgroup.kill`, Linux
/// 5.14), and where that cannot count processes, one of version 1 that can.
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
    directory: File,
    procs: File,
    kill: File,
    counter: Option<Counter>,
    /// Whether the number of processes is bounded.
    bounded: bool,
}

/// A cgroup of version 1 with the controller `pids`.
#[derive(Debug)]
struct Counter {
    dir: PathBuf,
    procs: File,
}

impl Group {
    /// Makes a fresh one for so many processes.
    pub(super) fn create(processes: u64) -> io::Result<Self> {
        let cgroups = fs::read_to_string("/proc/self/cgroup")?;
        let own = own_directory(&fs::read_to_string(MOUNTS)?, &cgroups, "cgroup2", "")
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup of version 2"))?;
        let dir = fresh(&own)?;
        let open = |name| OpenOptions::new().write(true).open(dir.join(name));
        let files =
            File::open(&dir).and_then(|dir| Ok((dir, open("cgroup.procs")?, open("cgroup.kill")?)));
        let (directory, procs, kill) = files.inspect_err(|_| {
            let _ = fs::remove_dir(&dir);
        })?;
        // It counts the threads of a delegated group; a group that is not ours to change says no.
        let _ = fs::write(own.join("cgroup.subtree_control"), "+pids");
        let mut bounded = fs::write(dir.join("pids.max"), processes.to_string()).is_ok();
        let counter = if bounded {
            None
        } else {
            Counter::create(processes, &cgroups).ok()
        };
        bounded |= counter.is_some();
        Ok(Self {
            dir,
            directory,
            procs,
            kill,
            counter,
            bounded,
        })
    }

    /// Whether the number of processes in it is bounded.
    pub(super) fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// The directory, for a child to be born into.
    pub(super) fn directory(&self) -> &File {
        &self.directory
    }

    /// Writing `0` here moves the writer in.
    pub(super) fn procs(&self) -> &File {
        &self.procs
    }

    /// The same for the group that counts, where that is another.
    pub(super) fn counter(&self) -> Option<&File> {
        self.counter.as_ref().map(|counter| &counter.procs)
    }

    /// Writing `1` here kills every process in the group at once, also those being forked.
    pub(super) fn kill_file(&self) -> &File {
        &self.kill
    }

    pub(super) fn directories(&self) -> impl Iterator<Item = CString> {
        std::iter::once(&self.dir)
            .chain(self.counter.as_ref().map(|counter| &counter.dir))
            .filter_map(|dir| CString::new(dir.as_os_str().as_bytes()).ok())
    }

    pub(super) fn kill(&self) {
        // It fails only when the warden has removed the group, which is empty then.
        let _ = (&self.kill).write_all(b"1");
    }

    /// Removes the group if the warden did not.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir(&self.dir);
        if let Some(counter) = &self.counter {
            let _ = fs::remove_dir(&counter.dir);
        }
    }
}

impl Counter {
    fn create(processes: u64, cgroups: &str) -> io::Result<Self> {
        let own = own_directory(&fs::read_to_string(MOUNTS)?, cgroups, "cgroup", "pids")
            .ok_or(io::ErrorKind::NotFound)?;
        let dir = fresh(&own)?;
        let procs = fs::write(dir.join("pids.max"), processes.to_string())
            .and_then(|()| {
                OpenOptions::new()
                    .write(true)
                    .open(dir.join("cgroup.procs"))
            })
            .inspect_err(|_| {
                let _ = fs::remove_dir(&dir);
            })?;
        Ok(Self { dir, procs })
    }
}

fn fresh(own: &Path) -> io::Result<PathBuf> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = own.join(format!("arkeep-hook-{}-{number}", std::process::id()));
    fs::create_dir(&dir)?;
    Ok(dir)
}

/// Where file systems of a kind are mounted.
pub(super) fn mounts_of(kind: &str) -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string(MOUNTS).unwrap_or_default();
    mountinfo
        .lines()
        .filter_map(mount_fields)
        .filter(|mount| mount.kind == kind)
        .map(|mount| mount.point)
        .collect()
}

static NEXT: AtomicU64 = AtomicU64::new(0);

const MOUNTS: &str = "/proc/self/mountinfo";

struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

fn mount_fields(line: &str) -> Option<Mount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (unescape(left.next()?).into(), unescape(left.next()?).into());
    let mut right = right.split(' ');
    let kind = right.next()?;
    Some(Mount {
        root,
        point,
        kind,
        options: right.nth(1)?,
    })
}

/// Where this process's own cgroup of a hierarchy is mounted, if it is. The controller is empty
/// for version 2.
fn own_directory(mountinfo: &str, cgroup: &str, kind: &str, controller: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        fields
            .next()?
            .split(',')
            .any(|name| name == controller)
            .then(|| fields.next())?
    })?;
    mountinfo
        .lines()
        .filter_map(mount_fields)
        .find_map(|mount| {
            let has = controller.is_empty() || mount.options.split(',').any(|it| it == controller);
            if mount.kind != kind || !has {
                return None;
            }
            Some(
                mount
                    .point
                    .join(Path::new(own).strip_prefix(&mount.root).ok()?),
            )
        })
}

/// Undoes the octal escapes of `/proc/self/mountinfo`.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |field, (escape, plain)| {
        field.replace(escape, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(mountinfo: &str, cgroup: &str) -> Option<String> {
        own_directory(mountinfo, cgroup, "cgroup2", "").map(|dir| dir.display().to_string())
    }

    /// H8
    #[test]
    fn finds_its_directory_in_each_layout() {
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let service = "0::/system.slice/arkeep-agent.service\n";
        assert_eq!(
            directory(unified, service).as_deref(),
            Some("/sys/fs/cgroup/system.slice/arkeep-agent.service")
        );

        let hybrid = "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(
            directory(hybrid, "8:pids:/a\n0::/\n").as_deref(),
            Some("/sys/fs/cgroup/unified/")
        );

        let container = "29 23 0:26 /docker/1f /sys/fs/cgroup ro - cgroup2 cgroup ro";
        assert_eq!(
            directory(container, "0::/docker/1f\n").as_deref(),
            Some("/sys/fs/cgroup/")
        );
    }

    /// H8
    #[test]
    fn finds_the_counter_of_version_1() {
        let mounts = "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd";
        let cgroup = "9:name=systemd:/\n8:cpu,pids:/a/b\n0::/\n";

        assert_eq!(
            own_directory(mounts, cgroup, "cgroup", "pids"),
            Some(PathBuf::from("/sys/fs/cgroup/pids/a/b"))
        );
        assert_eq!(own_directory(mounts, cgroup, "cgroup", "memory"), None);
    }

    /// H8
    #[test]
    fn finds_none_where_there_is_none() {
        assert_eq!(
            directory("22 27 0:21 / /proc rw - proc proc rw", "0::/\n"),
            None
        );
        assert_eq!(directory("", "8:pids:/\n"), None);
    }
}
