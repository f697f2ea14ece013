//! What every test of the engine stands on.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arkeep_agent::restic::{BinarySource, ResticConfig, ResticEngine};
use arkeep_core::SecretString;
use arkeep_core::engine::{BackupEngine, BackupRequest, Observer, Silent};
use arkeep_core::job::{LogLevel, Progress};
use arkeep_core::repository::{LocalLocation, Location, Repository};
use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

pub(crate) const PASSWORD: &str = "correct horse battery";

/// Every restic there is.
#[expect(
    clippy::disallowed_methods,
    reason = "the test's own environment says where restics are"
)]
pub(crate) fn restics() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = std::env::var_os("ARKEEP_RESTICS").unwrap_or_default();
    let first = std::env::split_paths(&path)
        .map(|directory| directory.join("restic"))
        .find(|restic| restic.is_file())
        .expect("the tests need restic 0.14 or later in PATH");
    std::iter::once(first)
        .chain(std::env::split_paths(&more).filter(|path| path.is_absolute()))
        .collect()
}

/// One restic, a directory of its own, and a repository in it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) engine: ResticEngine,
    pub(crate) repository: Repository,
    pub(crate) restic: PathBuf,
}

/// One for each restic, with an empty repository.
pub(crate) fn benches() -> Result<Vec<Bench>, Box<dyn Error>> {
    let mut benches = Vec::new();
    for restic in restics() {
        let bench = Bench::bare(&restic, |_| {})?;
        lay_out(&bench.path("repository"))?;
        benches.push(bench);
    }
    Ok(benches)
}

impl Bench {
    /// A bench whose repository is not there.
    pub(crate) fn bare(
        restic: &Path,
        adjust: impl FnOnce(&mut ResticConfig),
    ) -> Result<Self, Box<dyn Error>> {
        let dir = TempDir::new()?;
        let mut config = config(restic, dir.path());
        adjust(&mut config);
        let repository = local(&dir.path().join("repository"), PASSWORD);
        Ok(Self {
            engine: ResticEngine::new(config)?,
            repository,
            restic: restic.to_owned(),
            dir,
        })
    }

    /// The same bench with another engine.
    pub(crate) fn again(
        mut self,
        adjust: impl FnOnce(&mut ResticConfig),
    ) -> Result<Self, Box<dyn Error>> {
        let mut config = config(&self.restic, self.dir.path());
        adjust(&mut config);
        self.engine = ResticEngine::new(config)?;
        Ok(self)
    }

    /// An engine alone, as another process has it at a bench that is there.
    pub(crate) fn at(restic: &Path, directory: &Path) -> Result<ResticEngine, Box<dyn Error>> {
        Ok(ResticEngine::new(config(restic, directory))?)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path of this bench as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes a directory with these files in it.
    pub(crate) fn tree(&self, name: &str, files: &[(&str, &str)]) -> std::io::Result<String> {
        let directory = self.path(name);
        fs::create_dir_all(&directory)?;
        for (file, content) in files {
            fs::write(directory.join(file), content)?;
        }
        Ok(self.text(name))
    }

    /// Backs up these sources, in silence.
    pub(crate) async fn backup(
        &self,
        sources: &[&str],
    ) -> Result<arkeep_core::engine::BackupReport, Box<dyn Error>> {
        let request = backup_of(sources);
        Ok(self
            .engine
            .backup(&self.repository, &request, &Silent)
            .await?)
    }

    /// Everything of this bench that runs: its path is in the arguments of each.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let own = self.dir.path().display().to_string();
        running(&own)
    }

    pub(crate) fn locks(&self) -> usize {
        fs::read_dir(self.path("repository/locks")).map_or(0, Iterator::count)
    }
}

fn config(restic: &Path, directory: &Path) -> ResticConfig {
    let source = BinarySource::Configured(restic.to_owned());
    let mut config = ResticConfig::new(source, directory.join("cache"), directory.join("run"));
    config.host = Some("bench".to_owned());
    config
}

/// Processes with `word` in their arguments.
pub(crate) fn running(word: &str) -> Vec<(u32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            (pid != std::process::id() && arguments.contains(word)).then_some((pid, arguments))
        })
        .collect()
}

/// Waits until `done`, and fails when that takes too long.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within 30 s"));
}

/// Says that a test could not run here, and why.
#[expect(
    clippy::disallowed_methods,
    reason = "the test's own environment says where such tests are counted"
)]
pub(crate) fn skip(test: &str, why: &str) -> Outcome {
    if let Some(list) = std::env::var_os("ARKEEP_SKIPPED") {
        let mut list = fs::OpenOptions::new().append(true).open(list)?;
        writeln!(list, "{test}: {why}")?;
    }
    Ok(())
}

pub(crate) fn local(path: &Path, password: &str) -> Repository {
    Repository {
        location: Location::Local(LocalLocation {
            path: path.display().to_string(),
            must_be_mounted: false,
        }),
        path: Default::default(),
        credentials: None,
        password: SecretString::from(password),
    }
}

pub(crate) fn backup_of(sources: &[&str]) -> BackupRequest {
    BackupRequest {
        sources: sources.iter().map(|&source| source.to_owned()).collect(),
        tags: vec!["policy:p".to_owned()],
        ..BackupRequest::default()
    }
}

/// Bytes that restic can neither compress nor find twice.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An empty repository that restic 0.14 made. Its key was sealed again with the cheapest scrypt
/// there is: a real one costs half a second at each command.
pub(crate) fn lay_out(repository: &Path) -> std::io::Result<()> {
    for part in ["data", "index", "keys", "locks", "snapshots"] {
        fs::create_dir_all(repository.join(part))?;
    }
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/restic/template");
    fs::copy(template.join("config"), repository.join("config"))?;
    fs::copy(template.join("key.json"), repository.join("keys").join(KEY))?;
    Ok(())
}

/// The SHA-256 of `template/key.json`.
const KEY: &str = "5554a7d35c1870d128c6094e0da02458ee41bbac6d6a9a5be190e34ee43c9344";

/// Writes down all it hears, and stops the run when told to.
#[derive(Debug)]
pub(crate) struct Watch {
    lines: Mutex<Vec<(LogLevel, String)>>,
    progress: Mutex<Vec<(Instant, Progress)>>,
    moved: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            progress: Mutex::default(),
            moved: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        }
    }
}

impl Watch {
    pub(crate) fn lines(&self) -> Vec<(LogLevel, String)> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// All lines in one text.
    pub(crate) fn log(&self) -> String {
        let lines: Vec<String> = self.lines().into_iter().map(|(_, text)| text).collect();
        lines.join("\n")
    }

    pub(crate) fn progress_seen(&self) -> Vec<(Instant, Progress)> {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves when progress was shown for the first time.
    pub(crate) async fn moved(&self) {
        let mut moved = self.moved.subscribe();
        let _ = moved.wait_for(|&count| count > 0).await;
    }
}

#[async_trait]
impl Observer for Watch {
    fn progress(&self, progress: Progress) {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((Instant::now(), progress));
        self.moved.send_modify(|count| *count += 1);
    }

    fn line(&self, level: LogLevel, text: &str) {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((level, text.to_owned()));
    }

    async fn cancelled(&self) {
        let mut stop = self.stop.subscribe();
        let _ = stop.wait_for(|&stop| stop).await;
    }
}
