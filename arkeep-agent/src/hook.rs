//! `arkeep-agent hook`: judging and signing, away from any server.

mod check;

use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;

use arkeep_core::{Clock, SystemClock};
use arkeep_hooks::signed::{SigningKey, Statement};
use arkeep_hooks::{HookSet, RawHookSet};

use crate::app::Failure;
use crate::command::{HookCommand, Signing};

use check::{Streams, check, pictures};

pub(crate) fn execute(command: &HookCommand) -> Result<ExitCode, Failure> {
    match command {
        HookCommand::Check => {
            let mut streams = Streams {
                answers: &mut std::io::stdout().lock(),
                // Programs read the answers; a person wants to see the place.
                person: std::io::stderr()
                    .is_terminal()
                    .then(|| std::io::stderr().lock()),
            };
            let accepted =
                check(&mut std::io::stdin().lock(), &mut streams).map_err(Failure::failed)?;
            return Ok(match accepted {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            });
        }
        HookCommand::Keygen { key_file } => keygen(key_file)?,
        HookCommand::Sign(signing) => sign(signing)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn keygen(file: &Path) -> Result<(), Failure> {
    let key = SigningKey::generate().map_err(Failure::failed)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut out| {
            out.write_all(key.secret_text().as_bytes())?;
            out.write_all(b"\n")?;
            out.sync_all()
        });
    written.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    say(&key.public().to_string())
}

fn sign(signing: &Signing) -> Result<(), Failure> {
    let key = read_key(&signing.key_file)?;
    let mut text = String::new();
    std::io::stdin()
        .take(LONGEST_LINE)
        .read_to_string(&mut text)
        .map_err(Failure::failed)?;
    let mut raw: RawHookSet = serde_json::from_str(&text)
        .map_err(|error| Failure::Failed(format!("not the hooks of a policy: {error}")))?;
    let hooks = HookSet::check(raw.clone())
        .map_err(|error| Failure::Failed(pictures(&raw, error.faults())))?;
    let now = SystemClock.now();
    let (agent, policy) = (signing.agent.to_string(), signing.policy.to_string());
    let statement = Statement {
        agent: &agent,
        policy: &policy,
        sequence: match signing.sequence {
            Some(sequence) => sequence,
            None => u64::try_from(now.as_unix_seconds()).unwrap_or(0),
        },
        // A machine whose clock is a little behind is to run them too.
        not_before_millis: now.minus(HOUR).as_unix_millis(),
        not_after_millis: now.plus(HOUR * 24 * signing.valid_days).as_unix_millis(),
    };
    raw.sign(&key.sign(&hooks, &statement).map_err(Failure::failed)?);
    say(&serde_json::to_string(&raw).map_err(Failure::failed)?)
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let failed = |text: String| Failure::Failed(format!("{}: {text}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let found = file.metadata().map_err(|error| failed(error.to_string()))?;
    if found.mode() & 0o077 != 0 {
        return Err(failed(
            "others may read the key; run `chmod 600` on it".to_owned(),
        ));
    }
    let mut text = String::with_capacity(LONGEST_KEY);
    let read = file.take(LONGEST_KEY as u64).read_to_string(&mut text);
    let text = arkeep_core::SecretString::from(text);
    read.map_err(|error| failed(error.to_string()))?;
    SigningKey::from_secret_text(arkeep_core::ExposeSecret::expose_secret(&text).trim())
        .map_err(|error| failed(error.to_string()))
}

fn say(line: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}").map_err(Failure::failed)
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(60 * 60);
const LONGEST_LINE: u64 = 1 << 20;
const LONGEST_KEY: usize = 1_024;
