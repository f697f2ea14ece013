//! Files that are read without following a link and never seen half-written.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use secrecy::SecretSlice;

use crate::crash::crash_point;
use crate::secret::{ReadSecretError, read_secret};

/// What stands at a path, when it is not a file that can be read.
#[derive(Debug)]
pub(crate) enum ReadFault {
    Missing,
    SymbolicLink,
    NotAFile,
    TooLong,
    Io(io::Error),
}

/// A file's content, and what was known of the file when it was read.
pub(crate) struct Content {
    pub(crate) bytes: SecretSlice<u8>,
    pub(crate) mode: u32,
    pub(crate) stamp: Stamp,
}

/// Tells one file at a path from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::symlink_metadata(path)?))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// The file is judged through the descriptor it is read from, so nobody can swap it in between.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Content, ReadFault> {
    let mut file = OpenOptions::new()
        .read(true)
        // O_NONBLOCK, because opening a pipe would otherwise wait for somebody to write to it.
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)
        .map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => ReadFault::SymbolicLink,
            Some(Errno::NOENT) => ReadFault::Missing,
            _ => ReadFault::Io(error),
        })?;
    let metadata = file.metadata().map_err(ReadFault::Io)?;
    if !metadata.is_file() {
        return Err(ReadFault::NotAFile);
    }
    let bytes = read_secret(&mut file, limit).map_err(|error| match error {
        ReadSecretError::TooLong { .. } => ReadFault::TooLong,
        ReadSecretError::Io(source) => ReadFault::Io(source),
    })?;
    Ok(Content {
        bytes,
        mode: metadata.permissions().mode() & 0o7777,
        stamp: Stamp::from(&metadata),
    })
}

/// Makes a file of mode 0600 that appears whole or not at all, and only where nothing is.
///
/// Root makes it for whoever owns `like`, so that a command of an administrator leaves nothing
/// behind that the service cannot read.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`] when anything is at `path`, which is then untouched.
pub(crate) fn create_new(path: &Path, content: &[u8], like: &Path) -> io::Result<()> {
    let directory = Directory::of(path)?;
    let temporary = Temporary::write(path, content, |file| give(file, &fs::metadata(like)?))?;
    // Never two names for one key: a crash between making one and removing the other would leave
    // a copy that nobody knows of.
    match renameat_with(CWD, &temporary.path, CWD, path, RenameFlags::NOREPLACE) {
        // Not every file system can; a link, too, fails when the name is taken.
        Err(Errno::INVAL) => fs::hard_link(&temporary.path, path)?,
        moved => moved?,
    }
    crash_point!("file-linked");
    drop(temporary);
    directory.sync()
}

/// Puts a file of mode 0600 in the place of another, which is seen until the new one is whole.
///
/// It belongs to whom the other belonged; when that cannot be, nothing is replaced.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = Directory::of(path)?;
    let before = fs::symlink_metadata(path)?;
    let temporary = Temporary::write(path, content, |file| match file.metadata()?.uid() {
        user if user == before.uid() => Ok(()),
        _ => fchown(file, Some(before.uid()), Some(before.gid())),
    })?;
    fs::rename(&temporary.path, path)?;
    crash_point!("file-replaced");
    directory.sync()
}

/// Gives a file another name beside it, and makes that survive a power cut.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let directory = Directory::of(to)?;
    fs::rename(from, to)?;
    crash_point!("file-renamed");
    directory.sync()
}

/// Removes what writers of this file left beside it when they were killed.
///
/// Only for whoever keeps other writers away.
pub(crate) fn sweep(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Ok(());
    };
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        if is_temporary(&entry.file_name(), name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Keeps other processes, and other threads, from changing the file at `path`.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits ten seconds at most for whoever has it. The kernel takes it back when its holder ends, however it
    /// ends.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when somebody holds it for longer than any change takes.
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        Self::take_within(path, LONGEST_WAIT)
    }

    fn take_within(path: &Path, limit: Duration) -> io::Result<Self> {
        let at = beside(path, ".lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags(OFlags::NOFOLLOW))
            .open(&at)?;
        give(&file, &fs::metadata(directory(path))?)?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if waited >= limit => {
                    let text = format!(
                        "somebody holds {} for longer than {} s: end the program that does",
                        at.display(),
                        limit.as_secs()
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err(TryLockError::WouldBlock) => {
                    look_again_later();
                    waited += PAUSE;
                }
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "flock(2) waits for ever or not at all"
)]
fn look_again_later() {
    thread::sleep(PAUSE);
}

/// A change of the ring takes milliseconds; a passphrase makes it a second.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// The path with something added to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file beside its destination, removed unless it was moved there.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(
        destination: &Path,
        content: &[u8],
        give: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = temporary_prefix(destination.file_name().unwrap_or_default());
        name.push(format!("{:016x}{TEMPORARY}", u64::from_be_bytes(random)));
        let path = destination.with_file_name(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let temporary = Self { path };
        crash_point!("file-created");
        give(&file)?;
        let (first, second) = content.split_at(content.len() / 2);
        file.write_all(first)?;
        crash_point!("file-half-written");
        file.write_all(second)?;
        crash_point!("file-written");
        file.sync_all()?;
        crash_point!("file-synced");
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing here, and a leftover does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Lets the file belong to whoever owns something else, if this process may give it away.
fn give(file: &File, to: &Metadata) -> io::Result<()> {
    if file.metadata()?.uid() == to.uid() {
        return Ok(());
    }
    match fchown(file, Some(to.uid()), Some(to.gid())) {
        // Only root may; what anybody else makes is theirs.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

fn temporary_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    prefix
}

/// Whether a name is one that [`Temporary`] gives for a file of the other name.
fn is_temporary(name: &OsStr, destination: &OsStr) -> bool {
    let prefix = temporary_prefix(destination);
    let rest = name
        .as_encoded_bytes()
        .strip_prefix(prefix.as_encoded_bytes());
    let random = rest.and_then(|rest| rest.strip_suffix(TEMPORARY.as_bytes()));
    random.is_some_and(|random| random.len() == 16 && random.iter().all(u8::is_ascii_hexdigit))
}

const TEMPORARY: &str = ".tmp";

/// A directory, opened before its names change, so that only the disk can keep a change from being
/// made durable.
struct Directory(File);

impl Directory {
    fn of(path: &Path) -> io::Result<Self> {
        File::open(directory(path)).map(Self)
    }

    /// Makes a new name in it survive a power cut.
    fn sync(self) -> io::Result<()> {
        self.0.sync_all()?;
        crash_point!("directory-synced");
        Ok(())
    }
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// The directory of a path, which is the current one when the path is a bare name.
pub(crate) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn a_bare_name_lies_in_the_current_directory() {
        assert_eq!(directory(Path::new("vault.ring")), Path::new("."));
        assert_eq!(directory(Path::new("data/vault.ring")), Path::new("data"));
        assert_eq!(directory(Path::new("/vault.ring")), Path::new("/"));
    }

    /// V7: what a killed writer leaves behind may open an older copy of the ring.
    #[test]
    fn sweeping_removes_what_writers_left_and_nothing_else() -> TestResult {
        let place = tempfile::tempdir()?;
        let names = [
            (".vault.key.0123456789abcdef.tmp", true),
            (".vault.key.0123456789abcde.tmp", false),
            (".vault.key.0123456789abcdeg.tmp", false),
            (".vault.key.new.0123456789abcdef.tmp", false),
            (".vault.key.0123456789abcdef", false),
            ("vault.key.0123456789abcdef.tmp", false),
            ("vault.key", false),
        ];
        for (name, _) in names {
            fs::write(place.path().join(name), name)?;
        }

        sweep(&place.path().join("vault.key"))?;

        for (name, is_swept) in names {
            assert_eq!(!place.path().join(name).exists(), is_swept, "{name}");
        }
        Ok(())
    }

    #[test]
    fn a_lock_that_is_never_given_back_is_not_waited_for_for_ever() -> TestResult {
        let place = tempfile::tempdir()?;
        let path = place.path().join("vault.ring");
        let held = Lock::take(&path)?;

        let refused = Lock::take_within(&path, Duration::ZERO);

        let error = refused.err().ok_or("taken twice")?;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("vault.ring.lock"), "{error}");
        drop(held);
        assert!(Lock::take_within(&path, Duration::ZERO).is_ok());
        Ok(())
    }

    /// V7: an administrator's command leaves nothing that the service's own user cannot read.
    #[test]
    fn what_root_makes_belongs_to_the_service() -> TestResult {
        let place = tempfile::tempdir()?;
        let (path, key) = (place.path().join("ring"), place.path().join("key"));
        let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid());
        let root = owner(place.path())? == 0;
        if root {
            chown(place.path(), NOBODY)?;
        }
        let service = owner(place.path())?;

        create_new(&path, b"one", place.path())?;
        assert_eq!(owner(&path)?, service);
        drop(Lock::take(&path)?);
        assert_eq!(owner(&beside(&path, ".lock"))?, service);
        replace(&path, b"two")?;
        assert_eq!(owner(&path)?, service);
        create_new(&key, b"key", &path)?;
        assert_eq!(owner(&key)?, service);
        assert_eq!(fs::metadata(&path)?.mode() & 0o777, 0o600);
        assert_eq!(root, service == NOBODY, "root owns no file of the service");
        Ok(())
    }

    /// V7
    #[test]
    #[expect(clippy::disallowed_methods, reason = "another user is another process")]
    fn nobody_but_its_owner_and_root_replaces_a_file() -> TestResult {
        let (place, program) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let path = place.path().join("ring");
        if fs::metadata(place.path())?.uid() != 0 {
            return skip("only root can run a program as somebody else");
        }
        fs::write(&path, "root's")?;
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777))?;
        fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755))?;
        // Where cargo puts it, others may not look.
        let this = program.path().join("this");
        fs::copy(std::env::current_exe()?, &this)?;
        let mut child = Command::new(this);
        child.args(["--exact", "files::tests::part_of_nobody"]);
        child.env("ARKEEP_REPLACE", &path);
        std::os::unix::process::CommandExt::uid(&mut child, NOBODY);

        let output = child.output()?;

        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("1 passed"), "{text}");
        assert_eq!(fs::read(&path)?, b"root's");
        let left: Vec<_> = fs::read_dir(place.path())?.collect::<Result<_, _>>()?;
        assert_eq!(left.len(), 1, "{left:?}");
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the script that counts says where"
    )]
    fn skip(why: &str) -> TestResult {
        if let Some(list) = std::env::var_os("ARKEEP_SKIPPED") {
            let mut list = OpenOptions::new().append(true).open(list)?;
            writeln!(list, "files: {why}")?;
        }
        Ok(())
    }

    /// Not a test of its own: what runs as another user.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "only its starter knows the file")]
    fn part_of_nobody() {
        if let Some(path) = std::env::var_os("ARKEEP_REPLACE") {
            let refused = replace(Path::new(&path), b"nobody's");
            let kind = refused.map_err(|error| error.kind());
            assert_eq!(kind, Err(io::ErrorKind::PermissionDenied));
            // What it makes in root's directory is its own.
            let mine = Path::new(&path).with_file_name("mine");
            create_new(&mine, b"nobody's", directory(&mine)).unwrap();
            fs::remove_file(mine).unwrap();
        }
    }

    fn chown(path: &Path, user: u32) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(user), None)
    }

    const NOBODY: u32 = 65534;
}
