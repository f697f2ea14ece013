//! Command words that a hook may not have, however they are quoted.

use std::ops::Range;

use crate::refusal::{HookRefusal, Rule};
use crate::script::Word;

/// Refuses command words that stand for the shell's own machinery.
///
/// `name` is the word without its quotes. In quotes a reserved word is an ordinary one; it is
/// refused all the same, so that a quote lost on the way cannot wake it.
pub(super) fn check(name: &str, span: Range<usize>) -> Result<(), HookRefusal> {
    if name.is_empty() {
        return Err(HookRefusal::at(Rule::CommandWord, span, "name a program"));
    }
    if is_reserved(name) {
        return Err(HookRefusal::at(
            Rule::Reserved,
            span,
            "this word begins a shell construct; put loops and conditions into a script on the \
             machine and name that script",
        ));
    }
    if reinterprets(name) {
        return Err(HookRefusal::at(
            Rule::Builtin,
            span,
            "this command changes what the shell does with the rest; name the program itself, \
             or put the line into a script on the machine",
        ));
    }
    if is_assignment(name) {
        return Err(assignment(span));
    }
    Ok(())
}

/// Refuses arguments by which a harmless command sets a variable.
pub(super) fn check_arguments(
    name: &str,
    arguments: &[Word],
    span: Range<usize>,
) -> Result<(), HookRefusal> {
    // bash's `printf -v NAME`; dash has no such option.
    let format = arguments.first().map(|word| word.literal().unwrap_or("-v"));
    if name == "printf" && format.is_some_and(|format| format.starts_with("-v")) {
        return Err(HookRefusal::at(
            Rule::Builtin,
            span,
            "give printf a plain format as its first argument",
        ));
    }
    Ok(())
}

/// A word that a shell would take for an assignment.
pub(super) fn assignment(span: Range<usize>) -> HookRefusal {
    HookRefusal::at(
        Rule::Assignment,
        span,
        "variables cannot be set in a hook; put them into a script on the machine, or write an \
         exec hook: {\"exec\": [\"/usr/bin/env\", \"NAME=value\", \"program\"]}",
    )
}

fn is_assignment(name: &str) -> bool {
    let Some((left, _)) = name.split_once('=') else {
        return false;
    };
    let left = left.strip_suffix('+').unwrap_or(left);
    let variable = left.split_once('[').map_or(left, |(variable, _)| variable);
    let mut letters = variable.chars();
    letters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reserved words of dash and of bash.
fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "!" | "[["
            | "]]"
            | "{"
            | "}"
            | "case"
            | "coproc"
            | "do"
            | "done"
            | "elif"
            | "else"
            | "esac"
            | "fi"
            | "for"
            | "function"
            | "if"
            | "in"
            | "select"
            | "then"
            | "time"
            | "until"
            | "while"
    )
}

/// What runs text as commands, looks commands up in another way, or changes variables, options and
/// names of the shell. The second half is not dangerous in itself; but what follows it would no
/// longer be what was judged.
fn reinterprets(name: &str) -> bool {
    matches!(
        name,
        "." | "alias"
            | "builtin"
            | "command"
            | "eval"
            | "exec"
            | "export"
            | "set"
            | "source"
            | "trap"
    ) || matches!(
        name,
        "bind"
            | "break"
            | "compgen"
            | "complete"
            | "compopt"
            | "continue"
            | "declare"
            | "dirs"
            | "enable"
            | "fc"
            | "getopts"
            | "hash"
            | "history"
            | "let"
            | "local"
            | "logout"
            | "mapfile"
            | "popd"
            | "pushd"
            | "read"
            | "readarray"
            | "readonly"
            | "return"
            | "shift"
            | "shopt"
            | "suspend"
            | "typeset"
            | "unalias"
            | "unset"
            | "wait"
    )
}
