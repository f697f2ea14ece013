//! A shell line as the judge understood it, and the one way of writing it down.
//!
//! This tree can say nothing but the plain subset: there is no node for a substitution, an
//! assignment or a loop. What runs is not the text that somebody sent but what this tree prints,
//! in which every literal that is not plain letters stands in single quotes.

use std::fmt::{self, Write as _};

/// A line of the plain subset.
///
/// Made by [`judge`](crate::judge::judge) only. `Display` gives the canonical text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellScript {
    pub(crate) lists: Vec<AndOr>,
}

/// Pipelines joined by `&&` and `||`, which bind alike and from the left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AndOr {
    pub(crate) first: Pipeline,
    pub(crate) rest: Vec<(Joint, Pipeline)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joint {
    And,
    Or,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pipeline {
    pub(crate) commands: Vec<SimpleCommand>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SimpleCommand {
    pub(crate) name: String,
    pub(crate) arguments: Vec<Word>,
    pub(crate) redirects: Vec<Redirect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileMode {
    Read,
    Write,
    Append,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    File {
        fd: u8,
        mode: FileMode,
        target: Word,
    },
    Copy {
        fd: u8,
        of: u8,
    },
}

/// Pieces that stand side by side without a space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Word {
    pub(crate) pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    /// Without quotes the shell splits the value into words; that is kept as it was written.
    Parameter {
        name: String,
        quoted: bool,
    },
}

impl Word {
    pub(crate) fn text(&mut self, more: &str) {
        if let Some(Piece::Text(text)) = self.pieces.last_mut() {
            text.push_str(more);
        } else {
            self.pieces.push(Piece::Text(more.to_owned()));
        }
    }

    pub(crate) fn parameter(&mut self, name: &str, quoted: bool) {
        self.pieces.push(Piece::Parameter {
            name: name.to_owned(),
            quoted,
        });
    }

    /// The word if it is the same whatever the variables are.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The same, taken out of the word.
    pub(crate) fn into_literal(self) -> Option<String> {
        match <[Piece; 1]>::try_from(self.pieces) {
            Ok([Piece::Text(text)]) => Some(text),
            _ => None,
        }
    }

    /// Drops empty pieces that change nothing, so that one word has one form.
    ///
    /// Beside a value that is split, an empty quoted piece keeps the word alive when the value is
    /// empty, or makes a word of its own when the value ends in a space: it stays.
    pub(crate) fn tidy(mut self) -> Self {
        let split = |piece: &Piece| matches!(piece, Piece::Parameter { quoted: false, .. });
        if !self.pieces.iter().any(split) {
            let empty = |piece: &Piece| matches!(piece, Piece::Text(text) if text.is_empty());
            if !self.pieces.iter().all(empty) {
                self.pieces.retain(|piece| !empty(piece));
            }
        }
        self
    }
}

impl fmt::Display for ShellScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(f, &self.lists, "; ")
    }
}

impl fmt::Display for AndOr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.rest
            .iter()
            .try_for_each(|(joint, pipeline)| match joint {
                Joint::And => write!(f, " && {pipeline}"),
                Joint::Or => write!(f, " || {pipeline}"),
            })
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(f, &self.commands, " | ")
    }
}

impl fmt::Display for SimpleCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quote(f, &self.name)?;
        self.arguments
            .iter()
            .try_for_each(|word| f.write_char(' ').and_then(|()| word.fmt(f)))?;
        self.redirects
            .iter()
            .try_for_each(|redirect| f.write_char(' ').and_then(|()| redirect.fmt(f)))
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { fd, mode, target } => {
                let sign = match mode {
                    FileMode::Read => "<",
                    FileMode::Write => ">",
                    FileMode::Append => ">>",
                };
                write!(f, "{fd}{sign} {target}")
            }
            Self::Copy { fd, of } => write!(f, "{fd}>&{of}"),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => quote(f, text),
            Piece::Parameter { name, quoted: true } => write!(f, "\"${{{name}}}\""),
            Piece::Parameter {
                name,
                quoted: false,
            } => write!(f, "${{{name}}}"),
        })
    }
}

fn separated<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    separator: &str,
) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(place, item)| {
        if place > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)
    })
}

/// Bare when every shell of every locale reads it as itself, else in single quotes.
fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let plain = |byte: u8| {
        matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'/' | b'.' | b','
            | b':' | b'@' | b'%' | b'+' | b'=')
    };
    if !text.is_empty() && text.bytes().all(plain) {
        return f.write_str(text);
    }
    f.write_char('\'')?;
    for (place, part) in text.split('\'').enumerate() {
        if place > 0 {
            f.write_str("'\\''")?;
        }
        f.write_str(part)?;
    }
    f.write_char('\'')
}
