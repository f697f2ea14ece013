//! Where the parts are put together, and taken apart in order.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arkeep_agent::attachment::{Attachment, Facts, KeptTrust, Renewals, chain};
use arkeep_agent::conversation::Conversation;
use arkeep_agent::executor::{Executor, HookGate, Tools};
use arkeep_agent::identity::{IdentityDir, IdentityError};
use arkeep_agent::outbox::Outbox;
use arkeep_agent::restic::{BinarySource, BundledRestic, ResticConfig, ResticEngine};
use arkeep_agent::state::{StateDir, StateError};
use arkeep_core::engine::BackupEngine;
use arkeep_core::secret::{ExposeSecret, SecretString};
use arkeep_core::{Clock, SystemClock, SystemEntropy};
use arkeep_hooks::ProcessRunner;
use arkeep_transport::client::{self, Connector, ConnectorParts};
use arkeep_transport::token::JoinToken;

use crate::config::{ConfigError, Settings};
use crate::process::Termination;

/// Why the program ends without having done what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed; the text says what to do.
    Failed(String),
    /// The configuration was refused.
    Config(String),
    /// The key of the state directory was refused.
    Key(String),
}

impl Failure {
    pub(crate) fn failed(error: impl std::error::Error) -> Self {
        Self::Failed(chain(&error))
    }

    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Config(_) => 3,
            Self::Key(_) => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Config(text) | Self::Key(text) => f.write_str(text),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::KeyMissing { .. } | StateError::KeyFile(_) | StateError::Ring(_) => {
                Self::Key(chain(&error))
            }
            error => Self::failed(error),
        }
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::failed(error)
    }
}

/// Trades a join token for an identity.
pub(crate) async fn enroll(settings: &Settings, file: Option<&Path>) -> Result<(), Failure> {
    let state = StateDir::open(&settings.state_dir)?;
    let token = join_token(file)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let enrolled = client::enroll(&token, &clock)
        .await
        .map_err(Failure::failed)?;
    IdentityDir::new(state.identity()).save(&enrolled)?;
    tracing::info!(agent = %enrolled.agent, server = %enrolled.server, "enrolled");
    Ok(())
}

fn join_token(file: Option<&Path>) -> Result<JoinToken, Failure> {
    let mut text = String::with_capacity(LONGEST_TOKEN);
    let read = match file {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(LONGEST_TOKEN as u64).read_to_string(&mut text)),
        None => std::io::stdin()
            .take(LONGEST_TOKEN as u64)
            .read_to_string(&mut text),
    };
    let text = SecretString::from(text);
    read.map_err(|error| Failure::Failed(format!("the join token cannot be read: {error}")))?;
    text.expose_secret()
        .trim()
        .parse()
        .map_err(|error| Failure::Failed(format!("the join token cannot be used: {error}")))
}

/// Runs until it is told to end.
pub(crate) async fn run(settings: Settings) -> Result<(), Failure> {
    let mut termination = Termination::listen().map_err(Failure::failed)?;
    let state = StateDir::open(&settings.state_dir)?;
    let vault = state.vault(SystemClock.now())?;
    let identity = IdentityDir::new(state.identity());
    let known = identity.load()?;
    let engine: Arc<dyn BackupEngine> = Arc::new(engine(&settings, state.path())?);
    let (outbox, held, damaged) =
        Outbox::open(&state.outbox(), vault, MOST_JOBS).map_err(Failure::failed)?;
    for damage in damaged {
        let (job, moved_to) = (damage.job, damage.moved_to.display());
        tracing::error!(%job, entry = damage.entry, %moved_to, "a damaged entry was set aside");
    }
    let outbox = Arc::new(outbox);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let hostname = hostname();
    let runner = runner(&settings, state.path());
    let sandbox = sandbox(&runner).await;
    let executor = Executor::new(
        Tools {
            engine: Arc::clone(&engine),
            outbox: Arc::clone(&outbox),
            clock: Arc::clone(&clock),
            hooks: HookGate {
                policy: Arc::clone(&settings.hooks.policy),
                runner: Arc::new(runner),
                agent: known.credential.agent(),
                decided_in: settings.decided_in(),
            },
            targets: settings.targets.clone(),
            denied: settings.denied.clone(),
            hostname: hostname.clone(),
        },
        settings.jobs_at_once,
    );
    let connector = Connector::new(ConnectorParts {
        server: known.server,
        credential: known.credential,
        trust: known.trust,
        clock: Arc::clone(&clock),
    });
    let connector = Arc::new(connector.map_err(Failure::failed)?);
    let renewals = Arc::<Renewals>::default();
    let trust = Arc::new(KeptTrust {
        connector: Arc::clone(&connector),
        identity: identity.clone(),
        renewals: Arc::clone(&renewals),
    });
    let attachment = Attachment {
        connector,
        identity,
        renewals,
        conversation: Conversation {
            outbox: Arc::clone(&outbox),
            executor: executor.clone(),
            engine,
            trust,
        },
        facts: Facts {
            hostname,
            os: os_name(),
            hook_policy: settings.hooks.name.to_owned(),
            sandbox,
        },
        clock,
        entropy: Arc::new(SystemEntropy),
        look_every: Duration::from_secs(60),
    };
    executor.resume(held);
    let attached = tokio::spawn(async move { attachment.stay().await });
    tell(sd_notify::NotifyState::Ready);

    termination.requested().await;
    tracing::info!("asked to end; stopping what runs");
    tell(sd_notify::NotifyState::Stopping);
    if !executor.shut_down(FOR_JOBS).await {
        tracing::error!("a job did not end in time; the next start accounts for it");
    }
    let said = tokio::time::timeout(FOR_REPORTS, all_said(&outbox)).await;
    if said.is_err() {
        tracing::warn!("results are kept for the next start: the server has not taken them");
    }
    attached.abort();
    Ok(())
}

/// Resolves when the server has every report.
async fn all_said(outbox: &Outbox) {
    while !outbox.unacknowledged().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs hooks where they see nothing of the agent's own.
pub(crate) fn runner(settings: &Settings, state: &Path) -> ProcessRunner {
    let own = [
        Some(state),
        settings.runtime_dir.as_deref(),
        settings.file.as_deref(),
    ];
    let hide = |runner: ProcessRunner, path: &Path| runner.hide(path);
    own.into_iter()
        .flatten()
        .fold(settings.hooks.runner.clone(), hide)
}

/// What confines a hook here, in a few words.
async fn sandbox(runner: &ProcessRunner) -> String {
    let words = match runner.inspect().await {
        Ok(inspection) if inspection.lacking.is_empty() => "complete".to_owned(),
        Ok(inspection) => format!("incomplete: {}", inspection.lacking.join("; ")),
        Err(error) => format!("unusable: {}", chain(&error)),
    };
    words.chars().take(200).collect()
}

pub(crate) fn engine(settings: &Settings, state: &Path) -> Result<ResticEngine, Failure> {
    let binary = binary(settings, BundledRestic::built_in(state.join("bin")));
    let cache = settings
        .cache_dir
        .clone()
        .unwrap_or_else(|| state.join("cache"));
    let runtime = settings
        .runtime_dir
        .clone()
        .unwrap_or_else(|| state.join("run"));
    ResticEngine::new(ResticConfig::new(binary, cache, runtime)).map_err(Failure::failed)
}

/// The restic that was built in, else the one that the owner named, else the first in `PATH`.
fn binary(settings: &Settings, built_in: Option<BundledRestic>) -> BinarySource {
    match (built_in, &settings.restic) {
        (Some(bundled), _) => BinarySource::Bundled(bundled),
        (None, Some(path)) => BinarySource::Configured(path.clone()),
        (None, None) => BinarySource::Path(settings.path.clone()),
    }
}

pub(crate) fn hostname() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// What people call the operating system.
fn os_name() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or_else(
        || std::env::consts::OS.to_owned(),
        |name| name.trim_matches('"').chars().take(64).collect(),
    )
}

fn tell(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

const MOST_JOBS: usize = 1_000;
const LONGEST_TOKEN: usize = 4_096;
// Thirty seconds in all: restic has ten to end, hooks that tidy up eight.
const FOR_JOBS: Duration = Duration::from_secs(22);
const FOR_REPORTS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, parse};

    fn settings() -> Result<Settings, Box<dyn std::error::Error>> {
        let line = ["arkeep-agent", "run"].map(Into::into);
        match parse(line.into_iter())?.command {
            Command::Run { options } => Ok(Settings::resolve(&options)?),
            other => Err(format!("not what was written: {other:?}").into()),
        }
    }

    /// G1
    #[test]
    fn restic_is_looked_for_in_this_order() -> Result<(), Box<dyn std::error::Error>> {
        let bundled = BundledRestic {
            bytes: b"restic",
            sha256: [0; 32],
            directory: "/var/lib/arkeep-agent/bin".into(),
        };
        let bare = settings()?;
        let configured = Settings {
            restic: Some("/usr/bin/restic".into()),
            ..settings()?
        };

        assert!(matches!(
            binary(&configured, Some(bundled)),
            BinarySource::Bundled(_)
        ));
        assert!(matches!(
            binary(&configured, None),
            BinarySource::Configured(_)
        ));
        assert!(matches!(binary(&bare, None), BinarySource::Path(_)));
        Ok(())
    }
}
