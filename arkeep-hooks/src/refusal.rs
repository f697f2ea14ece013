//! Why a hook was refused, and what to write instead.
//!
//! A refusal is read by two people: an administrator who typed the hook into a form, and an
//! operator who finds it in a job log at night. For both it names the rule, the bytes that broke
//! it where there are such, and the next step.

use std::fmt;
use std::ops::Range;

/// A hook that may not run, as it stands or on this agent.
///
/// Nothing was run. The text never quotes the hook; [`underline`](Self::underline) shows where in it
/// the fault lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRefusal {
    rule: Rule,
    span: Option<Range<usize>>,
    hint: String,
}

impl HookRefusal {
    pub(crate) fn new(rule: Rule, hint: impl Into<String>) -> Self {
        Self {
            rule,
            span: None,
            hint: hint.into(),
        }
    }

    pub(crate) fn at(rule: Rule, span: Range<usize>, hint: impl Into<String>) -> Self {
        Self {
            rule,
            span: Some(span),
            hint: hint.into(),
        }
    }

    /// The same refusal with a span that whole characters of `line` fill.
    pub(crate) fn within(mut self, line: &str) -> Self {
        if let Some(span) = &mut self.span {
            while !line.is_char_boundary(span.start.min(line.len())) {
                span.start -= 1;
            }
            while !line.is_char_boundary(span.end.min(line.len())) {
                span.end += 1;
            }
            span.end = span.end.min(line.len());
            span.start = span.start.min(span.end);
        }
        self
    }

    /// A refusal by a policy of your own.
    ///
    /// `hint` says what to do next.
    pub fn by_policy(hint: impl Into<String>) -> Self {
        Self::new(Rule::Policy, hint)
    }

    /// The rule that was broken.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The bytes of the shell text that broke it; nothing when the hook as a whole is meant.
    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    /// What to do next.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for HookRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hook refused ({}): {}", self.rule.name(), self.hint)
    }
}

impl std::error::Error for HookRefusal {}

/// What a refused hook broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Not exactly one of `exec` and `shell`.
    Form,
    /// The name is empty, too long, or has characters that do not print.
    Name,
    /// The timeout is zero or above a day.
    Timeout,
    /// The program of an `exec` hook is not a plain absolute path.
    Program,
    /// The arguments of an `exec` hook are too many, too long, or contain NUL.
    Argument,
    /// More hooks than a policy may have.
    TooMany,
    /// A shell line is empty.
    Empty,
    /// A shell line is longer than 1024 bytes.
    Length,
    /// More operators, or more signs in all, than fit into a line that a person can read.
    Crowded,
    /// A line break, a tab, an unusual space or an invisible character.
    Character,
    /// Two dots in a row.
    Traversal,
    /// A variable of restic, rclone or ours.
    InternalVariable,
    /// `$(…)` or backticks.
    Substitution,
    /// `<(…)` or `>(…)`.
    ProcessSubstitution,
    /// Arithmetic in any form.
    Arithmetic,
    /// Not a complete shell command.
    Syntax,
    /// The program is not named by plain text.
    CommandWord,
    /// A command that changes what the shell does.
    Builtin,
    /// A reserved word in the place of a program.
    Reserved,
    /// A variable is set.
    Assignment,
    /// A loop, a condition or a group.
    Compound,
    /// A function.
    Function,
    /// `!` before a command.
    Negation,
    /// `&` after a command.
    Background,
    /// A redirection other than the plain ones.
    Redirection,
    /// A here-document or here-string.
    HereDocument,
    /// A file name pattern.
    Glob,
    /// A tilde without quotes.
    Tilde,
    /// A brace without quotes.
    Brace,
    /// A backslash at the end.
    Backslash,
    /// Any other expansion, or a variable that is not documented.
    Expansion,
    /// `$'…'` or `$"…"`.
    Quoting,
    /// A comment.
    Comment,
    /// Two readers did not understand it in the same way.
    Unsure,
    /// Hooks are switched off on this agent.
    Off,
    /// The program and its arguments are not in this agent's list.
    NotListed,
    /// The hook has no signature, and this agent wants one.
    Unsigned,
    /// The signature is not by a trusted key for this list on this agent.
    Signature,
    /// The signature is not valid now.
    Expired,
    /// A newer list was signed.
    Replayed,
    /// The agent does not know which list is the newest.
    State,
    /// A policy that is not of this crate refused.
    Policy,
}

impl Rule {
    /// The rule's name in answers of the API and in `hook check`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Name => "name",
            Self::Timeout => "timeout",
            Self::Program => "program",
            Self::Argument => "argument",
            Self::TooMany => "too-many",
            Self::Empty => "empty",
            Self::Length => "length",
            Self::Crowded => "crowded",
            Self::Character => "character",
            Self::Traversal => "traversal",
            Self::InternalVariable => "internal-variable",
            Self::Substitution => "substitution",
            Self::ProcessSubstitution => "process-substitution",
            Self::Arithmetic => "arithmetic",
            Self::Syntax => "syntax",
            Self::CommandWord => "command-word",
            Self::Builtin => "builtin",
            Self::Reserved => "reserved-word",
            Self::Assignment => "assignment",
            Self::Compound => "compound-command",
            Self::Function => "function",
            Self::Negation => "negation",
            Self::Background => "background",
            Self::Redirection => "redirection",
            Self::HereDocument => "here-document",
            Self::Glob => "glob",
            Self::Tilde => "tilde",
            Self::Brace => "brace",
            Self::Backslash => "backslash",
            Self::Expansion => "expansion",
            Self::Quoting => "quoting",
            Self::Comment => "comment",
            Self::Unsure => "unsure",
            Self::Off => "off",
            Self::NotListed => "not-listed",
            Self::Unsigned => "unsigned",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::Replayed => "replayed",
            Self::State => "state",
            Self::Policy => "policy",
        }
    }
}
