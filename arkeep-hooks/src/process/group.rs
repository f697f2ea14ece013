//! A cgroup for each hook: the one thing that a process cannot leave by forking.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A cgroup of version 2 below our own, with `cgroup.kill` (Linux 5.14).
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
    procs: File,
    kill: File,
}

impl Group {
    /// Makes a fresh one.
    pub(super) fn create() -> io::Result<Self> {
        let own = own_directory(
            &fs::read_to_string("/proc/self/mountinfo")?,
            &fs::read_to_string("/proc/self/cgroup")?,
        )
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup of version 2"))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = own.join(format!("arkeep-hook-{}-{number}", std::process::id()));
        fs::create_dir(&dir)?;
        Self::open(&dir).inspect_err(|_| {
            let _ = fs::remove_dir(&dir);
        })
    }

    fn open(dir: &Path) -> io::Result<Self> {
        let open = |name| OpenOptions::new().write(true).open(dir.join(name));
        Ok(Self {
            procs: open("cgroup.procs")?,
            kill: open("cgroup.kill")?,
            dir: dir.to_owned(),
        })
    }

    /// Writing `0` here moves the writer in.
    pub(super) fn procs(&self) -> &File {
        &self.procs
    }

    /// Writing `1` here kills every process in the group at once, also those being forked.
    pub(super) fn kill_file(&self) -> &File {
        &self.kill
    }

    pub(super) fn directory(&self) -> Option<CString> {
        CString::new(self.dir.as_os_str().as_bytes()).ok()
    }

    pub(super) fn kill(&self) {
        // It fails only when the warden has removed the group, which is empty then.
        let _ = (&self.kill).write_all(b"1");
    }

    /// Removes the group if the warden did not.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Where this process's own cgroup is mounted, if it is.
fn own_directory(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
    let own = Path::new(cgroup.lines().find_map(|line| line.strip_prefix("0::"))?);
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = left.split(' ').skip(3);
        let (root, mount) = (unescape(fields.next()?), unescape(fields.next()?));
        Some(Path::new(&mount).join(own.strip_prefix(&root).ok()?))
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
        own_directory(mountinfo, cgroup).map(|dir| dir.display().to_string())
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
    fn finds_none_where_there_is_none() {
        assert_eq!(
            directory("22 27 0:21 / /proc rw - proc proc rw", "0::/\n"),
            None
        );
        assert_eq!(directory("", "8:pids:/\n"), None);
    }
}
