//! Hooks as they are written, and hooks as they are known to be well-formed.
//!
//! A [`RawHook`] is what somebody sent. [`HookSpec::check`] is the only way from there to a
//! [`HookSpec`], which is well-formed and says one thing only; it may still be something that
//! nobody wants to run. That question is a [`HookPolicy`](crate::HookPolicy)'s.
//!
//! ```
//! use arkeep_hooks::{Command, HookSpec, RawHook};
//!
//! let raw: RawHook = serde_json::from_str(
//!     r#"{"name": "dump", "exec": ["/usr/bin/pg_dump", "-Fc", "app"], "timeout": 600}"#,
//! )?;
//! let spec = HookSpec::check(raw)?;
//!
//! assert_eq!(spec.timeout().as_secs(), 600);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::judge::judge;
use crate::refusal::{HookRefusal, Rule};
use crate::script::ShellScript;

/// A hook as it came over the wire: typed, and otherwise unchecked.
///
/// Unknown members are refused, so that a misspelt `timeout` is an error and not five minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHook {
    /// What people call it.
    pub name: String,
    /// Program and arguments, run without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// A line for the plain shell subset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Seconds after which the hook and everything it started is killed.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
    /// A signature over the whole list that this hook belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// All hooks of one policy, as they came over the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHookSet {
    /// Run before the backup; a failure stops it.
    pub before: Vec<RawHook>,
    /// Run after the backup, whatever came of it.
    pub after: Vec<RawHook>,
    /// Run when the backup failed.
    pub on_failure: Vec<RawHook>,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the backup; a failure stops the job before restic starts.
    Before,
    /// After the backup, always.
    After,
    /// After a backup that failed.
    OnFailure,
}

impl Phase {
    /// The phases in the order in which a job meets them.
    pub const ALL: [Self; 3] = [Self::Before, Self::After, Self::OnFailure];

    /// The name used on the wire and in `BACKUP_PHASE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::OnFailure => "on_failure",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A well-formed hook.
///
/// Made by [`check`](Self::check) only, from a [`RawHook`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSpec {
    name: String,
    action: Action,
    timeout: Duration,
    signature: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Exec(Vec<String>),
    Shell(ShellScript),
}

/// What a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command<'a> {
    /// Program and arguments; no shell is involved at any point.
    Exec(&'a [String]),
    /// A line of the plain subset, for `/bin/sh`. Its `Display` is the text that runs.
    Shell(&'a ShellScript),
}

impl HookSpec {
    /// Checks the form of a hook.
    pub fn check(raw: RawHook) -> Result<Self, HookRefusal> {
        check_name(&raw.name)?;
        if !(1..=MAX_TIMEOUT).contains(&raw.timeout) {
            return Err(HookRefusal::new(
                Rule::Timeout,
                format!("write a timeout from 1 to {MAX_TIMEOUT} seconds"),
            ));
        }
        let action = match (raw.exec, raw.shell) {
            (Some(argv), None) => Action::Exec(check_argv(argv)?),
            (None, Some(line)) => Action::Shell(judge(&line)?),
            _ => {
                return Err(HookRefusal::new(
                    Rule::Form,
                    "give either `exec`, a list of program and arguments: \
                     {\"name\": \"dump\", \"exec\": [\"/usr/bin/pg_dump\", \"app\"]}, or `shell`, \
                     one line",
                ));
            }
        };
        Ok(Self {
            name: raw.name,
            action,
            timeout: Duration::from_secs(raw.timeout),
            signature: raw.signature,
        })
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it runs.
    pub fn command(&self) -> Command<'_> {
        match &self.action {
            Action::Exec(argv) => Command::Exec(argv),
            Action::Shell(script) => Command::Shell(script),
        }
    }

    /// How long it may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The signature that came with it; nobody has checked it yet.
    pub fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }
}

/// All well-formed hooks of one policy, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookSet {
    before: Vec<HookSpec>,
    after: Vec<HookSpec>,
    on_failure: Vec<HookSpec>,
}

/// Hooks of a policy are not well-formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(faults))]
pub struct SetError {
    faults: Vec<HookFault>,
}

/// One hook of a policy that is not well-formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hooks.{phase}[{index}]: {refusal}")]
#[non_exhaustive]
pub struct HookFault {
    /// The list it is in.
    pub phase: Phase,
    /// Its place in that list, from 0.
    pub index: usize,
    /// What is wrong with it.
    #[source]
    pub refusal: HookRefusal,
}

impl SetError {
    /// Every hook that is not well-formed, in the order of the lists. There is at least one.
    pub fn faults(&self) -> &[HookFault] {
        &self.faults
    }
}

fn lines(faults: &[HookFault]) -> String {
    let lines: Vec<_> = faults.iter().map(HookFault::to_string).collect();
    lines.join("\n")
}

impl HookSet {
    /// Checks every hook of a policy, and names all that are not well-formed.
    pub fn check(raw: RawHookSet) -> Result<Self, SetError> {
        let mut faults = Vec::new();
        let mut list = |phase, raw| check_list(phase, raw, &mut faults);
        let set = Self {
            before: list(Phase::Before, raw.before),
            after: list(Phase::After, raw.after),
            on_failure: list(Phase::OnFailure, raw.on_failure),
        };
        if faults.is_empty() {
            Ok(set)
        } else {
            Err(SetError { faults })
        }
    }

    /// The hooks of one phase, in the order in which they run.
    pub fn phase(&self, phase: Phase) -> &[HookSpec] {
        match phase {
            Phase::Before => &self.before,
            Phase::After => &self.after,
            Phase::OnFailure => &self.on_failure,
        }
    }

    /// Whether the policy has no hook at all.
    pub fn is_empty(&self) -> bool {
        Phase::ALL.iter().all(|phase| self.phase(*phase).is_empty())
    }
}

/// The hooks that are well-formed; the others are noted.
fn check_list(phase: Phase, raw: Vec<RawHook>, faults: &mut Vec<HookFault>) -> Vec<HookSpec> {
    let mut fault = |index, refusal| {
        faults.push(HookFault {
            phase,
            index,
            refusal,
        });
    };
    if raw.len() > MAX_HOOKS {
        let hint = format!("keep to {MAX_HOOKS} hooks for each phase");
        fault(MAX_HOOKS, HookRefusal::new(Rule::TooMany, hint));
        return Vec::new();
    }
    let mut specs = Vec::with_capacity(raw.len());
    for (index, hook) in raw.into_iter().enumerate() {
        match HookSpec::check(hook) {
            Ok(spec) => specs.push(spec),
            Err(refusal) => fault(index, refusal),
        }
    }
    specs
}

fn check_name(name: &str) -> Result<(), HookRefusal> {
    let plain = name
        .chars()
        .all(|c| c == ' ' || !(c.is_whitespace() || c.is_control()));
    if name.trim().is_empty() || name.len() > MAX_NAME || !plain {
        return Err(HookRefusal::new(
            Rule::Name,
            format!("give the hook a name of 1 to {MAX_NAME} printable bytes"),
        ));
    }
    Ok(())
}

fn check_argv(argv: Vec<String>) -> Result<Vec<String>, HookRefusal> {
    let plain = |path: &str| {
        path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
                && !rest.chars().any(char::is_control)
        })
    };
    if !argv.first().is_some_and(|program| plain(program)) {
        return Err(HookRefusal::new(
            Rule::Program,
            "name the program by its absolute path, without `.`, `..` or doubled slashes: \
             \"/usr/bin/pg_dump\"",
        ));
    }
    let bytes: usize = argv.iter().map(String::len).sum();
    if argv.len() > MAX_ARGUMENTS
        || bytes > MAX_ARGUMENT_BYTES
        || argv.iter().any(|arg| arg.contains('\0'))
    {
        return Err(HookRefusal::new(
            Rule::Argument,
            format!(
                "keep to {MAX_ARGUMENTS} arguments and {MAX_ARGUMENT_BYTES} bytes in all, \
                 without NUL; put anything longer into a script on the machine"
            ),
        ));
    }
    Ok(argv)
}

fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT
}

const DEFAULT_TIMEOUT: u64 = 300;
const MAX_TIMEOUT: u64 = 86_400;
const MAX_NAME: usize = 128;
const MAX_HOOKS: usize = 64;
const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Result<RawHook, serde_json::Error> {
        serde_json::from_str(json)
    }

    mod raw_hook {
        use super::*;

        #[test]
        fn has_five_minutes_unless_it_says_otherwise() -> Result<(), serde_json::Error> {
            assert_eq!(raw(r#"{"name":"a","exec":["/bin/true"]}"#)?.timeout, 300);
            Ok(())
        }

        #[test]
        fn refuses_members_it_does_not_know() {
            assert!(raw(r#"{"name":"a","exec":["/bin/true"],"timout":5}"#).is_err());
            assert!(serde_json::from_str::<RawHookSet>(r#"{"befor":[]}"#).is_err());
        }
    }

    mod check {
        use super::*;

        fn rule_of(json: &str) -> Rule {
            HookSpec::check(raw(json).unwrap()).unwrap_err().rule()
        }

        #[test]
        fn refuses_a_hook_that_is_both_or_neither() {
            assert_eq!(rule_of(r#"{"name":"a"}"#), Rule::Form);
            assert_eq!(
                rule_of(r#"{"name":"a","exec":["/bin/true"],"shell":"true"}"#),
                Rule::Form
            );
        }

        #[test]
        fn refuses_programs_that_are_not_plain_absolute_paths() {
            for program in [
                "",
                "true",
                "./true",
                "/",
                "/bin/../sh",
                "/bin//sh",
                "/bin/",
                "/bin/./sh",
                "/a\\nb",
            ] {
                let json = format!(r#"{{"name":"a","exec":["{program}"]}}"#);
                assert_eq!(rule_of(&json), Rule::Program, "{program:?}");
            }
            assert_eq!(rule_of(r#"{"name":"a","exec":[]}"#), Rule::Program);
        }

        #[test]
        fn refuses_nul_in_arguments() {
            assert_eq!(
                rule_of(r#"{"name":"a","exec":["/bin/echo","a\u0000b"]}"#),
                Rule::Argument
            );
        }

        #[test]
        fn refuses_timeouts_of_nothing_and_of_more_than_a_day() {
            assert_eq!(
                rule_of(r#"{"name":"a","exec":["/bin/true"],"timeout":0}"#),
                Rule::Timeout
            );
            assert_eq!(
                rule_of(r#"{"name":"a","exec":["/bin/true"],"timeout":86401}"#),
                Rule::Timeout
            );
        }

        #[test]
        fn refuses_names_that_do_not_print() {
            assert_eq!(rule_of(r#"{"name":" ","exec":["/bin/true"]}"#), Rule::Name);
            assert_eq!(
                rule_of(r#"{"name":"a\nb","exec":["/bin/true"]}"#),
                Rule::Name
            );
            for sign in ["\\u0007", "\\u2003"] {
                let json = format!(r#"{{"name":"a{sign}b","exec":["/bin/true"]}}"#);
                assert_eq!(rule_of(&json), Rule::Name, "{sign}");
            }
        }

        #[test]
        fn keeps_to_its_limits_exactly() {
            let rule = |name: usize, arguments: Vec<String>| {
                let exec = std::iter::once("/x".to_owned()).chain(arguments);
                let hook = RawHook {
                    name: "n".repeat(name),
                    exec: Some(exec.collect()),
                    shell: None,
                    timeout: 5,
                    signature: None,
                };
                HookSpec::check(hook).err().map(|refusal| refusal.rule())
            };
            let long = |bytes: usize| vec!["a".repeat(bytes)];

            assert_eq!(rule(MAX_NAME, Vec::new()), None);
            assert_eq!(rule(MAX_NAME + 1, Vec::new()), Some(Rule::Name));
            assert_eq!(rule(1, vec![String::new(); MAX_ARGUMENTS - 1]), None);
            assert_eq!(
                rule(1, vec![String::new(); MAX_ARGUMENTS]),
                Some(Rule::Argument)
            );
            assert_eq!(rule(1, long(MAX_ARGUMENT_BYTES - "/x".len())), None);
            assert_eq!(
                rule(1, long(MAX_ARGUMENT_BYTES - "/x".len() + 1)),
                Some(Rule::Argument)
            );
        }

        #[test]
        fn knows_whether_there_is_any() {
            let hook = raw(r#"{"name":"a","exec":["/bin/true"]}"#).unwrap();
            let one = RawHookSet {
                on_failure: vec![hook],
                ..RawHookSet::default()
            };

            assert!(HookSet::check(RawHookSet::default()).unwrap().is_empty());
            assert!(!HookSet::check(one).unwrap().is_empty());
        }

        #[test]
        fn names_the_place_of_every_bad_hook() {
            let set: RawHookSet = serde_json::from_str(
                r#"{"after": [{"name":"a","exec":["/bin/true"]},{"name":"b","exec":["true"]}],
                    "before": [{"name":"c","shell":"id &"}],
                    "on_failure": [{"name":"","exec":["/bin/true"]}]}"#,
            )
            .unwrap();

            let error = HookSet::check(set).unwrap_err();

            let places: Vec<_> = error
                .faults()
                .iter()
                .map(|fault| (fault.phase, fault.index, fault.refusal.rule()))
                .collect();
            assert_eq!(
                places,
                [
                    (Phase::Before, 0, Rule::Background),
                    (Phase::After, 1, Rule::Program),
                    (Phase::OnFailure, 0, Rule::Name),
                ]
            );
            let text = error.to_string();
            assert!(text.starts_with("hooks.before[0]: hook refused (background): "));
            assert!(text.contains("\nhooks.after[1]: hook refused (program): "));
        }

        #[test]
        fn refuses_a_list_of_more_hooks_than_a_phase_may_have() {
            let hook = raw(r#"{"name":"a","exec":["/bin/true"]}"#).unwrap();
            let set = |count| RawHookSet {
                after: vec![hook.clone(); count],
                ..RawHookSet::default()
            };

            assert!(HookSet::check(set(64)).is_ok());
            let error = HookSet::check(set(65)).unwrap_err();
            let rules: Vec<_> = error
                .faults()
                .iter()
                .map(|fault| fault.refusal.rule())
                .collect();
            assert_eq!(rules, [Rule::TooMany]);
        }
    }
}
