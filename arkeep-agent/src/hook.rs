//! `arkeep-agent hook`: judging and signing, away from any server.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;

use arkeep_core::{Clock, SystemClock};
use arkeep_hooks::hook::SetError;
use arkeep_hooks::signed::{SigningKey, Statement};
use arkeep_hooks::{Command, HookRefusal, HookSet, HookSpec, Phase, RawHook, RawHookSet};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::Failure;
use crate::command::{HookCommand, Signing};

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

/// What a line may hold. Other members are left to whoever wrote them.
#[derive(Debug, Deserialize)]
struct Line {
    exec: Option<Vec<String>>,
    shell: Option<String>,
    timeout: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
enum Verdict {
    /// A shell line in its one spelling, or the program and its arguments.
    Accept { canonical: Value },
    Reject {
        rule: &'static str,
        span: Option<[usize; 2]>,
        hint: String,
    },
}

/// Where the answers go.
struct Streams<'a, A, P> {
    answers: &'a mut A,
    person: Option<P>,
}

/// Answers each line; true when all were accepted.
fn check(
    input: &mut impl Read,
    streams: &mut Streams<'_, impl Write, impl Write>,
) -> std::io::Result<bool> {
    let mut input = BufReader::new(input);
    let mut all_accepted = true;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut input)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(all_accepted);
        }
        let whole = line.ends_with(b"\n") || u64::try_from(read).is_ok_and(|n| n < LONGEST_LINE);
        if !whole {
            input.skip_until(b'\n')?;
        }
        let (verdict, picture) = match whole {
            true => judge(&line),
            false => (not_json("the line is too long"), None),
        };
        all_accepted &= matches!(verdict, Verdict::Accept { .. });
        serde_json::to_writer(&mut *streams.answers, &verdict)?;
        streams.answers.write_all(b"\n")?;
        if let (Some(person), Some(picture)) = (&mut streams.person, picture) {
            streams.answers.flush()?;
            writeln!(person, "{picture}")?;
        }
    }
}

/// The verdict on a line, and a picture of what is wrong with it.
fn judge(line: &[u8]) -> (Verdict, Option<String>) {
    let line: Line = match serde_json::from_slice(line) {
        Ok(line) => line,
        Err(error) => return (not_json(&error.to_string()), None),
    };
    let shell = line.shell.clone().unwrap_or_default();
    let checked = HookSpec::check(RawHook {
        name: "hook".to_owned(),
        exec: line.exec,
        shell: line.shell,
        timeout: line.timeout.unwrap_or(300),
        signature: None,
    });
    let picture = checked
        .as_ref()
        .err()
        .and_then(|refusal| refusal.underline(&shell));
    let verdict = match checked.as_ref().map(HookSpec::command) {
        Ok(Command::Shell(script)) => Verdict::Accept {
            canonical: script.to_string().into(),
        },
        Ok(Command::Exec(argv)) => Verdict::Accept {
            canonical: argv.into(),
        },
        Ok(_) => Verdict::Reject {
            rule: "form",
            span: None,
            hint: "this program is too old for this kind of hook".to_owned(),
        },
        Err(refusal) => refused(refusal),
    };
    (verdict, picture)
}

fn refused(refusal: &HookRefusal) -> Verdict {
    Verdict::Reject {
        rule: refusal.rule().name(),
        span: refusal.span().map(|span| [span.start, span.end]),
        hint: refusal.hint().to_owned(),
    }
}

fn not_json(why: &str) -> Verdict {
    Verdict::Reject {
        rule: "json",
        span: None,
        hint: format!("write one hook in each line, as {{\"shell\": \"…\"}}: {why}"),
    }
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
    let hooks = HookSet::check(raw.clone()).map_err(|error| unfit(&raw, &error))?;
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

/// A list that cannot be signed, with a picture of its first fault.
fn unfit(raw: &RawHookSet, error: &SetError) -> Failure {
    let list = match error.phase {
        Phase::Before => &raw.before,
        Phase::After => &raw.after,
        Phase::OnFailure => &raw.on_failure,
    };
    let shell = list.get(error.index).and_then(|hook| hook.shell.as_deref());
    match error.refusal.underline(shell.unwrap_or_default()) {
        Some(picture) => Failure::Failed(format!("{error}\n{picture}")),
        None => Failure::Failed(error.to_string()),
    }
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
