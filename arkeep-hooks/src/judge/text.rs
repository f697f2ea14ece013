//! What the characters of a line give away before it is parsed.

use std::ops::Range;

use crate::chars::is_invisible;
use crate::refusal::{HookRefusal, Rule};

/// Refuses what no shell line may contain in any position, quoted or not.
pub(super) fn check(line: &str) -> Result<(), HookRefusal> {
    if line.trim().is_empty() {
        return Err(HookRefusal::at(
            Rule::Empty,
            0..line.len(),
            "write a command, or no hook",
        ));
    }
    invisible(line)?;
    substitution(line)?;
    if let Some(at) = line.find("..") {
        return Err(traversal(at..at + 2));
    }
    internal_variable(line)
}

/// Two dots in a row, however they were quoted.
pub(super) fn traversal(span: Range<usize>) -> HookRefusal {
    HookRefusal::at(
        Rule::Traversal,
        span,
        "write the whole path from / without two dots in a row, or write an exec hook",
    )
}

/// The start of the character that holds byte `at`.
pub(super) fn floor_char(line: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|at| line.is_char_boundary(*at))
        .unwrap_or(0)
}

fn invisible(line: &str) -> Result<(), HookRefusal> {
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    let odd = |c: char| is_invisible(c) || (c != ' ' && c.is_whitespace());
    match line.char_indices().find(|(_, c)| odd(*c)) {
        Some((at, c)) => Err(HookRefusal::at(
            Rule::Character,
            at..at + c.len_utf8(),
            format!(
                "remove U+{:04X}: line breaks, tabs, unusual spaces and invisible characters \
                 are not for hooks; one line, with `;` between commands",
                u32::from(c)
            ),
        )),
        None => Ok(()),
    }
}

fn substitution(line: &str) -> Result<(), HookRefusal> {
    let found = line.find("$(").map(|at| at..at + 2);
    let Some(span) = found.or_else(|| line.find('`').map(|at| at..at + 1)) else {
        return Ok(());
    };
    if line
        .get(span.start..)
        .is_some_and(|rest| rest.starts_with("$(("))
    {
        return Err(HookRefusal::at(
            Rule::Arithmetic,
            span.start..span.start + 3,
            "write the number itself, or do the sum in a script on the machine",
        ));
    }
    Err(HookRefusal::at(
        Rule::Substitution,
        span,
        "`$(` and backticks are refused even in single quotes; put the command into a script on \
         the machine and name that, or, if the characters are meant as they stand, write an exec \
         hook: {\"exec\": [\"/usr/bin/echo\", \"$(id)\"]}",
    ))
}

/// Finds `$RESTIC_`, `$RCLONE_` and `$ARKEEP_` behind any quotes, braces and backslashes, in any
/// case. This also refuses harmless text such as `'$RESTIC_X'`: nobody should have to think about
/// whether it is.
fn internal_variable(line: &str) -> Result<(), HookRefusal> {
    let mut dollar = None;
    for (at, c) in line.char_indices() {
        if c == '$' {
            // Of several dollars before one name, the first stands for all.
            dollar.get_or_insert(at);
        }
        if is_passed_over(c) {
            continue;
        }
        let Some(start) = dollar.take() else { continue };
        let rest = line.get(at..).unwrap_or_default();
        for prefix in ["RESTIC_", "RCLONE_", "ARKEEP_"] {
            if let Some(length) = begins(rest, prefix) {
                return Err(HookRefusal::at(
                    Rule::InternalVariable,
                    start..at + length,
                    "hooks do not see this variable; they see HOME, PATH, LANG and BACKUP_POLICY, \
                     BACKUP_JOB, BACKUP_PHASE, BACKUP_STATE, BACKUP_ATTEMPT",
                ));
            }
        }
    }
    Ok(())
}

/// The bytes in which `text` spells `prefix`, if it begins so.
fn begins(text: &str, prefix: &str) -> Option<usize> {
    let mut letters = text.char_indices().filter(|(_, c)| !is_passed_over(*c));
    let mut end = 0;
    for expected in prefix.chars() {
        let (place, c) = letters.next()?;
        if c.to_ascii_uppercase() != expected {
            return None;
        }
        end = place + 1;
    }
    Some(end)
}

fn is_passed_over(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\' | '{' | '}' | '$' | '!' | '#')
}
