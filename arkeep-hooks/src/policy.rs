//! Who decides what an agent runs: the agent's owner.
//!
//! The server judges the form of a hook, and a server can be taken over. So the agent asks a
//! policy of its own, from a file that the server cannot reach, before anything runs. An
//! [`ApprovedHook`] is the trace of that decision, and the only thing that a
//! [`HookRunner`](crate::HookRunner) takes.
//!
//! | policy        | lets through                                                |
//! |---------------|-------------------------------------------------------------|
//! | [`Off`]       | nothing; the default                                        |
//! | [`AllowList`] | exact programs with arguments of known patterns             |
//! | `Signed`      | what a person signed, away from the server (feature `signed`) |
//! | [`Any`]       | every well-formed hook: the server is trusted with commands |
//! | [`AnyOf`](crate::AnyOf), [`AllOf`](crate::AllOf) | what one of several policies allows; what each does |
//!
//! A policy of your own checks what it likes and then asks one of these, most often [`Any`]:
//!
//! ```
//! use arkeep_hooks::{Any, ApprovedHook, HookPolicy, HookRefusal, HookSpec, Phase, Review};
//!
//! #[derive(Debug)]
//! struct OnlyBefore;
//!
//! impl HookPolicy for OnlyBefore {
//!     fn review(&self, spec: &HookSpec, at: &Review<'_>) -> Result<ApprovedHook, HookRefusal> {
//!         if at.phase != Phase::Before {
//!             return Err(HookRefusal::by_policy("move this hook to `before`"));
//!         }
//!         Any.review(spec, at)
//!     }
//! }
//! ```

use std::fmt;

use crate::hook::{Command, HookSet, HookSpec, Phase};
use crate::refusal::{HookRefusal, Rule};

/// Where a hook is about to run.
#[derive(Debug, Clone, Copy)]
pub struct Review<'a> {
    /// The id of the agent that asks: its own, from its certificate.
    pub agent: &'a str,
    /// The id of the backup policy that the hook belongs to.
    pub policy: &'a str,
    /// The list it is in.
    pub phase: Phase,
    /// Every hook of that backup policy. A signature covers them all.
    pub hooks: &'a HookSet,
    /// Now, in milliseconds since 1970. A signature has a last day.
    pub now_unix_millis: i64,
}

/// Decides whether a well-formed hook may run here.
///
/// Implement this to add a rule of your own; see the [module](self) for how. Ready-made are
/// [`Off`], [`AllowList`] and [`Any`].
///
/// # Security
///
/// The ways to be wrong are not alike. Refusing a good hook costs a backup window, with a line in
/// the job log that says why. Approving a bad one runs a stranger's command as the agent. When
/// in doubt, or when something that the decision needs cannot be read, refuse.
///
/// # Cost
///
/// Runs once for each hook of a job. It may read a small file; it must not wait for a network.
pub trait HookPolicy: fmt::Debug + Send + Sync {
    /// Approves `spec` for this phase of this policy on this agent, and for nothing else.
    fn review(&self, spec: &HookSpec, at: &Review<'_>) -> Result<ApprovedHook, HookRefusal>;
}

/// A hook that a policy let through.
///
/// There is no way to make one but [`HookPolicy::review`], and a runner takes nothing else:
///
/// ```compile_fail
/// # use arkeep_hooks::{HookContext, HookRunner, HookSpec};
/// # async fn run(runner: &dyn HookRunner, spec: HookSpec, context: HookContext) {
/// runner.run(&spec, &context).await; // a spec is not an approval
/// # }
/// ```
///
/// ```compile_fail
/// # use arkeep_hooks::ApprovedHook;
/// let approved: ApprovedHook = serde_json::from_str("{}").unwrap(); // nor is any text
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovedHook {
    spec: HookSpec,
    policy: String,
    phase: Phase,
}

impl ApprovedHook {
    pub(crate) fn mint(spec: &HookSpec, at: &Review<'_>) -> Self {
        Self {
            spec: spec.clone(),
            policy: at.policy.to_owned(),
            phase: at.phase,
        }
    }

    /// A hook that does nothing, to see what a hook would be given here.
    #[cfg(all(feature = "process", unix))]
    pub(crate) fn trial() -> std::io::Result<(Self, crate::run::HookContext)> {
        let raw = crate::hook::RawHook {
            name: "trial".to_owned(),
            exec: Some(vec!["/bin/true".to_owned()]),
            shell: None,
            timeout: 10,
            signature: None,
        };
        let spec = HookSpec::check(raw).map_err(std::io::Error::other)?;
        let context = crate::run::HookContext {
            policy: "trial".to_owned(),
            job: "trial".to_owned(),
            phase: Phase::Before,
            state: "running".to_owned(),
            attempt: 1,
            secrets: crate::redact::Secrets::default(),
            cancel: crate::cancel::CancelSignal::new(),
        };
        Ok((
            Self {
                spec,
                policy: context.policy.clone(),
                phase: context.phase,
            },
            context,
        ))
    }

    /// What was approved.
    pub fn spec(&self) -> &HookSpec {
        &self.spec
    }

    /// The backup policy it was approved for.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The phase it was approved for.
    pub fn phase(&self) -> Phase {
        self.phase
    }
}

/// Runs nothing. This is what an agent does until its owner says otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct Off;

impl HookPolicy for Off {
    fn review(&self, _: &HookSpec, _: &Review<'_>) -> Result<ApprovedHook, HookRefusal> {
        Err(HookRefusal::new(
            Rule::Off,
            "hooks are off on this agent; to allow them, set `policy` under `[hooks]` in the \
             agent's own agent.toml to \"allow-list\", \"signed\" or \"any\", and restart the agent",
        ))
    }
}

/// Runs every well-formed hook.
///
/// Whoever controls the server then controls the agent's user on this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Any;

impl HookPolicy for Any {
    fn review(&self, spec: &HookSpec, at: &Review<'_>) -> Result<ApprovedHook, HookRefusal> {
        Ok(ApprovedHook::mint(spec, at))
    }
}

/// Runs `exec` hooks whose program and arguments are in a list.
///
/// An entry is a program followed by patterns, one for each argument. The program is compared
/// byte for byte. In a pattern, `*` stands for any run of characters within its argument; a
/// pattern that is `*` alone, at the end of an entry, stands for any further arguments, also for
/// none. Shell hooks are never in the list: they redirect into files, and no entry says which.
///
/// ```
/// use arkeep_hooks::AllowList;
///
/// let list = AllowList::new(vec![vec!["/usr/bin/pg_dump".into(), "-Fc".into(), "*".into()]])?;
/// # Ok::<(), arkeep_hooks::policy::AllowListError>(())
/// ```
///
/// # Security
///
/// An entry gives the server everything the program can do with such arguments.
/// `["/usr/bin/tar", "*"]` is a shell, by way of `--to-command`.
#[derive(Debug, Clone)]
pub struct AllowList {
    entries: Vec<(String, Vec<String>)>,
}

/// An entry of an allow-list has no program, or one that is not an absolute path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} of the allow-list does not begin with the absolute path of a program")]
pub struct AllowListError {
    /// Its place in the list, from 0.
    pub index: usize,
}

impl AllowList {
    /// A list as it stands in `agent.toml`.
    pub fn new(entries: Vec<Vec<String>>) -> Result<Self, AllowListError> {
        let entries = entries
            .into_iter()
            .enumerate()
            .map(|(index, entry)| {
                let mut words = entry.into_iter();
                match words.next() {
                    Some(program) if program.starts_with('/') => Ok((program, words.collect())),
                    _ => Err(AllowListError { index }),
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    fn covers(&self, program: &str, arguments: &[String]) -> bool {
        self.entries
            .iter()
            .any(|(listed, patterns)| listed == program && arguments_match(patterns, arguments))
    }
}

impl HookPolicy for AllowList {
    fn review(&self, spec: &HookSpec, at: &Review<'_>) -> Result<ApprovedHook, HookRefusal> {
        let covered = match spec.command() {
            Command::Exec([program, arguments @ ..]) => self.covers(program, arguments),
            Command::Exec([]) | Command::Shell(_) => false,
        };
        if !covered {
            return Err(HookRefusal::new(
                Rule::NotListed,
                "this program with these arguments is not in `allow` under `[hooks]` in the \
                 agent's own agent.toml; add an entry there and restart the agent, or change the \
                 hook to one that is listed",
            ));
        }
        Ok(ApprovedHook::mint(spec, at))
    }
}

fn arguments_match(patterns: &[String], arguments: &[String]) -> bool {
    match (patterns, arguments) {
        ([last], _) if last == "*" => true,
        ([], []) => true,
        ([pattern, patterns @ ..], [argument, arguments @ ..]) => {
            pattern_matches(pattern, argument) && arguments_match(patterns, arguments)
        }
        _ => false,
    }
}

/// Greedy from the left: the first fit of each piece leaves the most room for the next, so one
/// pass decides and no pattern is slow.
fn pattern_matches(pattern: &str, argument: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == argument;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut left) = argument
        .strip_prefix(head)
        .and_then(|argument| argument.strip_suffix(tail))
    else {
        return false;
    };
    for piece in middle.split('*') {
        match left.split_once(piece) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::RawHook;

    fn spec(argv: &[&str]) -> HookSpec {
        HookSpec::check(RawHook {
            name: "hook".into(),
            exec: Some(argv.iter().map(|arg| (*arg).to_owned()).collect()),
            shell: None,
            timeout: 5,
            signature: None,
        })
        .unwrap()
    }

    fn review(policy: &dyn HookPolicy, argv: &[&str]) -> Result<ApprovedHook, HookRefusal> {
        let hooks = HookSet::default();
        let at = Review {
            agent: "agent",
            policy: "nightly",
            phase: Phase::Before,
            hooks: &hooks,
            now_unix_millis: 0,
        };
        policy.review(&spec(argv), &at)
    }

    /// H6
    #[test]
    fn off_refuses_everything_and_names_the_file_to_change() {
        let refusal = review(&Off, &["/bin/true"]).unwrap_err();

        assert_eq!(refusal.rule(), Rule::Off);
        assert!(refusal.hint().contains("agent.toml") && refusal.hint().contains("[hooks]"));
    }

    /// H6
    #[test]
    fn an_allow_list_is_searched_to_its_end() {
        let entries = [["/bin/a", "x"], ["/bin/b", "y"]];
        let entries = entries.map(|entry| entry.map(str::to_owned).to_vec());
        let list = AllowList::new(entries.to_vec()).unwrap();

        assert!(review(&list, &["/bin/a", "x"]).is_ok());
        assert!(review(&list, &["/bin/b", "y"]).is_ok());
        assert!(review(&list, &["/bin/a", "y"]).is_err());
        assert!(review(&list, &["/bin/b", "x"]).is_err());
    }

    /// H6
    #[test]
    fn an_approval_is_for_one_phase_of_one_policy() -> Result<(), HookRefusal> {
        let approved = review(&Any, &["/bin/true"])?;

        assert_eq!(
            (approved.policy(), approved.phase()),
            ("nightly", Phase::Before)
        );
        Ok(())
    }

    mod allow_list {
        use super::*;

        fn allows(entry: &[&str], argv: &[&str]) -> bool {
            let entry = entry.iter().map(|word| (*word).to_owned()).collect();
            review(&AllowList::new(vec![entry]).unwrap(), argv).is_ok()
        }

        /// H6
        #[test]
        fn compares_the_program_byte_for_byte() {
            assert!(allows(&["/bin/true"], &["/bin/true"]));
            assert!(!allows(&["/bin/true"], &["/bin/true2"]));
            assert!(!allows(&["/bin/*"], &["/bin/true"]));
        }

        /// H6
        #[test]
        fn takes_a_pattern_for_each_argument() {
            assert!(allows(&["/b", "stop", "db-*"], &["/b", "stop", "db-main"]));
            assert!(!allows(&["/b", "stop", "db-*"], &["/b", "stop", "web"]));
            assert!(!allows(
                &["/b", "stop", "db-*"],
                &["/b", "stop", "db-main", "web"]
            ));
            assert!(!allows(&["/b", "stop"], &["/b"]));
            assert!(!allows(&["/b"], &["/b", "stop"]));
        }

        /// H6
        #[test]
        fn takes_a_last_star_for_any_further_arguments() {
            assert!(allows(&["/b", "*"], &["/b"]));
            assert!(allows(&["/b", "*"], &["/b", "x", "y"]));
            assert!(!allows(&["/b", "*", "x"], &["/b", "y", "z"]));
            assert!(allows(&["/b", "*", "x"], &["/b", "y", "x"]));
        }

        /// H6
        #[test]
        fn lets_a_star_stand_for_any_run_of_characters() {
            for (pattern, argument, fits) in [
                ("a*b", "ab", true),
                ("a*b", "axxb", true),
                ("a*b", "a", false),
                ("ab*b", "ab", false),
                ("*.sql*", "x.sql.gz", true),
                ("*a*b*c", "xaybzc", true),
                ("*a*b*c", "xbyazc", false),
                ("**", "", true),
                ("a**b", "acb", true),
                ("aa*aa", "aaa", false),
            ] {
                assert_eq!(
                    allows(&["/b", pattern, "end"], &["/b", argument, "end"]),
                    fits,
                    "{pattern} against {argument}"
                );
            }
        }

        /// H6
        #[test]
        fn refuses_entries_that_name_no_program() {
            assert_eq!(
                AllowList::new(vec![vec![]]).unwrap_err(),
                AllowListError { index: 0 }
            );
            assert!(AllowList::new(vec![vec!["pg_dump".into()]]).is_err());
        }
    }
}
