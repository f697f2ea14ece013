//! Whether everything is in place, said in one line for each thing.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use arkeep_agent::attachment::chain;
use arkeep_agent::identity::{Identity, IdentityDir};
use arkeep_agent::state::{StateDir, StateError};
use arkeep_core::engine::BackupEngine;
use arkeep_core::{Clock, SystemClock};
use tokio::net::TcpStream;

use crate::app;
use crate::command::Options;
use crate::config::Settings;

/// Looks at everything that `run` needs.
pub(crate) async fn examine(options: &Options) -> ExitCode {
    let mut report = Report::default();
    let settings = match Settings::resolve(options) {
        Ok(settings) => settings,
        Err(error) => {
            report.bad("configuration", &error.to_string());
            return report.end();
        }
    };
    match &settings.file {
        Some(file) => report.good("configuration", &file.display().to_string()),
        None => report.good("configuration", "none is named; the defaults allow nothing"),
    }
    report.good("hooks", &format!("policy {}", settings.hooks.name));
    sandbox(&mut report, &settings).await;
    state(&mut report, &settings.state_dir);
    restic(&mut report, &settings).await;
    let identity = IdentityDir::new(settings.state_dir.join("identity"));
    match identity.load() {
        Ok(identity) => {
            clock(&mut report, &identity);
            server(&mut report, &identity).await;
        }
        Err(error) => report.bad("identity", &chain(&error)),
    }
    report.end()
}

async fn sandbox(report: &mut Report, settings: &Settings) {
    let inspection = match app::runner(settings, &settings.state_dir).inspect().await {
        Ok(inspection) => inspection,
        Err(error) => return report.bad("sandbox", &chain(&error)),
    };
    let word = match inspection.lacking.as_slice() {
        [] => "complete",
        _ => "incomplete",
    };
    let layers = inspection.layers.join(", ");
    report.good("sandbox", &format!("{word}: {layers}"));
    for lack in inspection.lacking {
        match settings.hooks.require_sandbox {
            true => report.bad("sandbox", &format!("{lack}; hooks are refused")),
            false => report.good("sandbox", &format!("incomplete: {lack}")),
        }
    }
}

fn state(report: &mut Report, path: &Path) {
    if path.symlink_metadata().is_err() {
        let advice = "is not there; `arkeep-agent enroll` makes it";
        return report.bad("state", &format!("{} {advice}", path.display()));
    }
    let state = match StateDir::open(path) {
        Ok(state) => state,
        Err(StateError::Taken { .. }) => {
            return report.good("state", &format!("{}, in use by an agent", path.display()));
        }
        Err(error) => return report.bad("state", &chain(&error)),
    };
    report.good("state", &state.path().display().to_string());
    if state.path().join("key").exists() {
        match state.vault(SystemClock.now()) {
            Ok(_) => report.good("key", "opens the key ring"),
            Err(error) => report.bad("key", &chain(&error)),
        }
    }
}

async fn restic(report: &mut Report, settings: &Settings) {
    // A directory of its own: the agent's belongs to the agent that may be running, or is not there.
    let scratch = std::env::temp_dir().join(format!("arkeep-doctor-{}", std::process::id()));
    if let Err(error) = DirBuilder::new().mode(0o700).create(&scratch) {
        return report.bad("restic", &format!("{}: {error}", scratch.display()));
    }
    let settings = Settings {
        runtime_dir: Some(scratch.clone()),
        cache_dir: Some(scratch.clone()),
        ..settings.clone()
    };
    let probed = match app::engine(&settings, &scratch) {
        Ok(engine) => engine.probe().await.map_err(|error| error.to_string()),
        Err(failure) => Err(failure.to_string()),
    };
    let _ = std::fs::remove_dir_all(scratch);
    match probed {
        Ok(info) => report.good("restic", &format!("{} ({})", info.version, info.source)),
        Err(error) => report.bad("restic", &error),
    }
}

fn clock(report: &mut Report, identity: &Identity) {
    let now = SystemClock.now();
    let credential = &identity.credential;
    let agent = credential.agent();
    let (from, until) = (credential.not_before(), credential.not_after());
    if now < from {
        report.bad(
            "clock",
            &format!("shows {now}, but the certificate begins at {from}; set the clock"),
        );
    } else if now > until {
        report.bad(
            "identity",
            &format!("agent {agent}; the certificate ended at {until}, or the clock is wrong"),
        );
    } else {
        report.good(
            "identity",
            &format!("agent {agent}, certificate until {until}"),
        );
        report.good("clock", &now.to_string());
    }
}

async fn server(report: &mut Report, identity: &Identity) {
    let server = identity.server.to_string();
    match tokio::time::timeout(PATIENCE, TcpStream::connect(&server)).await {
        Ok(Ok(_)) => report.good("server", &format!("{server} accepts connections")),
        Ok(Err(error)) => report.bad("server", &format!("{server}: {error}")),
        Err(_) => report.bad("server", &format!("{server} does not answer")),
    }
}

/// Prints each line as it is known.
#[derive(Debug, Default)]
struct Report {
    failed: bool,
}

impl Report {
    fn good(&mut self, what: &str, text: &str) {
        self.line("ok  ", what, text);
    }

    fn bad(&mut self, what: &str, text: &str) {
        self.failed = true;
        self.line("FAIL", what, text);
    }

    fn line(&mut self, mark: &str, what: &str, text: &str) {
        // Who closed the output does not want to know.
        let _ = writeln!(std::io::stdout(), "{mark} {what}: {text}");
    }

    fn end(&self) -> ExitCode {
        match self.failed {
            false => ExitCode::SUCCESS,
            true => ExitCode::FAILURE,
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
