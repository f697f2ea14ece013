//! One word, read character by character.
//!
//! The parser has already said where the word begins and ends. This reader says what it means, and
//! refuses every character that means more than itself.

use std::ops::Range;

use crate::refusal::{HookRefusal, Rule};
use crate::script::Word;

/// Reads the word that stands in `line` at `span`.
pub(super) fn read(line: &str, span: Range<usize>) -> Result<Word, HookRefusal> {
    let raw = line.get(span.clone()).unwrap_or_default();
    // A bracket that is the whole word is the program `[` and its last argument.
    if matches!(raw, "[" | "]") {
        let mut word = Word::default();
        word.text(raw);
        return Ok(word);
    }
    Reader {
        line,
        at: span.start,
        end: span.end,
        start: span.start,
        word: Word::default(),
    }
    .read()
}

struct Reader<'a> {
    line: &'a str,
    at: usize,
    start: usize,
    end: usize,
    word: Word,
}

impl<'a> Reader<'a> {
    fn read(mut self) -> Result<Word, HookRefusal> {
        loop {
            let plain = plain_run(self.rest());
            if !plain.is_empty() {
                self.word.text(plain);
                self.at += plain.len();
            }
            let Some(c) = self.peek() else { break };
            match c {
                '\'' => self.single_quoted()?,
                '"' => self.double_quoted()?,
                '\\' => self.escaped()?,
                '$' => self.parameter(false)?,
                _ => self.bare(c)?,
            }
        }
        Ok(self.word.tidy())
    }

    fn bare(&mut self, c: char) -> Result<(), HookRefusal> {
        let here = self.at..self.at + c.len_utf8();
        let (rule, hint) = match c {
            '*' | '?' | '[' | ']' => (
                Rule::Glob,
                "file name patterns are not expanded in hooks; put the character in single \
                 quotes, or name the files",
            ),
            '~' => (
                Rule::Tilde,
                "write \"$HOME\" instead, or put the tilde in single quotes",
            ),
            '{' if self.rest().starts_with("{}") => {
                self.word.text("{}");
                self.at += 2;
                return Ok(());
            }
            '{' | '}' => (
                Rule::Brace,
                "braces are not expanded in hooks; write the words out, or put the brace in \
                 single quotes",
            ),
            '#' if self.at == self.start => (
                Rule::Comment,
                "take the comment out, or put the `#` in single quotes",
            ),
            ' ' | '|' | '&' | ';' | '<' | '>' | '(' | ')' | '`' => (
                Rule::Unsure,
                "put this character in single quotes, or write an exec hook",
            ),
            _ => {
                self.word.text(c.encode_utf8(&mut [0; 4]));
                self.at = here.end;
                return Ok(());
            }
        };
        Err(HookRefusal::at(rule, here, hint))
    }

    fn single_quoted(&mut self) -> Result<(), HookRefusal> {
        let open = self.at;
        self.at += 1;
        let Some(length) = self.rest().find('\'') else {
            return Err(unterminated(open));
        };
        let text = self.rest().get(..length).unwrap_or_default();
        self.word.text(text);
        self.at += length + 1;
        Ok(())
    }

    fn double_quoted(&mut self) -> Result<(), HookRefusal> {
        let open = self.at;
        self.at += 1;
        self.word.text("");
        loop {
            match self.peek() {
                None => return Err(unterminated(open)),
                Some('"') => {
                    self.at += 1;
                    return Ok(());
                }
                // A dollar before a space or the closing quote is a dollar to every shell.
                Some('$') if self.rest().starts_with("$\"") || self.rest().starts_with("$ ") => {
                    self.word.text("$");
                    self.at += 1;
                }
                Some('$') => self.parameter(true)?,
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(c @ ('$' | '"' | '\\')) => {
                            self.word.text(c.encode_utf8(&mut [0; 4]));
                            self.at += 1;
                        }
                        // Before any other character a backslash in double quotes is itself.
                        _ => self.word.text("\\"),
                    }
                }
                Some(c) => {
                    self.word.text(c.encode_utf8(&mut [0; 4]));
                    self.at += c.len_utf8();
                }
            }
        }
    }

    fn escaped(&mut self) -> Result<(), HookRefusal> {
        let here = self.at;
        self.at += 1;
        let Some(c) = self.peek() else {
            return Err(HookRefusal::at(
                Rule::Backslash,
                here..here + 1,
                "take the backslash at the end away, or put it in single quotes",
            ));
        };
        self.word.text(c.encode_utf8(&mut [0; 4]));
        self.at += c.len_utf8();
        Ok(())
    }

    /// `$NAME`, `${NAME}`, `$1` and `${10}`.
    fn parameter(&mut self, quoted: bool) -> Result<(), HookRefusal> {
        let here = self.at;
        let rest = self.rest().get(1..).unwrap_or_default();
        let (name, length) = if let Some(inner) = rest.strip_prefix('{') {
            let Some((name, _)) = inner.split_once('}') else {
                return Err(unterminated(here));
            };
            (name, name.len() + 3)
        } else if rest.starts_with(|c: char| c.is_ascii_digit()) {
            // dash reads `$10` as `${10}`, bash as `${1}0`.
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let name = rest.get(..digits).unwrap_or_default();
            if digits > 1 {
                return Err(HookRefusal::at(
                    Rule::Expansion,
                    here..here + 1 + digits,
                    format!("write ${{{name}}}: shells differ in how they read this"),
                ));
            }
            (name, digits + 1)
        } else {
            let name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let letters = rest.len() - rest.trim_start_matches(name_char).len();
            (rest.get(..letters).unwrap_or_default(), letters + 1)
        };
        if !is_plain(name) {
            let (rule, hint) = if name.is_empty() && rest.starts_with(['\'', '"']) && !quoted {
                (Rule::Quoting, "use plain single quotes: '…'")
            } else {
                (
                    Rule::Expansion,
                    "hooks expand $HOME, $PATH, $LANG, the $BACKUP_… variables and $1 to $9, and \
                     those without any operator; a dollar that is meant as it stands goes into \
                     single quotes",
                )
            };
            return Err(HookRefusal::at(
                rule,
                here..(here + length.max(2)).min(self.end),
                hint,
            ));
        }
        self.word.parameter(name, quoted);
        self.at += length;
        Ok(())
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        self.line.get(self.at..self.end).unwrap_or_default()
    }
}

/// The letters at the front that are themselves wherever they stand.
fn plain_run(text: &str) -> &str {
    let plain = |byte: u8| {
        matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'/' | b'.' | b','
            | b':' | b'@' | b'%' | b'+' | b'=' | b'^')
    };
    let length = text
        .bytes()
        .position(|byte| !plain(byte))
        .unwrap_or(text.len());
    text.get(..length).unwrap_or_default()
}

/// The documented variables, and positional parameters without a leading zero.
fn is_plain(name: &str) -> bool {
    let positional = name.len() <= 2
        && name.starts_with(|c: char| matches!(c, '1'..='9'))
        && name.bytes().all(|c| c.is_ascii_digit());
    let backup = name.strip_prefix("BACKUP_").is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
    });
    positional || backup || matches!(name, "HOME" | "PATH" | "LANG")
}

fn unterminated(at: usize) -> HookRefusal {
    HookRefusal::at(Rule::Syntax, at..at + 1, "close what was opened here")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule and the place of a refusal, by this reader alone.
    fn refused(raw: &str) -> (Rule, Range<usize>) {
        let refusal = read(raw, 0..raw.len()).unwrap_err();
        (refusal.rule(), refusal.span().unwrap())
    }

    /// H2: what the parser should have found is refused here, too.
    #[test]
    fn refuses_what_means_more_than_itself() {
        for (raw, rule, span) in [
            ("a{b,c}", Rule::Brace, 1..2),
            ("a{", Rule::Brace, 1..2),
            ("}", Rule::Brace, 0..1),
            ("#a", Rule::Comment, 0..1),
            ("a*", Rule::Glob, 1..2),
            ("~", Rule::Tilde, 0..1),
            ("a b", Rule::Unsure, 1..2),
            ("a|b", Rule::Unsure, 1..2),
            ("a&", Rule::Unsure, 1..2),
            ("a;", Rule::Unsure, 1..2),
            ("a<", Rule::Unsure, 1..2),
            ("a>", Rule::Unsure, 1..2),
            ("a(", Rule::Unsure, 1..2),
            ("a)", Rule::Unsure, 1..2),
            ("a`", Rule::Unsure, 1..2),
            ("a'b", Rule::Syntax, 1..2),
            ("a${HOME", Rule::Syntax, 1..2),
            ("$'a'", Rule::Quoting, 0..2),
            ("\"$'\"", Rule::Expansion, 1..3),
            ("$10", Rule::Expansion, 0..3),
            ("a$0", Rule::Expansion, 1..3),
            ("$SHELL", Rule::Expansion, 0..6),
            ("${SHELL}", Rule::Expansion, 0..8),
            ("${BACKUP_a}", Rule::Expansion, 0..11),
            ("$BACKUP_", Rule::Expansion, 0..8),
            ("$", Rule::Expansion, 0..1),
        ] {
            assert_eq!(refused(raw), (rule, span), "{raw}");
        }
    }

    /// H2
    #[test]
    fn reads_plain_signs_where_they_stand() {
        for (raw, said) in [
            ("a#b", "a#b"),
            ("{}", "{}"),
            ("a{}b", "a{}b"),
            ("[", "["),
            ("a\u{fc}", "a\u{fc}"),
        ] {
            let word = read(raw, 0..raw.len()).unwrap();
            assert_eq!(word.literal(), Some(said), "{raw}");
        }
        let word = read("$BACKUP_JOB_2", 0..13).unwrap();
        assert_eq!(word.to_string(), "${BACKUP_JOB_2}");
    }
}
