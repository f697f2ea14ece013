//! An agent port whose gateway writes down what it hears.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arkeep_core::job::{Assignment, JobReport, ReportBody};
use arkeep_core::secret::ExposeSecret;
use arkeep_core::{AgentId, Clock, JobId, SystemClock, SystemEntropy};
use arkeep_transport::ca::LocalCa;
use arkeep_transport::enrollment::{EnrollmentStore, MemoryEnrollments};
use arkeep_transport::gateway::{AgentGateway, AgentHandle, GatewayError};
use arkeep_transport::identity::AgentIdentity;
use arkeep_transport::server::{AgentPort, PortConfig, PortParts};
use arkeep_transport::session::{
    Generation, Heartbeat, HeldJob, Hello, JobProgress, LogBatch, QueryAnswer,
};
use arkeep_transport::token::{DEFAULT_VALIDITY, JoinToken, TokenTerms};
use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::bench::eventually;

/// A server that agents find at one address, also after it was away.
pub(crate) struct Server {
    pub(crate) heard: Arc<Heard>,
    pub(crate) store: Arc<MemoryEnrollments>,
    pub(crate) ca: Arc<LocalCa>,
    /// Where it listens.
    pub(crate) address: String,
    /// Where its tokens say that it is.
    pub(crate) known_as: String,
    config: PortConfig,
    clock: Arc<dyn Clock>,
    serving: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// Everything an agent said.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) hellos: Mutex<Vec<Hello>>,
    pub(crate) accepted: Mutex<Vec<HeldJob>>,
    pub(crate) reports: Mutex<Vec<JobReport>>,
    pub(crate) lines: Mutex<Vec<String>>,
    pub(crate) progress: Mutex<Vec<JobProgress>>,
    handle: Mutex<Option<AgentHandle>>,
    generation: AtomicU64,
}

impl Heard {
    pub(crate) fn handle(&self) -> Option<AgentHandle> {
        let handle = self.handle.lock().unwrap().clone();
        handle.filter(AgentHandle::is_open)
    }

    pub(crate) fn ends_of(&self, job: JobId) -> Vec<JobReport> {
        let reports = self.reports.lock().unwrap();
        let is_end = |report: &&JobReport| {
            report.job == job && matches!(report.body, ReportBody::Finished { .. })
        };
        reports.iter().filter(is_end).cloned().collect()
    }

    pub(crate) async fn end_of(&self, job: JobId) -> JobReport {
        eventually(|| !self.ends_of(job).is_empty()).await;
        self.ends_of(job).remove(0)
    }

    pub(crate) async fn connected(&self) -> AgentHandle {
        eventually(|| self.handle().is_some()).await;
        self.handle().unwrap()
    }

    pub(crate) async fn assign(&self, assignment: &Assignment) {
        self.connected().await.assign(assignment).unwrap();
    }
}

#[async_trait]
impl AgentGateway for Heard {
    async fn connected(
        &self,
        _: &AgentIdentity,
        hello: Hello,
        handle: AgentHandle,
    ) -> Result<Generation, GatewayError> {
        self.hellos.lock().unwrap().push(hello);
        *self.handle.lock().unwrap() = Some(handle);
        Ok(Generation(self.generation.fetch_add(1, Ordering::SeqCst)))
    }

    async fn accepted(&self, _: &AgentIdentity, job: HeldJob) -> Result<(), GatewayError> {
        self.accepted.lock().unwrap().push(job);
        Ok(())
    }

    async fn report(&self, _: &AgentIdentity, report: JobReport) -> Result<(), GatewayError> {
        self.reports.lock().unwrap().push(report);
        Ok(())
    }

    async fn logs(&self, _: &AgentIdentity, batch: LogBatch) -> Result<u64, GatewayError> {
        let mut lines = self.lines.lock().unwrap();
        lines.extend(batch.lines.iter().map(|line| line.text.clone()));
        Ok(batch.lines.last().map_or(0, |line| line.seq))
    }

    async fn progress(&self, _: &AgentIdentity, progress: JobProgress) {
        self.progress.lock().unwrap().push(progress);
    }

    async fn heartbeat(&self, _: &AgentIdentity, _: Heartbeat) -> Result<(), GatewayError> {
        Ok(())
    }

    async fn answered(&self, _: &AgentIdentity, _: QueryAnswer) {}

    async fn disconnected(&self, _: &AgentIdentity, _: Generation) {}
}

impl Server {
    pub(crate) async fn start() -> Result<Self, Box<dyn Error>> {
        Self::start_at(Arc::new(SystemClock)).await
    }

    pub(crate) async fn start_at(clock: Arc<dyn Clock>) -> Result<Self, Box<dyn Error>> {
        Self::start_with(clock, PortConfig::default()).await
    }

    pub(crate) async fn start_with(
        clock: Arc<dyn Clock>,
        config: PortConfig,
    ) -> Result<Self, Box<dyn Error>> {
        let (ca, _) = LocalCa::generate(clock.now())?;
        let mut server = Self {
            heard: Arc::default(),
            store: Arc::default(),
            ca: Arc::new(ca),
            address: "127.0.0.1:0".to_owned(),
            known_as: String::new(),
            config,
            clock,
            serving: Mutex::new(None),
        };
        let listener = TcpListener::bind(&server.address).await?;
        server.address = listener.local_addr()?.to_string();
        server.known_as.clone_from(&server.address);
        server.serve(listener).await?;
        Ok(server)
    }

    /// Goes away, with every connection.
    pub(crate) async fn go_away(&self) {
        let serving = self.serving.lock().unwrap().take();
        if let Some((stop, serving)) = serving {
            let _ = stop.send(());
            serving.await.unwrap();
        }
    }

    pub(crate) async fn come_back(&self) -> Result<(), Box<dyn Error>> {
        let listener = TcpListener::bind(&self.address).await?;
        self.serve(listener).await
    }

    async fn serve(&self, listener: TcpListener) -> Result<(), Box<dyn Error>> {
        let parts = PortParts {
            ca: Arc::<LocalCa>::clone(&self.ca),
            store: Arc::<MemoryEnrollments>::clone(&self.store),
            gateway: Arc::<Heard>::clone(&self.heard),
            clock: Arc::clone(&self.clock),
        };
        let port = AgentPort::open(parts, self.config.clone()).await?;
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            let _ = port.serve(listener, stopped).await;
        });
        *self.serving.lock().unwrap() = Some((stop, serving));
        Ok(())
    }

    /// A join token for a new agent.
    pub(crate) async fn token(&self) -> Result<String, Box<dyn Error>> {
        let now = self.clock.now();
        let terms = TokenTerms {
            server: self.known_as.parse()?,
            fingerprint: self.ca.fingerprint(),
            validity: DEFAULT_VALIDITY,
        };
        let token = JoinToken::mint(terms, now, &SystemEntropy)?;
        let agent = AgentId::mint(now, &SystemEntropy);
        self.store.offer(&token.offered_to(agent)).await?;
        Ok(token.encode().expose_secret().to_owned())
    }
}

/// A machine with the program on it.
pub(crate) struct Machine {
    pub(crate) home: PathBuf,
    _held: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new(config: &str) -> Result<Self, Box<dyn Error>> {
        let held = tempfile::tempdir()?;
        let home = held.path().canonicalize()?;
        fs::create_dir(home.join("source"))?;
        fs::write(home.join("source/a"), "hello")?;
        fs::write(home.join("agent.toml"), config)?;
        Ok(Self { home, _held: held })
    }

    /// Enrolled with this server.
    pub(crate) async fn of(server: &Server, config: &str) -> Result<Self, Box<dyn Error>> {
        let machine = Self::new(config)?;
        let output = machine.enroll(&server.token().await?).await?;
        assert!(output.status.success(), "{}", said(&output));
        Ok(machine)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    pub(crate) async fn enroll(&self, token: &str) -> Result<Output, Box<dyn Error>> {
        let mut child = self.command(["enroll"]).stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().ok_or("it was piped")?;
        // An agent that refuses before it reads closes the pipe.
        let _ = stdin.write_all(token.as_bytes()).await;
        drop(stdin);
        Ok(child.wait_with_output().await?)
    }

    pub(crate) fn run(&self) -> Result<Agent, Box<dyn Error>> {
        self.run_with(|_| {})
    }

    pub(crate) fn run_as(&self, user: u32) -> Result<Agent, Box<dyn Error>> {
        self.run_with(|command| {
            if rustix::process::geteuid().as_raw() != user {
                command.uid(user).gid(user);
            }
        })
    }

    pub(crate) fn run_with(
        &self,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Agent, Box<dyn Error>> {
        let log = fs::File::create(self.home.join("agent.log"))?;
        let mut command = self.command(["run"]);
        prepare(&mut command);
        let child = command.stderr(log).kill_on_drop(true).spawn()?;
        Ok(Agent { child })
    }

    /// Gives everything to a user who is not root, if this is root; answers with who that is.
    pub(crate) fn give_away(&self) -> std::io::Result<u32> {
        if !rustix::process::geteuid().is_root() {
            return Ok(rustix::process::geteuid().as_raw());
        }
        let mut paths = vec![self.home.clone()];
        while let Some(path) = paths.pop() {
            std::os::unix::fs::lchown(&path, Some(NOBODY), Some(NOBODY))?;
            if path.is_dir() {
                for entry in fs::read_dir(&path)? {
                    paths.push(entry?.path());
                }
            }
        }
        Ok(NOBODY)
    }

    /// The program with the options that every command takes.
    #[expect(
        clippy::disallowed_methods,
        reason = "the program under test is a process"
    )]
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_arkeep-agent"));
        command
            .args(arguments)
            .arg("--state-dir")
            .arg(self.state())
            .arg("--config")
            .arg(self.home.join("agent.toml"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join("agent.log")).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }
}

/// A running agent. Killed when dropped.
pub(crate) struct Agent {
    child: Child,
}

impl Agent {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn end(mut self) -> Result<std::process::ExitStatus, Box<dyn Error>> {
        self.signal(Signal::TERM);
        Ok(tokio::time::timeout(Duration::from_secs(31), self.child.wait()).await??)
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.child.kill().await?)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.unwrap(), signal).unwrap();
    }
}

const NOBODY: u32 = 65_534;

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
