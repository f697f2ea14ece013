//! A tree of awkward files, and a comparison that misses nothing restic promises to keep.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use arkeep_core::Entropy;
use arkeep_core::testing::SeededEntropy;

/// How large a tree to make.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Ordinary small files.
    pub small_files: u32,
    /// Large files.
    pub large_files: u32,
    /// Bytes of each large file.
    pub large_bytes: u64,
}

impl Shape {
    /// About a thousand files, among them some of 100 MB.
    pub const QUICKSTART: Self = Self {
        small_files: 960,
        large_files: 2,
        large_bytes: 100_000_000,
    };
    /// The same kinds of files, quickly.
    pub const SMALL: Self = Self {
        small_files: 40,
        large_files: 1,
        large_bytes: 300_000,
    };
}

/// Makes the tree below `root`, which must not exist.
///
/// # Errors
///
/// When the disk refuses.
pub fn make(root: &Path, shape: Shape) -> io::Result<()> {
    let entropy = SeededEntropy::new(20_261_123);
    fs::create_dir_all(root)?;

    for number in 0..shape.small_files {
        let directory = root.join(format!("d{:02}", number % 31));
        fs::create_dir_all(&directory)?;
        let mut content = vec![0; (number as usize * 37) % 9_000];
        entropy.fill(&mut content);
        fs::write(directory.join(format!("file-{number:04}")), content)?;
    }

    let odd = root.join("odd names");
    fs::create_dir_all(&odd)?;
    let names: [&[u8]; 12] = [
        b"with space",
        b" leading and trailing ",
        b"-leading-dash",
        b"--password-command=true",
        b"new\nline",
        b"tab\tand\rreturn",
        b"not \xff\xfe utf-8",
        "ünïcödé ☃".as_bytes(),
        b"quote ' double \" back \\ slash",
        b"$(dollar) `tick` *star* [set]",
        b"...",
        b"empty",
    ];
    for name in names {
        let content: &[u8] = if name == b"empty" { b"" } else { name };
        fs::write(odd.join(OsStr::from_bytes(name)), content)?;
    }
    fs::create_dir_all(odd.join(OsString::from_vec(b"directory \xf0 with\n line".to_vec())))?;
    fs::create_dir_all(root.join("empty directory"))?;

    let links = root.join("links");
    fs::create_dir_all(&links)?;
    symlink("../odd names/with space", links.join("relative"))?;
    symlink("/nonexistent/target", links.join("dangling"))?;
    // Not one whose target is no UTF-8: restic 0.14 keeps targets as text, and replaces such bytes.
    symlink("ünïcödé ☃ and spaces", links.join("odd target"))?;
    symlink("..", links.join("to a directory"))?;
    fs::write(links.join("first name"), "two names, one file")?;
    fs::hard_link(links.join("first name"), links.join("second name"))?;

    for number in 0..shape.large_files {
        write_large(
            &root.join(format!("large-{number}")),
            shape.large_bytes,
            &entropy,
        )?;
    }
    let mut sparse = File::create(root.join("sparse"))?;
    sparse.write_all(b"beginning")?;
    sparse.seek(SeekFrom::Start(shape.large_bytes))?;
    sparse.write_all(b"end")?;

    set_modes_and_times(root)
}

fn write_large(path: &Path, bytes: u64, entropy: &SeededEntropy) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut block = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        entropy.fill(&mut block);
        let some = left.min(block.len() as u64);
        file.write_all(block.get(..some as usize).unwrap_or_default())?;
        left -= some;
    }
    Ok(())
}

fn set_modes_and_times(root: &Path) -> io::Result<()> {
    let modes = [0o644, 0o600, 0o755, 0o444, 0o640];
    // Deepest first: setting anything in a directory would touch the directory's own time.
    for (number, (path, metadata)) in walk(root)?.into_iter().rev().enumerate() {
        let path = root.join(path);
        if metadata.is_symlink() {
            continue;
        }
        let moment = SystemTime::UNIX_EPOCH
            + Duration::new(1_000_000_000 + number as u64 * 86_399, 123_456_789);
        File::open(&path)?.set_times(FileTimes::new().set_modified(moment))?;
        if metadata.is_file() {
            let mode = modes.get(number % modes.len()).copied().unwrap_or(0o644);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

fn walk(root: &Path) -> io::Result<BTreeMap<PathBuf, Metadata>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let metadata = fs::symlink_metadata(root.join(&path))?;
            if metadata.is_dir() {
                waiting.push(path.clone());
            }
            found.insert(path, metadata);
        }
    }
    Ok(found)
}

/// What a comparison looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Compares two trees: names, kinds, every byte, modes, owners, modification times and targets of
/// links.
///
/// # Errors
///
/// When a file cannot be read. Differences are no error: they are the second part of the answer,
/// one line each, at most a hundred.
pub fn compare(original: &Path, restored: &Path) -> io::Result<(Compared, Vec<String>)> {
    let left = walk(original)?;
    let right = walk(restored)?;
    let mut compared = Compared::default();
    let mut differences = Vec::new();
    for path in right.keys().filter(|path| !left.contains_key(*path)) {
        differences.push(format!("{}: only in the restored tree", path.display()));
    }
    for (path, was) in &left {
        let Some(is) = right.get(path) else {
            differences.push(format!("{}: missing", path.display()));
            continue;
        };
        compared.entries += 1;
        for difference in differ(&original.join(path), was, &restored.join(path), is)? {
            differences.push(format!("{}: {difference}", path.display()));
        }
        if was.is_file() {
            compared.bytes += was.len();
        }
    }
    differences.truncate(100);
    Ok((compared, differences))
}

fn differ(
    left: &Path,
    was: &Metadata,
    right: &Path,
    is: &Metadata,
) -> io::Result<Vec<&'static str>> {
    if was.file_type() != is.file_type() {
        return Ok(vec!["another kind of file"]);
    }
    let mut differences = Vec::new();
    if was.is_symlink() {
        if fs::read_link(left)? != fs::read_link(right)? {
            differences.push("another target");
        }
    } else {
        if was.mode() != is.mode() {
            differences.push("another mode");
        }
        if (was.mtime(), was.mtime_nsec()) != (is.mtime(), is.mtime_nsec()) {
            differences.push("another modification time");
        }
    }
    if (was.uid(), was.gid()) != (is.uid(), is.gid()) {
        differences.push("another owner");
    }
    if was.is_file() && (was.len() != is.len() || !same_bytes(left, right)?) {
        differences.push("other bytes");
    }
    Ok(differences)
}

fn same_bytes(left: &Path, right: &Path) -> io::Result<bool> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = left.read(&mut a)?;
        if read == 0 {
            return Ok(right.read(&mut b)? == 0);
        }
        let (Some(a), Some(b)) = (a.get(..read), b.get_mut(..read)) else {
            return Ok(false);
        };
        if right.read_exact(b).is_err() || a != b {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_equals_itself() -> io::Result<()> {
        let scratch = tempfile::tempdir()?;
        let root = scratch.path().join("tree");
        make(&root, Shape::SMALL)?;

        let (compared, differences) = compare(&root, &root)?;

        assert_eq!(differences, Vec::<String>::new());
        assert!(compared.entries > 60, "{compared:?}");
        assert!(compared.bytes > Shape::SMALL.large_bytes, "{compared:?}");
        Ok(())
    }

    #[test]
    fn every_kind_of_change_is_seen() -> io::Result<()> {
        let scratch = tempfile::tempdir()?;
        let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
        make(&one, Shape::SMALL)?;
        make(&other, Shape::SMALL)?;
        let far = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);

        let mut large = File::options().write(true).open(other.join("large-0"))?;
        large.seek(SeekFrom::Start(299_999))?;
        large.write_all(b"x")?;
        fs::remove_file(other.join("links/dangling"))?;
        symlink("/elsewhere", other.join("links/dangling"))?;
        fs::remove_file(other.join("links/relative"))?;
        fs::write(other.join("added"), "")?;
        File::open(other.join("empty directory"))?.set_times(far)?;
        fs::set_permissions(other.join("sparse"), fs::Permissions::from_mode(0o777))?;
        let (_, differences) = compare(&one, &other)?;

        for expected in [
            "large-0: other bytes",
            "links/dangling: another target",
            "links/relative: missing",
            "added: only in the restored tree",
            "empty directory: another modification time",
            "sparse: another mode",
        ] {
            assert!(
                differences.iter().any(|line| line == expected),
                "{expected}: {differences:?}"
            );
        }
        Ok(())
    }
}
