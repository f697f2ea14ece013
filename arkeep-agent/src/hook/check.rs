//! `arkeep-agent hook check`: one answer for each line.

use std::io::{BufRead, BufReader, Read, Write};

use arkeep_hooks::hook::HookFault;
use arkeep_hooks::{Command, HookRefusal, HookSet, HookSpec, Phase, RawHook, RawHookSet};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LONGEST_LINE;

/// What a line may hold. Other members are left to whoever wrote them.
#[derive(Debug, Deserialize)]
struct Line {
    exec: Option<Vec<String>>,
    shell: Option<String>,
    timeout: Option<u64>,
    /// With one of these, and without a command, it is the `hooks` of a whole policy.
    before: Option<IgnoredAny>,
    after: Option<IgnoredAny>,
    on_failure: Option<IgnoredAny>,
}

impl Line {
    fn is_set(&self) -> bool {
        let lists = [&self.before, &self.after, &self.on_failure];
        self.exec.is_none() && self.shell.is_none() && lists.iter().any(|list| list.is_some())
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
enum Verdict {
    /// A shell line in its one spelling, or the program and its arguments; for a whole policy, lists
    /// of them.
    Accept { canonical: Value },
    Reject {
        #[serde(flatten)]
        finding: Finding,
        /// For a whole policy, every hook that is refused.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        errors: Vec<FieldError>,
    },
}

#[derive(Debug, Clone, Serialize)]
struct Finding {
    rule: &'static str,
    span: Option<[usize; 2]>,
    hint: String,
}

/// As the server names it.
#[derive(Debug, Serialize)]
struct FieldError {
    field: String,
    #[serde(flatten)]
    finding: Finding,
}

/// Where the answers go.
pub(super) struct Streams<'a, A, P> {
    pub(super) answers: &'a mut A,
    pub(super) person: Option<P>,
}

/// Answers each line; true when all were accepted.
pub(super) fn check(
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
    match serde_json::from_slice::<Line>(line) {
        Ok(hooks) if hooks.is_set() => match serde_json::from_slice(line) {
            Ok(raw) => judge_set(&raw),
            Err(error) => (not_json(&error.to_string()), None),
        },
        Ok(hook) => judge_hook(hook),
        Err(error) => (not_json(&error.to_string()), None),
    }
}

fn judge_hook(line: Line) -> (Verdict, Option<String>) {
    let shell = line.shell.clone().unwrap_or_default();
    let checked = HookSpec::check(RawHook {
        name: "hook".to_owned(),
        exec: line.exec,
        shell: line.shell,
        timeout: line.timeout.unwrap_or(300),
        signature: None,
    });
    match checked {
        Ok(spec) => (accept(canonical(&spec)), None),
        Err(refusal) => (reject(finding(&refusal)), refusal.underline(&shell)),
    }
}

fn judge_set(raw: &RawHookSet) -> (Verdict, Option<String>) {
    let hooks = match HookSet::check(raw.clone()) {
        Ok(hooks) => hooks,
        Err(error) => {
            let faults = error.faults();
            return (reject_set(faults), Some(pictures(raw, faults)));
        }
    };
    let lists = Phase::ALL.iter().map(|phase| {
        let list: Option<Vec<_>> = hooks.phase(*phase).iter().map(canonical).collect();
        Some((phase.name().to_owned(), list?.into()))
    });
    (
        accept(lists.collect::<Option<_>>().map(Value::Object)),
        None,
    )
}

/// The one spelling; nothing for a kind of hook that came after this program.
fn canonical(spec: &HookSpec) -> Option<Value> {
    match spec.command() {
        Command::Exec(argv) => Some(argv.into()),
        Command::Shell(script) => Some(script.to_string().into()),
        _ => None,
    }
}

fn accept(canonical: Option<Value>) -> Verdict {
    match canonical {
        Some(canonical) => Verdict::Accept { canonical },
        None => reject(Finding {
            rule: "form",
            span: None,
            hint: "this program is too old for this kind of hook".to_owned(),
        }),
    }
}

fn reject(finding: Finding) -> Verdict {
    Verdict::Reject {
        finding,
        errors: Vec::new(),
    }
}

/// The first is the verdict's own, so that whoever reads no further finds what a hook alone has.
fn reject_set(faults: &[HookFault]) -> Verdict {
    let errors: Vec<_> = faults
        .iter()
        .map(|fault| {
            let finding = finding(&fault.refusal);
            let text = finding.span.map_or("", |_| ".shell");
            FieldError {
                field: format!("hooks.{}[{}]{text}", fault.phase, fault.index),
                finding,
            }
        })
        .collect();
    match errors.first() {
        Some(first) => Verdict::Reject {
            finding: first.finding.clone(),
            errors,
        },
        None => not_json("there is no hook"),
    }
}

fn finding(refusal: &HookRefusal) -> Finding {
    Finding {
        rule: refusal.rule().name(),
        span: refusal.span().map(|span| [span.start, span.end]),
        hint: refusal.hint().to_owned(),
    }
}

fn not_json(why: &str) -> Verdict {
    reject(Finding {
        rule: "json",
        span: None,
        hint: format!("write one hook in each line, as {{\"shell\": \"…\"}}: {why}"),
    })
}

/// Each fault, and below it the place in its line.
pub(super) fn pictures(raw: &RawHookSet, faults: &[HookFault]) -> String {
    let picture = |fault: &HookFault| {
        let list = match fault.phase {
            Phase::Before => &raw.before,
            Phase::After => &raw.after,
            Phase::OnFailure => &raw.on_failure,
        };
        let shell = list.get(fault.index).and_then(|hook| hook.shell.as_deref());
        match fault.refusal.underline(shell.unwrap_or_default()) {
            Some(picture) => format!("{fault}\n{picture}"),
            None => fault.to_string(),
        }
    };
    faults.iter().map(picture).collect::<Vec<_>>().join("\n")
}
