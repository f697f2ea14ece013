//! Reads canonical text against the script that it should say.
//!
//! What [`ShellScript`] prints is a small language: one space between words, one spelling for each
//! sign, every literal bare or in single quotes. This reader takes a text of that language apart
//! from left to right, without knowing how it was printed, and finds each part of the script in its
//! place, or not. It allocates nothing: it runs for every line that is judged.

use crate::script::{
    AndOr, FileMode, Joint, Piece, Pipeline, Redirect, ShellScript, SimpleCommand, Word,
};

/// Whether `text` says `script`, all of it and nothing else.
pub(super) fn says(text: &str, script: &ShellScript) -> bool {
    let mut reader = Reader { rest: text };
    reader.all(&script.lists, "; ", Reader::list) && reader.rest.is_empty()
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn list(&mut self, list: &AndOr) -> bool {
        self.pipeline(&list.first)
            && list.rest.iter().all(|(joint, pipeline)| {
                let sign = match joint {
                    Joint::And => " && ",
                    Joint::Or => " || ",
                };
                self.skip(sign) && self.pipeline(pipeline)
            })
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> bool {
        self.all(&pipeline.commands, " | ", Self::command)
    }

    fn command(&mut self, command: &SimpleCommand) -> bool {
        let arguments = &command.arguments;
        self.text(&command.name)
            && self.ends()
            && arguments
                .iter()
                .all(|word| self.skip(" ") && self.word(word) && self.ends())
            && command
                .redirects
                .iter()
                .all(|redirect| self.skip(" ") && self.redirect(redirect) && self.ends())
    }

    fn redirect(&mut self, redirect: &Redirect) -> bool {
        match redirect {
            Redirect::Copy { fd, of } => self.digit(*fd) && self.skip(">&") && self.digit(*of),
            Redirect::File { fd, mode, target } => {
                let sign = match mode {
                    FileMode::Read => "< ",
                    FileMode::Write => "> ",
                    FileMode::Append => ">> ",
                };
                self.digit(*fd) && self.skip(sign) && self.word(target)
            }
        }
    }

    fn word(&mut self, word: &Word) -> bool {
        let split = |piece: &Piece| matches!(piece, Piece::Parameter { quoted: false, .. });
        let splits = word.pieces.iter().any(split);
        let mut after_text = false;
        !word.pieces.is_empty()
            && word.pieces.iter().all(|piece| match piece {
                Piece::Text(text) => {
                    after_text = true;
                    self.text(text)
                }
                Piece::Parameter { name, quoted: true } => {
                    // Beside a value that splits, a quote is a piece of its own, and the reader of
                    // words would find one here that the script does not have.
                    let fine = after_text || !splits;
                    after_text = false;
                    fine && self.skip("\"${") && self.skip(name) && self.skip("}\"")
                }
                Piece::Parameter {
                    name,
                    quoted: false,
                } => {
                    after_text = false;
                    self.skip("${") && self.skip(name) && self.skip("}")
                }
            })
    }

    /// A literal, bare or quoted. Between quotes every character is itself, so that what is read is
    /// the text if each stretch of it is found in its order.
    fn text(&mut self, mut text: &str) -> bool {
        let mut read = false;
        loop {
            let stretch = if let Some(quoted) = self.quoted() {
                quoted
            } else if self.skip("\\'") {
                "'"
            } else {
                let bare = self.rest.bytes().take_while(|byte| is_bare(*byte)).count();
                let (bare, rest) = self.rest.split_at(bare);
                if bare.is_empty() {
                    return read && text.is_empty();
                }
                self.rest = rest;
                bare
            };
            read = true;
            match text.strip_prefix(stretch) {
                Some(rest) => text = rest,
                None => return false,
            }
        }
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let (quoted, rest) = self.rest.strip_prefix('\'')?.split_once('\'')?;
        self.rest = rest;
        Some(quoted)
    }

    /// A word ends at the end, or where another sign begins.
    fn ends(&self) -> bool {
        matches!(self.rest.as_bytes().first(), None | Some(b' ' | b';'))
    }

    fn all<T>(
        &mut self,
        items: &[T],
        sign: &str,
        mut read: impl FnMut(&mut Self, &T) -> bool,
    ) -> bool {
        !items.is_empty()
            && items
                .iter()
                .enumerate()
                .all(|(place, item)| (place == 0 || self.skip(sign)) && read(self, item))
    }

    fn digit(&mut self, digit: u8) -> bool {
        let sign = [b'0' + digit];
        digit < 10 && std::str::from_utf8(&sign).is_ok_and(|sign| self.skip(sign))
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
}

fn is_bare(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'/' | b'.' | b',' | b':'
        | b'@' | b'%' | b'+' | b'=')
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::says;

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

            assert!(says(&script.to_string(), &script), "{line}");
        }
    }

    /// H11: one character more, less or other anywhere, and it does not say the same.
    #[test]
    fn reads_nothing_else() {
        let line = "a 'b c' \"$HOME\"$1 '' | d 2>&1 >'f g' && h || [ ; it\\'s <i >>j";
        let script = judge(line).unwrap();
        let text = script.to_string();
        for (place, c) in text.char_indices() {
            let (left, right) = text.split_at(place);
            let rest = &right[c.len_utf8()..];
            for other in ["", "x", " ", "'", ";", "|", "&", ">", "$", "\\", "\"", "0"] {
                if right.starts_with(other) && !other.is_empty() {
                    continue;
                }
                // `'b c'` may also stand as `'b'' c'`, which says the same.
                let same = |text: &str| judge(text).is_ok_and(|again| again == script);
                for changed in [
                    format!("{left}{other}{rest}"),
                    format!("{left}{other}{right}"),
                ] {
                    let said = says(&changed, &script);
                    assert!(!said || same(&changed), "{changed}");
                }
            }
        }
        assert!(!says("", &script));
        assert!(!says(&format!("{text} "), &script));
        assert!(!says(&format!("{text}; a"), &script));
        assert!(!says(&text, &judge("a").unwrap()));
    }

    /// H11: no other script of these prints the same.
    #[test]
    fn tells_scripts_apart() {
        let lines = [
            "a",
            "a b",
            "'a b'",
            "a; b",
            "a && b",
            "a || b",
            "a | b",
            "a >b",
            "a >>b",
            "a <b",
            "a 2>b",
            "a 2>&1",
            "a 1>&2",
            "a '2>&1'",
            "a $1",
            "a \"$1\"",
            "a '$1'",
            "a ''",
            "a '' b",
            "a; b; c",
            "a && b; c",
            "a b c",
            "a 'b c'",
            "a ''$1",
            "a $1''",
            "a $1b",
            "a b$1",
        ];
        for one in lines {
            let text = judge(one).unwrap().to_string();
            for other in lines {
                let script = judge(other).unwrap();

                assert_eq!(says(&text, &script), one == other, "{one} | {other}");
            }
        }
    }
}
