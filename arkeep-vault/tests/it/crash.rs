//! A process that ends between any two steps loses nothing.
//!
//! Each test starts this program again, lets it do one thing to a ring and a row of files, and ends
//! it at one crash point. Then it looks at what is left, as a program that starts would.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arkeep_vault::{
    Binding, CRASH_POINTS, Census, ExposeSecret, KeyEncryptionKey, KeyFileError, KeyState,
    RingError, RingFile, Sealed, Sealer, Vault,
};

use crate::{TestResult, process};

type Error = Box<dyn std::error::Error>;

/// A data directory: a key, a ring, and rows.
struct Data(PathBuf);

impl Data {
    fn key(&self) -> PathBuf {
        self.0.join("vault.key")
    }

    fn ring(&self) -> PathBuf {
        self.0.join("vault.ring")
    }

    fn row(&self, row: u8) -> PathBuf {
        self.0.join(format!("row-{row}"))
    }

    fn rows(&self) -> impl Iterator<Item = u8> {
        (0..ROWS).filter(|row| self.row(*row).exists())
    }

    /// What a server does at start: everything is made if nothing is there.
    fn start(&self) -> Result<Arc<RingFile>, Error> {
        let guard = match KeyEncryptionKey::from_file(self.key()) {
            Err(KeyFileError::Missing { .. }) if !self.ring().exists() => {
                KeyEncryptionKey::generate_file(self.key())?
            }
            read => read?,
        };
        let guard = Arc::new(guard);
        match RingFile::open(self.ring(), guard.clone()) {
            Err(RingError::Missing { .. }) if self.rows().next().is_none() => {
                Ok(Arc::new(RingFile::create_new(self.ring(), guard, 0)?))
            }
            opened => Ok(Arc::new(opened?)),
        }
    }

    fn seal_rows(&self, ring: &Arc<RingFile>) -> Result<(), Error> {
        let vault = Vault::shared(ring.clone());
        for row in 0..ROWS {
            let sealed = vault.seal(&vec![row; 20].into(), &place(row))?;
            self.write_row(row, &sealed)?;
        }
        Ok(())
    }

    fn read_row(&self, row: u8) -> Result<Sealed, Error> {
        Ok(Sealed::parse(&fs::read(self.row(row))?)?)
    }

    fn write_row(&self, row: u8, sealed: &Sealed) -> Result<(), Error> {
        let new = self.0.join("row.tmp");
        fs::write(&new, sealed.as_bytes())?;
        Ok(fs::rename(new, self.row(row))?)
    }

    /// What writers of the key and of the ring left behind.
    fn litter(&self) -> Result<Vec<OsString>, Error> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<Result<Vec<_>, Error>>()?;
        let hidden = |name: &OsString| name.as_encoded_bytes().starts_with(b".vault.");
        Ok(names.into_iter().filter(hidden).collect())
    }

    /// Fails unless every row that there is opens with the key that there is.
    fn open_rows(&self) -> Result<usize, Error> {
        let vault = Vault::shared(self.start()?);
        let mut opened = 0;
        for row in self.rows() {
            let secret = vault.open(&self.read_row(row)?, &place(row))?;
            assert_eq!(secret.expose_secret(), vec![row; 20]);
            opened += 1;
        }
        Ok(opened)
    }

    fn run(&self, task: &str) -> Result<(), Error> {
        let ring = self.start()?;
        match task {
            "start" => {}
            "seal" => self.seal_rows(&ring)?,
            "rotate" => {
                ring.rotate(1)?;
                let vault = Vault::shared(ring.clone());
                for row in self.rows() {
                    fail::fail_point!("row");
                    let resealed = vault.reseal(&self.read_row(row)?, &place(row))?;
                    self.write_row(row, &resealed)?;
                }
                let rows = self.rows().map(|row| self.read_row(row));
                let rows = rows.collect::<Result<Vec<_>, _>>()?;
                let mut census = Census::default();
                census.extend(&rows);
                for key in ring.keys() {
                    if key.state == KeyState::Decrypt && census.sealed_by(key.id) == 0 {
                        ring.disable(key.id, 2)?;
                        ring.remove(key.id, &census, 2 + arkeep_vault::REMOVAL_DELAY_MILLIS)?;
                    }
                }
            }
            "rekey" => ring.rekey_file(self.key())?,
            task => return Err(format!("no such task: {task}").into()),
        }
        Ok(())
    }
}

/// Not a test of its own: the part that is killed.
#[test]
fn part() -> TestResult {
    let Some(task) = process::task() else {
        return Ok(());
    };
    let [task, point, hit, directory] = task.split(' ').collect::<Vec<_>>()[..] else {
        return Err("a task is: what, where, when, and the directory".into());
    };
    let (hit, hits) = (hit.parse::<u32>()?, AtomicU32::new(0));
    let _scenario = fail::FailScenario::setup();
    fail::cfg_callback(point, move || {
        if hits.fetch_add(1, Ordering::SeqCst) + 1 == hit {
            std::process::abort();
        }
    })?;
    Data(directory.into()).run(task)
}

/// Does `task` in a process that ends at each crash point in turn, the first, second, … time that
/// it comes there; looks at what is left; and then does the task to its end. `points` are those
/// that the task must come to.
fn survives(task: &str, points: &[&str], prepare: impl Fn(&Data) -> TestResult) -> TestResult {
    let mut crashed_at = Vec::new();
    for point in CRASH_POINTS.iter().chain(&["row"]) {
        for hit in 1.. {
            let directory = tempfile::tempdir()?;
            let data = Data(directory.path().into());
            prepare(&data)?;
            let rows = data.rows().count();

            let crashed = crash(task, point, hit, directory.path())?;

            assert!(data.open_rows()? >= rows, "{point} {hit} lost a row");
            data.run(task)?;
            assert!(
                data.open_rows()? >= rows,
                "{point} {hit} lost a row afterwards"
            );
            // At the first start nobody knows who else is starting, so that may leave a key behind
            // that was never used.
            assert!(
                task == "start" || data.litter()?.is_empty(),
                "{point} {hit} left {:?}",
                data.litter()?
            );
            if !crashed {
                break;
            }
            crashed_at.push(*point);
        }
    }
    crashed_at.dedup();
    assert_eq!(crashed_at, points);
    Ok(())
}

/// True when the process was ended, and false when it came to the end by itself.
fn crash(task: &str, point: &str, hit: u32, directory: &Path) -> Result<bool, Error> {
    let task = format!("{task} {point} {hit} {}", directory.display());
    let output = process::start("crash::part", &task)?.wait_with_output()?;
    match output.status.code() {
        None => Ok(true),
        Some(0) => Ok(false),
        Some(_) => Err(String::from_utf8_lossy(&output.stdout).into()),
    }
}

fn place(row: u8) -> Binding {
    Binding::new("table", "column", [row])
}

const ROWS: u8 = 3;

/// V7
#[test]
fn the_first_start_survives() -> TestResult {
    let points = [
        "file-created",
        "file-half-written",
        "file-written",
        "file-synced",
        "file-linked",
        "directory-synced",
    ];

    survives("start", &points, |_| Ok(()))
}

/// V7
#[test]
fn sealing_survives() -> TestResult {
    survives("seal", &REPLACING, |data| {
        data.start()?;
        Ok(())
    })
}

/// V7
#[test]
fn rotating_survives() -> TestResult {
    let points = [&REPLACING[..], &["row"]].concat();

    survives("rotate", &points, |data| data.seal_rows(&data.start()?))
}

/// V7
#[test]
fn rekeying_survives() -> TestResult {
    survives("rekey", &CRASH_POINTS, |data| {
        data.seal_rows(&data.start()?)
    })
}

/// Where a change of the ring can end.
const REPLACING: [&str; 6] = [
    "file-created",
    "file-half-written",
    "file-written",
    "file-synced",
    "file-replaced",
    "directory-synced",
];
