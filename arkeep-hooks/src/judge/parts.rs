//! What the parser recognised inside a word, and whether it agrees with our own reader.

use std::borrow::Cow;
use std::ops::Range;

use shuck_ast::{
    BourneParameterExpansion, CompoundCommand, LiteralText, ParameterExpansionSyntax, Span,
    WordPart, WordPartNode,
};

use crate::refusal::{HookRefusal, Rule};
use crate::script::{Piece, Word};

/// Whether the parser read the same word as we did: the same text, the same parameters, each in
/// the same kind of quotes.
pub(super) fn agree(line: &str, parts: &[WordPartNode], word: &Word) -> bool {
    // Nothing but letters, to the parser and to us.
    if let ([part], Some(text)) = (parts, word.literal())
        && matches!(part.kind, WordPart::Literal(LiteralText::Source))
        && part.span.slice(line) == text
        && !text.contains('\\')
    {
        return true;
    }
    flat_parts(line, parts).is_some_and(|parts| parts == flat(word))
}

/// Refuses by name what the parser recognised inside a word.
pub(super) fn refuse_part(part: &WordPartNode) -> Result<(), HookRefusal> {
    let (rule, hint) = match &part.kind {
        WordPart::Literal(_)
        | WordPart::SingleQuoted { dollar: false, .. }
        | WordPart::Variable(_) => return Ok(()),
        WordPart::DoubleQuoted {
            parts,
            dollar: false,
        } => {
            return parts.iter().try_for_each(refuse_part);
        }
        WordPart::SingleQuoted { dollar: true, .. }
        | WordPart::DoubleQuoted { dollar: true, .. } => (
            Rule::Quoting,
            "use plain quotes, without a dollar before them",
        ),
        WordPart::Parameter(expansion) => match &expansion.syntax {
            ParameterExpansionSyntax::Bourne(BourneParameterExpansion::Access { reference })
                if reference.subscript.is_none() =>
            {
                return Ok(());
            }
            ParameterExpansionSyntax::Bourne(
                BourneParameterExpansion::Access { .. }
                | BourneParameterExpansion::Length { .. }
                | BourneParameterExpansion::Indices { .. }
                | BourneParameterExpansion::Indirect { .. }
                | BourneParameterExpansion::PrefixMatch { .. }
                | BourneParameterExpansion::Slice { .. }
                | BourneParameterExpansion::Operation { .. }
                | BourneParameterExpansion::Transformation { .. },
            )
            | ParameterExpansionSyntax::Zsh(_) => (Rule::Expansion, NO_OPERATOR),
        },
        WordPart::ParameterExpansion { .. }
        | WordPart::Length(_)
        | WordPart::ArrayAccess(_)
        | WordPart::ArrayLength(_)
        | WordPart::ArrayIndices(_)
        | WordPart::Substring { .. }
        | WordPart::ArraySlice { .. }
        | WordPart::IndirectExpansion { .. }
        | WordPart::PrefixMatch { .. }
        | WordPart::Transformation { .. } => (Rule::Expansion, NO_OPERATOR),
        WordPart::CommandSubstitution { .. } => (
            Rule::Substitution,
            "put the command into a script on the machine and name that",
        ),
        WordPart::ArithmeticExpansion { .. } => (
            Rule::Arithmetic,
            "write the number itself, or do the sum in a script",
        ),
        WordPart::ProcessSubstitution { .. } => (
            Rule::ProcessSubstitution,
            "write the output to a file first, or put the line into a script on the machine",
        ),
        WordPart::ZshQualifiedGlob(_) => (
            Rule::Glob,
            "file name patterns are not expanded in hooks; name the files",
        ),
    };
    Err(HookRefusal::at(
        rule,
        part.span.start.offset()..part.span.end.offset(),
        hint,
    ))
}

/// Refuses a construct, by its kind.
pub(super) fn compound_refusal(compound: &CompoundCommand, span: Range<usize>) -> HookRefusal {
    let rule = match compound {
        CompoundCommand::Arithmetic(_) | CompoundCommand::ArithmeticFor(_) => Rule::Arithmetic,
        CompoundCommand::If(_)
        | CompoundCommand::For(_)
        | CompoundCommand::Repeat(_)
        | CompoundCommand::Foreach(_)
        | CompoundCommand::While(_)
        | CompoundCommand::Until(_)
        | CompoundCommand::Case(_)
        | CompoundCommand::Select(_)
        | CompoundCommand::Subshell(_)
        | CompoundCommand::BraceGroup(_)
        | CompoundCommand::Time(_)
        | CompoundCommand::Conditional(_)
        | CompoundCommand::Coproc(_)
        | CompoundCommand::Always(_) => Rule::Compound,
    };
    HookRefusal::at(
        rule,
        span,
        "put loops, conditions and groups into a script on the machine and name that script",
    )
}

/// A word without its quotes: what two readers have to agree on.
#[derive(Debug, PartialEq, Eq)]
enum Flat<'a> {
    Text(Cow<'a, str>),
    Parameter { name: &'a str, quoted: bool },
}

fn flat(word: &Word) -> Vec<Flat<'_>> {
    let mut flat = Vec::new();
    for piece in &word.pieces {
        match piece {
            Piece::Text(text) => push_text(&mut flat, Cow::Borrowed(text)),
            Piece::Parameter { name, quoted } => {
                flat.push(Flat::Parameter {
                    name,
                    quoted: *quoted,
                });
            }
        }
    }
    flat
}

/// The parser's reading of a word, in the shape of [`flat`].
fn flat_parts<'a>(line: &'a str, parts: &'a [WordPartNode]) -> Option<Vec<Flat<'a>>> {
    let mut flat = Vec::new();
    for part in parts {
        match &part.kind {
            WordPart::Literal(text) => {
                push_text(&mut flat, unescape(raw(line, text, part.span)?, |_| true));
            }
            WordPart::SingleQuoted {
                value,
                dollar: false,
            } => {
                push_text(&mut flat, Cow::Borrowed(value.slice(line)));
            }
            WordPart::DoubleQuoted {
                parts,
                dollar: false,
            } => {
                for part in parts {
                    match &part.kind {
                        WordPart::Literal(text) => {
                            let raw = raw(line, text, part.span)?;
                            push_text(&mut flat, unescape(raw, |c| "$\"\\".contains(c)));
                        }
                        other => flat.push(parameter(other, true)?),
                    }
                }
            }
            other => flat.push(parameter(other, false)?),
        }
    }
    Some(flat)
}

/// The text of a literal as it stands in the line. The parser's own cooking is not uniform: it
/// takes a backslash before a dollar away and leaves others.
fn raw<'a>(line: &'a str, text: &LiteralText, span: Span) -> Option<&'a str> {
    match text {
        LiteralText::Source | LiteralText::CookedSource(_) => Some(span.slice(line)),
        LiteralText::Owned(_) => None,
    }
}

fn push_text<'a>(flat: &mut Vec<Flat<'a>>, more: Cow<'a, str>) {
    match flat.last_mut() {
        _ if more.is_empty() => {}
        Some(Flat::Text(text)) => text.to_mut().push_str(&more),
        _ => flat.push(Flat::Text(more)),
    }
}

/// Takes backslashes away that stand before a character that can be escaped here.
fn unescape(raw: &str, escapable: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next) if c == '\\' && escapable(*next) => text.extend(chars.next()),
            _ => text.push(c),
        }
    }
    Cow::Owned(text)
}

/// A plain parameter; `None` for everything else, which two readers can never agree on.
fn parameter(part: &WordPart, quoted: bool) -> Option<Flat<'_>> {
    let name = match part {
        WordPart::Variable(name) => name,
        WordPart::Parameter(expansion) => match expansion.bourne() {
            Some(BourneParameterExpansion::Access { reference })
                if reference.subscript.is_none() =>
            {
                &reference.name
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(Flat::Parameter {
        name: name.as_str(),
        quoted,
    })
}

pub(super) const NO_OPERATOR: &str = "use the variable as it is, without an operator: \"${HOME}\"";

#[cfg(test)]
mod tests {
    use shuck_parser::parser::Parser;

    use super::*;

    fn agrees(line: &str, word: &Word) -> bool {
        agree(line, &Parser::parse_word_string(line).parts, word)
    }

    fn word(pieces: &[Piece]) -> Word {
        Word {
            pieces: pieces.to_vec(),
        }
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn home(quoted: bool) -> Piece {
        Piece::Parameter {
            name: "HOME".to_owned(),
            quoted,
        }
    }

    /// H2
    #[test]
    fn two_readers_agree_on_the_same_word_only() {
        for (line, pieces) in [
            ("abc", vec![text("abc")]),
            ("'a b'c", vec![text("a bc")]),
            ("a\\ b", vec![text("a b")]),
            ("$HOME", vec![home(false)]),
            ("x\"$HOME\"y", vec![text("x"), home(true), text("y")]),
        ] {
            assert!(agrees(line, &word(&pieces)), "{line}");
            for other in [
                vec![text("abd")],
                vec![text("")],
                vec![text("a b")],
                vec![text("$HOME")],
                vec![home(!line.contains('"'))],
                vec![text("x"), home(false), text("y")],
                [pieces.clone(), vec![home(true)]].concat(),
            ] {
                if other != pieces {
                    assert!(!agrees(line, &word(&other)), "{line} {other:?}");
                }
            }
        }
    }

    /// H2
    #[test]
    fn nobody_agrees_with_an_expansion() {
        for line in ["${HOME:-x}", "$(id)", "${#HOME}", "${HOME[1]}"] {
            assert!(!agrees(line, &word(&[home(false)])), "{line}");
            let parts = Parser::parse_word_string(line).parts;
            assert!(
                parts.iter().any(|part| refuse_part(part).is_err()),
                "{line}"
            );
        }
    }
}
