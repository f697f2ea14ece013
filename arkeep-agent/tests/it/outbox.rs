use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arkeep_agent::outbox::{Admission, Outbox, Stage};
use arkeep_core::Timestamp;
use arkeep_core::job::{Assignment, Fence, Outcome, ReportBody};
use arkeep_core::secret::SecretSlice;
use arkeep_vault::{
    Binding, KeyEncryptionKey, KeyError, Keyring, OpenError, RingFile, SealError, Sealed, Sealer,
    Vault,
};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::bench::{Bench, ScriptedEngine, TestResult, backup};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn bench() -> Result<Bench, Box<dyn std::error::Error>> {
    Bench::new(ScriptedEngine::default())
}

fn end() -> ReportBody {
    ReportBody::Finished {
        outcome: Outcome::Failed,
        error: None,
        results: Vec::new(),
        hooks: Vec::new(),
    }
}

fn leased_again(assignment: &Assignment) -> Assignment {
    Assignment {
        attempt: assignment.attempt + 1,
        fence: Fence(assignment.fence.0 + 1),
        ..assignment.clone()
    }
}

fn files(bench: &Bench) -> Vec<PathBuf> {
    fn walk(directory: PathBuf, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(bench.home.path().join("outbox"), &mut found);
    found.retain(|file| !file.ends_with("reserve"));
    found
}

/// G10
#[test]
fn an_assignment_survives() -> TestResult {
    let bench = bench()?;
    let assignment = backup(&["a", "b"]);

    assert_eq!(bench.outbox.admit(&assignment)?, Admission::New);

    let (_, held, damage) = bench.reopened()?;
    assert!(damage.is_empty());
    assert_eq!(held[0].stage, Stage::Accepted);
    let kept = held[0].assignment.as_ref().unwrap();
    assert_eq!(format!("{kept:?}"), format!("{assignment:?}"));
    Ok(())
}

/// V4
#[test]
fn no_secret_lies_on_the_disk() -> TestResult {
    let bench = bench()?;
    let assignment = backup(&["a"]);
    bench.outbox.admit(&assignment)?;
    bench.outbox.started(assignment.job, NOW)?;
    bench.outbox.finished(assignment.job, NOW, &end())?;

    for file in files(&bench) {
        let content = fs::read(&file)?;
        let text = String::from_utf8_lossy(&content);
        assert!(
            !text.contains("hunter2") && !text.contains("/srv"),
            "{}",
            file.display()
        );
    }
    Ok(())
}

/// G10
#[test]
fn an_end_is_said_until_it_is_acknowledged_and_then_never_again() -> TestResult {
    let bench = bench()?;
    let assignment = backup(&["a"]);
    let job = assignment.job;
    bench.outbox.admit(&assignment)?;
    bench.outbox.started(job, NOW)?;
    bench.outbox.finished(job, NOW, &end())?;

    let (next, _, _) = bench.reopened()?;
    assert_eq!(next.unacknowledged(), [(job, 1), (job, 2)]);
    assert_eq!(next.report(job, 2).unwrap().body, end());

    next.acknowledge(job, 9, 2)?;
    assert!(
        next.report(job, 2).is_some(),
        "an acknowledgement of another attempt"
    );
    next.acknowledge(job, 1, 2)?;
    assert!(next.unacknowledged().is_empty());
    assert!(bench.reopened()?.1.is_empty());
    assert!(files(&bench).is_empty());
    Ok(())
}

/// G10
#[test]
fn reports_come_in_the_order_of_jobs_and_of_what_happened() -> TestResult {
    let bench = bench()?;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        let assignment = backup(&["a"]);
        bench.outbox.admit(&assignment)?;
        bench.outbox.started(assignment.job, NOW)?;
        bench.outbox.finished(assignment.job, NOW, &end())?;
        jobs.push(assignment.job);
    }
    jobs.sort();

    let reports = bench.outbox.unacknowledged();

    let expected: Vec<_> = jobs.iter().flat_map(|job| [(*job, 1), (*job, 2)]).collect();
    assert_eq!(reports, expected);
    Ok(())
}

/// G10: the same assignment again is accepted again, and an older one is not.
#[test]
fn an_assignment_that_is_known_is_not_taken_for_a_new_one() -> TestResult {
    let bench = bench()?;
    let assignment = backup(&["a"]);
    let newer = leased_again(&assignment);

    assert_eq!(bench.outbox.admit(&assignment)?, Admission::New);
    assert_eq!(
        bench.outbox.admit(&assignment)?,
        Admission::Known(Stage::Accepted)
    );
    bench.outbox.started(assignment.job, NOW)?;
    assert_eq!(
        bench.outbox.admit(&newer)?,
        Admission::Renewed(Stage::Started)
    );
    assert_eq!(bench.outbox.admit(&assignment)?, Admission::Stale);

    bench.outbox.finished(assignment.job, NOW, &end())?;
    let report = bench.outbox.report(assignment.job, 2).unwrap();
    assert_eq!((report.attempt, report.fence), (2, Fence(2)));
    let (_, held, _) = bench.reopened()?;
    assert_eq!(held.len(), 1);
    Ok(())
}

/// G10
#[test]
fn a_damaged_entry_blocks_nothing_else() -> TestResult {
    let bench = bench()?;
    let (broken, whole) = (backup(&["a"]), backup(&["a"]));
    for assignment in [&broken, &whole] {
        bench.outbox.admit(assignment)?;
        bench.outbox.started(assignment.job, NOW)?;
        bench.outbox.finished(assignment.job, NOW, &end())?;
    }
    let directory = bench
        .home
        .path()
        .join("outbox")
        .join(broken.job.to_string());
    fs::write(directory.join("finished"), "torn")?;
    fs::write(directory.join("assignment.1.1"), "torn")?;

    let (next, held, damage) = bench.reopened()?;

    assert_eq!(damage.len(), 2);
    assert!(damage.iter().all(|damage| damage.moved_to.exists()));
    let stages: Vec<_> = held.iter().map(|held| (held.job, held.stage)).collect();
    let mut expected = [(broken.job, Stage::Started), (whole.job, Stage::Finished)];
    expected.sort_by_key(|(job, _)| *job);
    assert_eq!(stages, expected);
    assert!(next.report(whole.job, 2).is_some());
    assert!(bench.reopened()?.2.is_empty(), "damage is reported once");
    Ok(())
}

/// G10
#[test]
fn an_entry_that_cannot_be_read_blocks_nothing_else() -> TestResult {
    let bench = bench()?;
    let (broken, no_directory, whole) = (backup(&["a"]), backup(&["a"]), backup(&["a"]));
    for assignment in [&broken, &whole] {
        bench.outbox.admit(assignment)?;
        bench.outbox.started(assignment.job, NOW)?;
    }
    let root = bench.home.path().join("outbox");
    fs::create_dir(root.join(broken.job.to_string()).join("so-far"))?;
    fs::write(root.join(no_directory.job.to_string()), "not a directory")?;

    let (_, held, damage) = bench.reopened()?;

    let mut named: Vec<_> = damage
        .iter()
        .map(|one| (one.job, one.entry.clone()))
        .collect();
    named.sort();
    let mut expected = vec![
        (broken.job, Some("so-far".to_owned())),
        (no_directory.job, None),
    ];
    expected.sort();
    assert_eq!(named, expected);
    assert!(damage.iter().all(|one| one.moved_to.exists()));
    let mut jobs = [broken.job, whole.job];
    jobs.sort();
    let held: Vec<_> = held.iter().map(|held| (held.job, held.stage)).collect();
    assert_eq!(held, jobs.map(|job| (job, Stage::Started)));
    assert!(bench.reopened()?.2.is_empty(), "damage is reported once");
    Ok(())
}

/// V2: an entry opens as what it was written, for the job it was written for.
#[test]
fn an_entry_that_was_moved_to_another_job_does_not_open() -> TestResult {
    let bench = bench()?;
    let (one, other) = (backup(&["a"]), backup(&["b"]));
    bench.outbox.admit(&one)?;
    bench.outbox.admit(&other)?;
    let root = bench.home.path().join("outbox");
    let file =
        |assignment: &Assignment| root.join(assignment.job.to_string()).join("assignment.1.1");

    fs::copy(file(&one), file(&other))?;

    let (_, held, damage) = bench.reopened()?;
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].job, other.job);
    assert!(
        held.iter()
            .any(|held| held.job == other.job && held.assignment.is_none())
    );
    Ok(())
}

/// G10
#[test]
fn there_is_an_end_to_its_room() -> TestResult {
    let bench = bench()?;
    for _ in 0..100 {
        assert_eq!(bench.outbox.admit(&backup(&["a"]))?, Admission::New);
    }

    assert_eq!(bench.outbox.admit(&backup(&["a"]))?, Admission::Full);
    Ok(())
}

/// G10: the job that filled the disk can still say so.
#[test]
fn an_end_is_kept_on_a_full_disk() -> TestResult {
    let bench = bench()?;
    let Some(disk) = SmallDisk::at(bench.home.path().join("disk"))? else {
        return Ok(());
    };
    let root = disk.0.join("outbox");
    let (outbox, _, _) = Outbox::open(&root, Arc::clone(&bench.sealer), 10)?;
    let assignment = backup(&["a"]);
    outbox.admit(&assignment)?;
    outbox.started(assignment.job, NOW)?;
    fill(&disk)?;

    outbox.finished(assignment.job, NOW, &end())?;

    let (next, _, damage) = Outbox::open(&root, Arc::clone(&bench.sealer), 10)?;
    assert!(damage.is_empty());
    assert_eq!(next.report(assignment.job, 2).unwrap().body, end());
    Ok(())
}

/// G10, S5: sealing writes to the key ring now and then, on the same full disk.
#[test]
fn an_end_is_kept_on_a_full_disk_that_holds_the_key_ring_too() -> TestResult {
    let bench = bench()?;
    let Some(disk) = SmallDisk::at(bench.home.path().join("disk"))? else {
        return Ok(());
    };
    let (root, ring) = (disk.0.join("outbox"), disk.0.join("keyring"));
    let guard = Arc::new(KeyEncryptionKey::from_bytes(&vec![7; 32].into())?);
    let ring = RingFile::create_new(&ring, guard, 0)?;
    let sealer: Arc<dyn Sealer> = Arc::new(Vault::new(ring));
    let (outbox, _, _) = Outbox::open(&root, Arc::clone(&sealer), 10)?;
    let assignment = backup(&["a"]);
    outbox.admit(&assignment)?;
    outbox.started(assignment.job, NOW)?;
    fill(&disk)?;
    // What the ring has counted ahead is used up, wherever that is.
    let binding = Binding::new("t", "c", "r");
    while sealer.seal(&vec![1].into(), &binding).is_ok() {}

    outbox.finished(assignment.job, NOW, &end())?;

    let (next, _, damage) = Outbox::open(&root, sealer, 10)?;
    assert!(damage.is_empty());
    assert_eq!(next.report(assignment.job, 2).unwrap().body, end());
    Ok(())
}

/// G10: nothing is left to give back, and the end is kept as soon as there is room.
#[tokio::test]
async fn an_end_waits_for_room_for_its_key() -> TestResult {
    let full = Arc::new(FullRing::default());
    let bench = Bench::with_sealer(ScriptedEngine::gated(), full.clone())?;
    let assignment = backup(&["a"]);
    let job = assignment.job;
    bench.assign(assignment)?;
    bench.engine.has_called("backup a").await;

    full.refusing.store(true, Ordering::Relaxed);
    bench.engine.gate.add_permits(1);
    crate::bench::eventually(|| full.refused.load(Ordering::Relaxed) > 2).await;
    full.refusing.store(false, Ordering::Relaxed);

    let report = bench.end_of(job).await;
    assert_eq!(crate::bench::parts(&report).outcome, Outcome::Succeeded);
    Ok(())
}

/// A vault whose ring cannot be written while it refuses.
#[derive(Debug)]
struct FullRing {
    vault: Vault,
    refusing: AtomicBool,
    refused: AtomicUsize,
}

impl Default for FullRing {
    fn default() -> Self {
        Self {
            vault: Vault::new(Keyring::generate(0).unwrap()),
            refusing: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
        }
    }
}

impl Sealer for FullRing {
    fn seal(&self, secret: &SecretSlice<u8>, binding: &Binding) -> Result<Sealed, SealError> {
        if self.refusing.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
            return Err(SealError::Key(KeyError::Unavailable { source }));
        }
        self.vault.seal(secret, binding)
    }

    fn open(&self, sealed: &Sealed, binding: &Binding) -> Result<SecretSlice<u8>, OpenError> {
        self.vault.open(sealed, binding)
    }
}

fn fill(disk: &SmallDisk) -> TestResult {
    let mut filling = fs::File::create(disk.0.join("filling"))?;
    while filling.write_all(&[1; 4_096]).is_ok() {}
    Ok(())
}

/// A disk of two megabytes in memory, which only root can make.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Result<Option<Self>, Box<dyn std::error::Error>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        fs::create_dir(&path)?;
        let options = c"size=2m,mode=0700";
        rustix::mount::mount("none", &path, "tmpfs", MountFlags::empty(), options)?;
        Ok(Some(Self(path)))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}
