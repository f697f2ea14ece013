use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use crate::{Api, Programs, until};

/// A program could not be run, or did not do what it was started for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The operating system refused.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The program ended, or was not ready in time. The text ends with its log.
    #[error("{0}")]
    NotReady(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ProcessError {
    let what = what.into();
    move |source| ProcessError::Io { what, source }
}

/// A port of the loopback interface that nobody listens on.
///
/// Chosen below the range from which the kernel takes ports for outgoing connections, so that a
/// server that is stopped and started again finds its port still free.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    let process = (std::process::id().wrapping_mul(2_654_435_761) >> 16) as u16;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + process.wrapping_add(step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A program that runs, in a process group of its own, with its log in a file. Killed when
/// dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
    left_running: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.left_running {
            self.signal(Signal::KILL);
        }
    }
}

impl Running {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place here that starts a program"
    )]
    fn start(
        program: &Path,
        arguments: &[OsString],
        options: &AgentOptions,
        log: &Path,
    ) -> Result<Self, ProcessError> {
        let file = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(log)
            .map_err(io_error(format!("cannot open {}", log.display())))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", std::env::temp_dir())
            .envs(
                options
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .process_group(0);
        if let Some(user) = options.user {
            command.uid(user).gid(user);
        }
        let child = command
            .spawn()
            .map_err(io_error(format!("cannot start {}", program.display())))?;
        Ok(Self {
            child,
            log: log.to_owned(),
            left_running: false,
        })
    }

    /// What the program has logged so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Lets the program run on when this value is dropped.
    pub const fn leave_running(&mut self) {
        self.left_running = true;
    }

    /// Whether the program has ended.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // A process that is gone already needs no signal.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    ///
    /// When it has not ended within `patience`.
    pub async fn wait(&mut self, patience: Duration) -> Result<ExitStatus, ProcessError> {
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(status) => status.map_err(io_error("cannot wait for a program")),
            Err(_) => Err(ProcessError::NotReady(format!(
                "still running after {} s\n{}",
                patience.as_secs(),
                self.log()
            ))),
        }
    }

    /// Kills the program as a power cut would, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When the operating system cannot tell that it is gone.
    pub async fn kill_9(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::KILL);
        let status = self.wait(Duration::from_secs(10)).await?;
        debug_assert!(status.signal().is_some() || status.code().is_some());
        Ok(())
    }

    /// Asks the program to stop and waits for it.
    ///
    /// # Errors
    ///
    /// When it has not stopped within the 30 s that both programs promise.
    pub async fn stop(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(30)).await
    }
}

/// A real `arkeep-server` on loopback ports.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    data_dir: PathBuf,
    http: SocketAddr,
    grpc: SocketAddr,
    extra: Vec<OsString>,
    running: Running,
}

impl Server {
    /// Starts the server over `data_dir` and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it cannot be started or is not ready within 30 s.
    pub async fn start(
        programs: &Programs,
        data_dir: &Path,
        extra: &[&str],
    ) -> Result<Self, ProcessError> {
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let grpc = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let extra: Vec<OsString> = extra.iter().map(OsString::from).collect();
        let running = Self::spawn(&programs.server, data_dir, http, grpc, &extra)?;
        let mut server = Self {
            program: programs.server.clone(),
            data_dir: data_dir.to_owned(),
            http,
            grpc,
            extra,
            running,
        };
        server.ready().await?;
        Ok(server)
    }

    fn spawn(
        program: &Path,
        data_dir: &Path,
        http: SocketAddr,
        grpc: SocketAddr,
        extra: &[OsString],
    ) -> Result<Running, ProcessError> {
        let mut arguments: Vec<OsString> = vec!["serve".into(), "--data-dir".into()];
        arguments.push(data_dir.into());
        for (flag, address) in [
            ("--http-addr", http),
            ("--grpc-addr", grpc),
            ("--agent-addr", grpc),
        ] {
            arguments.push(flag.into());
            arguments.push(address.to_string().into());
        }
        arguments.extend(extra.iter().cloned());
        let mut log = data_dir.as_os_str().to_owned();
        log.push(".log");
        Running::start(
            program,
            &arguments,
            &AgentOptions::default(),
            Path::new(&log),
        )
    }

    async fn ready(&mut self) -> Result<(), ProcessError> {
        let api = self.api();
        let running = &mut self.running;
        let ended = until(Duration::from_secs(30), async || {
            if let Some(status) = running.has_ended() {
                return Some(Err(format!("ended with {status}")));
            }
            let answer = api.get("/health/ready").await.ok()?;
            (answer.status == 200).then_some(Ok(()))
        });
        match ended.await {
            Some(Ok(())) => Ok(()),
            Some(Err(how)) => Err(self.not_ready(&how)),
            None => Err(self.not_ready("was not ready within 30 s")),
        }
    }

    fn not_ready(&self, how: &str) -> ProcessError {
        ProcessError::NotReady(format!("arkeep-server {how}\n{}", self.running.log()))
    }

    /// A client that has not logged in.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::new(format!("http://{}", self.http))
    }

    /// Where the data lies.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where agents connect.
    #[must_use]
    pub const fn agent_address(&self) -> SocketAddr {
        self.grpc
    }

    /// Where HTTP clients connect.
    #[must_use]
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// The process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Starts the server again, after it was stopped or killed, on the same ports.
    ///
    /// # Errors
    ///
    /// As for [`Server::start`].
    pub async fn start_again(&mut self) -> Result<(), ProcessError> {
        self.running = Self::spawn(
            &self.program,
            &self.data_dir,
            self.http,
            self.grpc,
            &self.extra,
        )?;
        self.ready().await
    }

    /// The setup token that the first start wrote.
    ///
    /// # Errors
    ///
    /// When it was used, or cannot be read.
    pub fn setup_token(&self) -> Result<String, ProcessError> {
        let path = self.data_dir.join("setup-token");
        let text = std::fs::read_to_string(&path)
            .map_err(io_error(format!("cannot read {}", path.display())))?;
        Ok(text.trim().to_owned())
    }

    /// Makes the first administrator and logs in.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn set_up(&self, email: &str, password: &str) -> Result<Api, ProcessError> {
        let mut api = self.api();
        let body = serde_json::json!({
            "setup_token": self.setup_token()?,
            "email": email,
            "password": password,
            "display_name": "Administrator",
        });
        let refused = |what: String| ProcessError::NotReady(what);
        api.post("/api/v1/setup", &body)
            .await
            .and_then(|answer| answer.expect(201))
            .map_err(|error| refused(error.to_string()))?;
        api.log_in(email, password)
            .await
            .map_err(|error| refused(error.to_string()))?;
        Ok(api)
    }
}

/// How an agent is started.
#[derive(Debug, Clone, Default)]
pub struct AgentOptions {
    /// The text of `agent.toml`.
    pub config: String,
    /// Environment variables beside `PATH` and `HOME`.
    pub environment: Vec<(OsString, OsString)>,
    /// The user to run as; this one when absent. Only root can choose.
    pub user: Option<u32>,
}

/// A real `arkeep-agent`.
#[derive(Debug)]
pub struct Agent {
    program: PathBuf,
    state_dir: PathBuf,
    options: AgentOptions,
    running: Running,
}

impl Agent {
    /// Enrols with a join token. The agent does not run yet.
    ///
    /// # Errors
    ///
    /// When enrolment fails; the text ends with what the agent said.
    #[expect(
        clippy::disallowed_methods,
        reason = "the other place here that starts a program"
    )]
    pub async fn enroll(
        programs: &Programs,
        state_dir: &Path,
        join_token: &str,
        options: &AgentOptions,
    ) -> Result<(), ProcessError> {
        use tokio::io::AsyncWriteExt as _;

        let what = "cannot enrol the agent";
        let mut command = Command::new(&programs.agent);
        command
            .arg("enroll")
            .arg("--state-dir")
            .arg(state_dir)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(user) = options.user {
            std::fs::create_dir_all(state_dir).map_err(io_error(what))?;
            std::os::unix::fs::chown(state_dir, Some(user), Some(user)).map_err(io_error(what))?;
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().map_err(io_error(what))?;
        if let Some(mut stdin) = child.stdin.take() {
            // An agent that refuses before it reads closes the pipe; its own words follow.
            let _ = stdin.write_all(join_token.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(io_error(what))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(ProcessError::NotReady(format!(
            "{what}: {}\n{said}",
            output.status
        )))
    }

    /// Starts an enrolled agent.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start(
        programs: &Programs,
        state_dir: &Path,
        options: AgentOptions,
    ) -> Result<Self, ProcessError> {
        let running = Self::spawn(&programs.agent, state_dir, &options)?;
        Ok(Self {
            program: programs.agent.clone(),
            state_dir: state_dir.to_owned(),
            options,
            running,
        })
    }

    fn spawn(
        program: &Path,
        state_dir: &Path,
        options: &AgentOptions,
    ) -> Result<Running, ProcessError> {
        let beside = |ending: &str| {
            let mut path = state_dir.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        let config = beside(".toml");
        std::fs::write(&config, &options.config)
            .map_err(io_error(format!("cannot write {}", config.display())))?;
        let arguments: [OsString; 5] = [
            "run".into(),
            "--state-dir".into(),
            state_dir.into(),
            "--config".into(),
            config.into(),
        ];
        Running::start(program, &arguments, options, &beside(".log"))
    }

    /// Where the agent keeps its state.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.running
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.running.id()
    }

    /// Starts the agent again, after it was stopped or killed.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start_again(&mut self) -> Result<(), ProcessError> {
        self.running = Self::spawn(&self.program, &self.state_dir, &self.options)?;
        Ok(())
    }

    /// Starts the agent again with other options.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start_again_with(&mut self, options: AgentOptions) -> Result<(), ProcessError> {
        self.options = options;
        self.start_again()
    }
}
