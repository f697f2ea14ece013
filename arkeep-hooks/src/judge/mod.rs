//! Which shell lines are plain enough to run.
//!
//! A line is judged in five steps, and each may refuse it:
//!
//! 1. its characters, before anything is parsed (H1 of the requirements: nothing invisible, no
//!    substitution, no `..`, no variable of ours, in whatever quotes);
//! 2. what opens a construct outside quotes, more than [`MAX_OPERATORS`] operators, and more than
//!    [`MAX_SIGNS`] signs in all: what is left takes the parser a short time, whatever it is;
//! 3. a real shell parser reads its structure, and everything outside the plain subset is
//!    refused by name;
//! 4. a second reader of our own reads every word, and has to agree with the parser;
//! 5. what was understood is written down in canonical quoting, and a third reader, which knows
//!    that spelling and no other, has to find the same in it.
//!
//! What runs is the text of step 5.
//!
//! ```
//! use arkeep_hooks::judge::judge;
//!
//! let script = judge("pg_dump \"$BACKUP_POLICY\" | gzip > /var/backups/db.gz").unwrap();
//! assert_eq!(
//!     script.to_string(),
//!     "pg_dump \"${BACKUP_POLICY}\" | gzip 1> /var/backups/db.gz"
//! );
//!
//! let refusal = judge("pg_dump $(cat name)").unwrap_err();
//! assert_eq!(refusal.span(), Some(8..10));
//! ```
//!
//! # Security
//!
//! The judge is not a sandbox. An accepted line may run any program with any argument; it is
//! only sure to say one thing, to every reader. What may run is a
//! [`HookPolicy`](crate::HookPolicy)'s question, and what it may reach the runner's.

mod canonical;
mod names;
mod parts;
mod shape;
mod syntax;
mod text;
mod word;

use crate::refusal::{HookRefusal, Rule};
use crate::script::ShellScript;

pub use shape::{MAX_OPERATORS, MAX_SIGNS};

/// Judges a line by the plain subset.
///
/// # Cost
///
/// Linear in the line, which has at most [`MAX_BYTES`] bytes.
pub fn judge(line: &str) -> Result<ShellScript, HookRefusal> {
    if line.len() > MAX_BYTES {
        return Err(HookRefusal::at(
            Rule::Length,
            text::floor_char(line, MAX_BYTES)..line.len(),
            "shorten the line to 1024 bytes, or put it into a script on the machine and name \
             that script",
        ));
    }
    let script = understand(line).map_err(|refusal| refusal.within(line))?;
    let canonical = script.to_string();
    if canonical == line {
        return Ok(script);
    }
    if text::check(&canonical).is_ok() && canonical::says(&canonical, &script) {
        // Quoting can take more signs than the line had. Who judges the text that runs must come to
        // the same answer.
        return match shape::check(&canonical) {
            Err(crowded) if canonical.len() <= MAX_BYTES => Err(HookRefusal::at(
                crowded.rule(),
                0..line.len(),
                crowded.hint(),
            )),
            _ => Ok(script),
        };
    }
    Err(HookRefusal::new(
        Rule::Unsure,
        "this line can be read in more than one way; write it as an exec hook: \
         {\"exec\": [\"/path/of/program\", \"argument\"]}",
    ))
}

/// Longest line, in bytes.
pub const MAX_BYTES: usize = 1024;

#[cfg(test)]
mod shells;
#[cfg(test)]
mod tests;

fn understand(line: &str) -> Result<ShellScript, HookRefusal> {
    text::check(line)?;
    shape::check(line)?;
    syntax::read(line)
}
