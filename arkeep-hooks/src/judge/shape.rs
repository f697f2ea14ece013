//! What a line may not have, read in one pass before the parser sees it.
//!
//! The parser is careful about what a line means and careless about how long it takes to find out:
//! unfinished expansions inside one another double its work each, and so do some groups. Nothing
//! of that is plain. So quotes are followed here just far enough to know what stands outside them;
//! what opens a construct there is refused, and what stays is counted. The parser's time then grows with
//! the line and no faster.
//!
//! This reader only refuses. What it lets through means what the parser and the readers after it say.

use std::ops::Range;

use super::parts::NO_OPERATOR;
use crate::refusal::{HookRefusal, Rule};

/// Refuses what opens a construct outside quotes, and more signs than anybody writes.
pub(super) fn check(line: &str) -> Result<(), HookRefusal> {
    let mut reader = Reader {
        line,
        at: 0,
        operators: 0,
        signs: 0,
    };
    reader.bare()
}

struct Reader<'a> {
    line: &'a str,
    at: usize,
    operators: usize,
    signs: usize,
}

impl Reader<'_> {
    fn bare(&mut self) -> Result<(), HookRefusal> {
        while let Some(byte) = self.byte(self.at) {
            let next = self.byte(self.at + 1);
            match byte {
                b'\\' => {
                    self.sign()?;
                    self.at += 1;
                }
                b'\'' => self.single_quoted()?,
                b'"' => self.double_quoted()?,
                b'$' if matches!(next, Some(b'\'' | b'"')) => {
                    return Err(HookRefusal::at(
                        Rule::Quoting,
                        self.at..self.at + 2,
                        "use plain quotes, without a dollar before them",
                    ));
                }
                b'$' if next == Some(b'{') => self.expansion()?,
                b'$' => self.sign()?,
                b' ' if next != Some(b' ') => self.sign()?,
                b'<' if next == Some(b'<') => {
                    return Err(HookRefusal::at(
                        Rule::HereDocument,
                        self.at..self.at + 2,
                        "put the text into a file on the machine and read it with `<`",
                    ));
                }
                b'(' => return Err(self.parenthesis()),
                b'{' if next == Some(b'}') => {
                    self.sign()?;
                    self.at += 1;
                }
                b'{' => return Err(self.brace()),
                b'|' | b'&' | b';' | b'<' | b'>' | b'[' => self.operator()?,
                _ => {}
            }
            self.at += 1;
        }
        Ok(())
    }

    fn operator(&mut self) -> Result<(), HookRefusal> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            let signs = "of the signs `|`, `&`, `;`, `<`, `>` and `[` outside quotes";
            return Err(self.crowded(MAX_OPERATORS, signs));
        }
        self.sign()
    }

    fn sign(&mut self) -> Result<(), HookRefusal> {
        self.signs += 1;
        if self.signs > MAX_SIGNS {
            let signs = "words, quotes, variables, backslashes and operators in all";
            return Err(self.crowded(MAX_SIGNS, signs));
        }
        Ok(())
    }

    fn crowded(&self, most: usize, of: &str) -> HookRefusal {
        HookRefusal::at(
            Rule::Crowded,
            self.at..self.at + 1,
            format!(
                "keep to {most} {of}; put a line that needs more into a script on the machine and \
                 name that script"
            ),
        )
    }

    /// Ends at the closing quote.
    fn single_quoted(&mut self) -> Result<(), HookRefusal> {
        self.sign()?;
        let rest = self.line.get(self.at + 1..).unwrap_or_default();
        let Some(length) = rest.find('\'') else {
            return Err(unterminated(self.at));
        };
        self.at += length + 1;
        Ok(())
    }

    /// Ends at the closing quote.
    fn double_quoted(&mut self) -> Result<(), HookRefusal> {
        self.sign()?;
        let open = self.at;
        loop {
            self.at += 1;
            match self.byte(self.at) {
                None => return Err(unterminated(open)),
                Some(b'"') => return Ok(()),
                Some(b'\\') => {
                    self.sign()?;
                    self.at += 1;
                }
                Some(b'$') if self.byte(self.at + 1) == Some(b'{') => self.expansion()?,
                Some(b'$') => self.sign()?,
                Some(_) => {}
            }
        }
    }

    /// `${NAME}`, and nothing else that begins so. Ends at the closing brace.
    fn expansion(&mut self) -> Result<(), HookRefusal> {
        self.sign()?;
        let rest = self.line.get(self.at + 2..).unwrap_or_default();
        let Some((name, _)) = rest.split_once('}') else {
            return Err(unterminated(self.at));
        };
        let end = self.at + name.len() + 3;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            let span = self.at..end;
            return Err(HookRefusal::at(Rule::Expansion, span, NO_OPERATOR));
        }
        self.at = end - 1;
        Ok(())
    }

    fn parenthesis(&self) -> HookRefusal {
        let here = self.at..self.at + 1;
        let inside = self.line.get(here.end..).unwrap_or_default();
        let before = self.line.get(..here.start).unwrap_or_default();
        let refuse = |rule, span: Range<usize>, hint| HookRefusal::at(rule, span, hint);
        match before.bytes().next_back() {
            Some(b'<' | b'>') => refuse(
                Rule::ProcessSubstitution,
                here.start - 1..here.end,
                "write the output to a file first, or put the line into a script on the machine",
            ),
            Some(b'=') => refuse(
                Rule::Assignment,
                here,
                "lists cannot be set in a hook; put them into a script on the machine",
            ),
            Some(b'!' | b'@' | b'?' | b'*' | b'+') => refuse(
                Rule::Glob,
                here,
                "file name patterns are not expanded in hooks; name the files",
            ),
            _ if inside.starts_with('(') => refuse(
                Rule::Arithmetic,
                here.start..here.end + 1,
                "write the number itself, or do the sum in a script",
            ),
            _ if inside.trim_start_matches(' ').starts_with(')') => {
                refuse(Rule::Function, here, NO_FUNCTION)
            }
            _ => refuse(Rule::Compound, here, NO_COMPOUND),
        }
    }

    fn brace(&self) -> HookRefusal {
        let here = self.at..self.at + 1;
        let inside = self.line.get(here.end..).unwrap_or_default();
        let before = self.line.get(..here.start).unwrap_or_default();
        let variable = inside.split_once('}');
        let redirects = |(name, rest): (&str, &str)| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && rest.starts_with(['<', '>'])
        };
        let group = before.is_empty() || before.ends_with([' ', ';', '&', '|', ')']);
        if before.split(' ').next() == Some("function") {
            HookRefusal::at(Rule::Function, here, NO_FUNCTION)
        } else if variable.is_some_and(redirects) {
            HookRefusal::at(
                Rule::Redirection,
                here,
                "hooks redirect with `<`, `>`, `>>` and `2>&1`, with one digit before the sign \
                 at most",
            )
        } else if group && (inside.is_empty() || inside.starts_with(' ')) {
            HookRefusal::at(Rule::Compound, here, NO_COMPOUND)
        } else {
            HookRefusal::at(
                Rule::Brace,
                here,
                "braces are not expanded in hooks; write the words out, or put the brace in \
                 single quotes",
            )
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.line.as_bytes().get(at).copied()
    }
}

fn unterminated(at: usize) -> HookRefusal {
    HookRefusal::at(Rule::Syntax, at..at + 1, "close what was opened here")
}

const NO_COMPOUND: &str =
    "put loops, conditions and groups into a script on the machine and name that script";
const NO_FUNCTION: &str = "put functions into a script on the machine and name that script";

/// Most of the signs `|`, `&`, `;`, `<`, `>` and `[` outside quotes. `&&` and `>>` are two.
pub const MAX_OPERATORS: usize = 80;

/// Most signs in all: operators, spaces between words, quoted stretches, dollars, `{}`, and backslashes
/// that are not in single quotes.
pub const MAX_SIGNS: usize = 256;

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::{MAX_OPERATORS, MAX_SIGNS};
    use crate::refusal::Rule;

    fn refused(line: &str) -> (Rule, Option<&str>) {
        let refusal = judge(line).unwrap_err();
        let marked = refusal.span().and_then(|span| line.get(span));
        (refusal.rule(), marked)
    }

    /// H2
    #[test]
    fn counts_operators_outside_quotes() {
        for (sign, each) in [
            ("|a", 1),
            (";a", 1),
            ("&&a", 2),
            ("||a", 2),
            (">a", 1),
            ("<a", 1),
        ] {
            let many = format!("a{}", sign.repeat(MAX_OPERATORS / each));
            assert!(judge(&many).is_ok(), "{many}");
            let line = format!("{many}{sign}");
            assert_eq!(refused(&line).0, Rule::Crowded, "{line}");
        }
        let many = "a[".repeat(MAX_OPERATORS);
        assert_eq!(refused(&many).0, Rule::Glob);
        assert_eq!(refused(&format!("{many}[")), (Rule::Crowded, Some("[")));

        let quoted = "|&;<>[".repeat(100);
        assert!(judge(&format!("a '{quoted}'")).is_ok());
        assert!(judge(&format!("a \"{quoted}\"")).is_ok());
        assert!(judge(&format!("a{}", "\\|".repeat(MAX_OPERATORS + 1))).is_ok());
    }

    /// H2
    #[test]
    fn counts_every_sign() {
        for sign in [" a", "'b'", "\"b\"", "$1.", "\\c"] {
            let many = format!("a {}", sign.repeat(MAX_SIGNS - 1));
            let line = format!("{many}{sign}");
            // The space before a space is no sign.
            let line = line.replace("  ", " b ");

            assert!(judge(&many).is_ok(), "{many}");
            assert_eq!(refused(&line).0, Rule::Crowded, "{line}");
        }
        let braced = |count| format!("a{} {}", "'b'".repeat(60), "${1}".repeat(count));
        assert!(judge(&braced(MAX_SIGNS - 61)).is_ok());
        assert_eq!(refused(&braced(MAX_SIGNS - 60)).0, Rule::Crowded);
        let empty = |count| format!("a {}{}", "'b'".repeat(MAX_SIGNS - 11), "{},".repeat(count));
        assert!(judge(&empty(10)).is_ok());
        assert_eq!(refused(&empty(11)).0, Rule::Crowded);
        let inside = |count| format!("a \"{}\"", "$1\\\"".repeat(count));
        assert!(judge(&inside(MAX_SIGNS / 2 - 1)).is_ok());
        assert_eq!(refused(&inside(MAX_SIGNS / 2)).0, Rule::Crowded);
        assert!(judge(&format!("a '{}'", "$ \\\"".repeat(200))).is_ok());
        assert!(judge(&format!("a{}b", " ".repeat(1000))).is_ok());
    }

    /// H11: found by fuzzing. The text that runs spells each of these apostrophes by several signs.
    #[test]
    fn counts_the_signs_of_the_text_that_runs() {
        let apostrophes = |count| "'".repeat(count);
        let (one, two, three) = (apostrophes(89), apostrophes(40), apostrophes(11));
        let line = format!(r#"echo "(c o#{one}/{two}/{three}\"[\##"\\"\b\a""#);

        assert_eq!(refused(&line), (Rule::Crowded, Some(line.as_str())));

        let fewer = format!(r#"echo "{three}\"[""#);
        let canonical = judge(&fewer).unwrap().to_string();
        assert_eq!(judge(&canonical).unwrap().to_string(), canonical);
    }

    /// H2: found by a search for slow lines; the parser takes minutes for some of them.
    #[test]
    fn keeps_from_the_parser_what_doubles_its_work() {
        for (unit, rule) in [
            ("\"${1}\"${a", Rule::Expansion),
            ("|((", Rule::Arithmetic),
            (";a((", Rule::Arithmetic),
            ("a{", Rule::Brace),
            ("''<<", Rule::HereDocument),
        ] {
            let line = unit.repeat(1024 / unit.len());
            assert_eq!(refused(&line).0, rule, "{unit}");
        }
    }

    /// H2
    #[test]
    fn names_what_it_refuses() {
        for (line, rule, marked) in [
            ("a $'b'", Rule::Quoting, "$'"),
            ("a $\"b\"", Rule::Quoting, "$\""),
            ("a \\$'b' ${c-}", Rule::Expansion, "${c-}"),
            ("a \"${b:-'}", Rule::Expansion, "${b:-'}"),
            ("a ${}", Rule::Expansion, "${}"),
            ("a ${b", Rule::Syntax, "$"),
            ("a 'b", Rule::Syntax, "'"),
            ("a \"b\\\"", Rule::Syntax, "\""),
            ("a << b", Rule::HereDocument, "<<"),
            ("abc << d", Rule::HereDocument, "<<"),
            ("abc $'d'", Rule::Quoting, "$'"),
            ("a <(b)", Rule::ProcessSubstitution, "<("),
            ("a >(b)", Rule::ProcessSubstitution, ">("),
            ("a=(b)", Rule::Assignment, "("),
            ("ls @(b)", Rule::Glob, "("),
            ("((1))", Rule::Arithmetic, "(("),
            ("f ( ) { b; }", Rule::Function, "("),
            ("function f { b; }", Rule::Function, "{"),
            ("a; (b)", Rule::Compound, "("),
            ("a |{ b; }", Rule::Compound, "{"),
            ("a {", Rule::Compound, "{"),
            ("a {b}> c", Rule::Redirection, "{"),
            ("a {b_c}> d", Rule::Redirection, "{"),
            ("a {b,c}>d", Rule::Brace, "{"),
            ("a {b}c", Rule::Brace, "{"),
            ("a {b,c}", Rule::Brace, "{"),
            ("a b{ c", Rule::Brace, "{"),
        ] {
            assert_eq!(refused(line), (rule, Some(marked)), "{line}");
        }
        for line in [
            "a '(' \"{\" \\( \\{ {} x{}y",
            "a \"${HOME}'\" '\"' \"$\"",
            "a '${b:-' \"<<\"",
        ] {
            assert!(judge(line).is_ok(), "{line}");
        }
    }
}
