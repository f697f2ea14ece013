//! Which list of hooks is the newest that this agent has seen.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Remembers, for each policy, the highest sequence number and what was signed under it.
///
/// Implement this where [`FileSequences`] does not fit.
///
/// # Security
///
/// Forgetting lets a server bring back a list that its owner has replaced. So `Ok(true)` must not
/// be said before the number is where a power cut cannot take it back; and what cannot be read is
/// an error, never "no number yet".
///
/// # Cost
///
/// Once for each hook of a job.
pub trait SequenceStore: fmt::Debug + Send + Sync {
    /// Admits a list if its number is higher than all before, or the same with the same digest; and
    /// remembers it, in one step.
    fn admit(&self, policy: &str, sequence: u64, digest: &[u8; 32]) -> Result<bool, SequenceError>;
}

/// The newest list is not known, or could not be remembered.
///
/// The hook is refused; somebody has to look at the agent's state directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// The file could not be read or written.
    #[error("{0}")]
    File(#[from] io::Error),

    /// The file was changed by somebody else.
    #[error("the file of sequence numbers is damaged")]
    Damaged,
}

type Newest = (u64, [u8; 32]);

fn admits(newest: Option<&Newest>, sequence: u64, digest: &[u8; 32]) -> bool {
    newest.is_none_or(|(highest, of)| sequence > *highest || (sequence, digest) == (*highest, of))
}

/// Keeps the numbers in this process: for tests, and for programs that sign anew at each start.
#[derive(Debug, Default)]
pub struct MemorySequences {
    newest: Mutex<HashMap<String, Newest>>,
}

impl SequenceStore for MemorySequences {
    fn admit(&self, policy: &str, sequence: u64, digest: &[u8; 32]) -> Result<bool, SequenceError> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = admits(newest.get(policy), sequence, digest);
        if admitted {
            newest.insert(policy.to_owned(), (sequence, *digest));
        }
        Ok(admitted)
    }
}

/// Keeps the numbers in one file, replaced as a whole.
///
/// One process at a time may use it.
#[derive(Debug)]
pub struct FileSequences {
    path: PathBuf,
    turn: Mutex<()>,
}

impl FileSequences {
    /// Numbers in this file, which is made with the first of them. Its directory must be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            turn: Mutex::new(()),
        }
    }

    fn read(&self) -> Result<HashMap<String, Newest>, SequenceError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
            text => text?,
        };
        text.lines()
            .map(|line| parse(line).ok_or(SequenceError::Damaged))
            .collect()
    }

    fn write(&self, all: &HashMap<String, Newest>) -> io::Result<()> {
        let mut text = String::new();
        for (policy, (sequence, digest)) in all {
            text.push_str(&format!(
                "{} {sequence} {}\n",
                hex(policy.as_bytes()),
                hex(digest)
            ));
        }
        let fresh = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        // The rename is on the disk when the directory is.
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl SequenceStore for FileSequences {
    fn admit(&self, policy: &str, sequence: u64, digest: &[u8; 32]) -> Result<bool, SequenceError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.read()?;
        let newest = all.get(policy);
        let admitted = admits(newest, sequence, digest);
        if admitted && newest != Some(&(sequence, *digest)) {
            all.insert(policy.to_owned(), (sequence, *digest));
            self.write(&all)?;
        }
        Ok(admitted)
    }
}

fn parse(line: &str) -> Option<(String, Newest)> {
    let mut fields = line.split(' ');
    let policy = String::from_utf8(unhex(fields.next()?)?).ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let digest = unhex(fields.next()?)?.try_into().ok()?;
    fields
        .next()
        .is_none()
        .then_some((policy, (sequence, digest)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}
