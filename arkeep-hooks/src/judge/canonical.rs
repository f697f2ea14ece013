//! Reads canonical text, and nothing else.
//!
//! What [`ShellScript`] prints is a small language: one space between words, one spelling for each
//! sign, every literal bare or in single quotes. This reader knows that language only, knows
//! nothing of the printer, and says nothing about a text with one character out of place. What it
//! reads has to be what was judged.

use crate::script::{AndOr, FileMode, Joint, Pipeline, Redirect, ShellScript, SimpleCommand, Word};

/// The script that prints as `text`, if there is one.
pub(super) fn read(text: &str) -> Option<ShellScript> {
    let mut reader = Reader { rest: text };
    let mut lists = vec![reader.list()?];
    while reader.skip("; ") {
        lists.push(reader.list()?);
    }
    reader.rest.is_empty().then_some(ShellScript { lists })
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn list(&mut self) -> Option<AndOr> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            let joint = match () {
                () if self.skip(" && ") => Joint::And,
                () if self.skip(" || ") => Joint::Or,
                () => return Some(AndOr { first, rest }),
            };
            rest.push((joint, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Option<Pipeline> {
        let mut commands = vec![self.command()?];
        while self.skip(" | ") {
            commands.push(self.command()?);
        }
        Some(Pipeline { commands })
    }

    fn command(&mut self) -> Option<SimpleCommand> {
        let mut command = SimpleCommand {
            name: self.word()?.literal()?.to_owned(),
            arguments: Vec::new(),
            redirects: Vec::new(),
        };
        while self.rest.starts_with(' ')
            && !self.rest.starts_with(" |")
            && !self.rest.starts_with(" &")
        {
            self.skip(" ");
            if let Some(redirect) = self.redirect() {
                command.redirects.push(redirect?);
            } else if command.redirects.is_empty() {
                command.arguments.push(self.word()?);
            } else {
                return None;
            }
        }
        Some(command)
    }

    /// Nothing when a word begins here; nothing inside when a redirection does and is not one.
    fn redirect(&mut self) -> Option<Option<Redirect>> {
        let (digit, rest) = self.rest.as_bytes().split_first()?;
        if !digit.is_ascii_digit() || !rest.starts_with(b"<") && !rest.starts_with(b">") {
            return None;
        }
        let fd = digit - b'0';
        self.rest = self.rest.get(1..)?;
        Some(self.target(fd))
    }

    fn target(&mut self, fd: u8) -> Option<Redirect> {
        if self.skip(">&") {
            let of = self.rest.bytes().next().filter(u8::is_ascii_digit)? - b'0';
            self.rest = self.rest.get(1..)?;
            return Some(Redirect::Copy { fd, of });
        }
        let mode = match () {
            () if self.skip("< ") => FileMode::Read,
            () if self.skip(">> ") => FileMode::Append,
            () if self.skip("> ") => FileMode::Write,
            () => return None,
        };
        let target = self.word()?;
        Some(Redirect::File { fd, mode, target })
    }

    fn word(&mut self) -> Option<Word> {
        let mut word = Word::default();
        loop {
            if let Some(name) = self.between("\"${", "}\"") {
                // A quote opens a piece, as it does for the reader of words.
                word.text("");
                word.parameter(name, true);
            } else if let Some(name) = self.between("${", "}") {
                word.parameter(name, false);
            } else if let Some(text) = self.between("'", "'") {
                word.text(text);
            } else if self.skip("\\'") {
                word.text("'");
            } else {
                let bare = self.rest.len() - self.rest.trim_start_matches(is_bare).len();
                if bare == 0 {
                    return (!word.pieces.is_empty()).then(|| word.tidy());
                }
                let (text, rest) = self.rest.split_at_checked(bare)?;
                word.text(text);
                self.rest = rest;
            }
        }
    }

    fn skip(&mut self, sign: &str) -> bool {
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn between(&mut self, open: &str, close: &str) -> Option<&'a str> {
        let (inner, rest) = self.rest.strip_prefix(open)?.split_once(close)?;
        self.rest = rest;
        Some(inner)
    }
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-/.,:@%+=".contains(c)
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::read;

    /// H11
    #[test]
    fn reads_what_was_judged() {
        for line in [
            "a",
            "a b  'c d' | e && f||g; h",
            "a 'it'\\''s' \"$HOME\" $1 x${10}y ''$2'' \"\"",
            "a >b 2>>c <d 2>&1 >\"$HOME/x\" e",
            "[ -f '' ] && \\x '|' '&' ';'",
        ] {
            let script = judge(line).unwrap();

            assert_eq!(read(&script.to_string()), Some(script), "{line}");
        }
    }

    /// H11
    #[test]
    fn reads_nothing_else() {
        for text in [
            "",
            " a",
            "a ",
            "a  b",
            "a;",
            "a; ",
            "a ;b",
            "a;b",
            "a|b",
            "a |b",
            "a &",
            "a && ",
            "a & b",
            "a 'b",
            "a \"b\"",
            "a $HOME",
            "a \"${HOME\"",
            "a b\\c",
            "a 1>b",
            "a > b",
            "a 1> ",
            "a 10> b",
            "a 1>& 2",
            "a 1> b c",
            "a *",
            "a é",
            "${HOME} a",
            "'' \n",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
