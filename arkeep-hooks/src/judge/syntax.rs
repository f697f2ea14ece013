//! From the parser's tree to ours.
//!
//! Every match on the parser's types names all variants: when a new version of the parser learns a
//! construct, this file stops compiling until somebody has decided about it.

use std::ops::Range;

use shuck_ast::{
    BackgroundOperator, BinaryOp, BuiltinCommand, Command, RedirectKind, Span, Stmt, StmtTerminator,
};
use shuck_parser::parser::Parser;
use shuck_parser::{ShellDialect, ShellProfile};

use super::{names, parts, text, word};
use crate::refusal::{HookRefusal, Rule};
use crate::script::{
    AndOr, FileMode, Joint, Piece, Pipeline, Redirect, ShellScript, SimpleCommand, Word,
};

/// Parses a line and takes it over if it is of the plain subset.
pub(super) fn read(line: &str) -> Result<ShellScript, HookRefusal> {
    // The dialect that knows most: what is not recognised cannot be refused by name.
    let profile = ShellProfile::native(ShellDialect::Bash);
    let parsed = Parser::with_limits_and_profile(line, MAX_DEPTH, MAX_STEPS, profile).parse();
    let mut walk = Walk {
        line,
        // Two bytes for a word and the space behind it.
        seen: Vec::with_capacity(line.len() / 2 + 2),
    };
    let body = &parsed.file.body;
    let mut comments = body.leading_comments.iter().chain(&body.trailing_comments);
    if let Some(comment) = comments.next() {
        return Err(walk.comment(comment.range.start().to_u32() as usize));
    }
    // A refused construct has a better hint than a parser's message, so it goes first.
    let lists = body
        .stmts
        .iter()
        .map(|stmt| walk.list(stmt))
        .collect::<Result<Vec<_>, _>>();
    match lists {
        Err(refusal) if refusal.rule() != Rule::CommandWord => return Err(refusal),
        _ if parsed.is_err() => {
            let span = parsed
                .diagnostics
                .first()
                .map(|diagnostic| range(diagnostic.span));
            return Err(syntax(line, span));
        }
        _ => {}
    }
    let lists = lists?;
    if lists.is_empty() {
        return Err(syntax(line, None));
    }
    walk.nothing_overlooked()?;
    Ok(ShellScript { lists })
}

struct Walk<'a> {
    line: &'a str,
    /// Every part of the line that the tree accounts for.
    seen: Vec<Seen>,
}

/// A part of the line, and whether each of its ends needs a space beside a word.
struct Seen {
    range: Range<usize>,
    starts_word: bool,
    ends_word: bool,
}

impl Walk<'_> {
    fn saw_word(&mut self, range: Range<usize>) {
        self.seen.push(Seen {
            range,
            starts_word: true,
            ends_word: true,
        });
    }

    fn saw_operator(&mut self, range: Range<usize>) {
        self.seen.push(Seen {
            range,
            starts_word: false,
            ends_word: false,
        });
    }

    /// A sign with the digit before it, and perhaps one behind.
    fn saw_redirect(&mut self, range: Range<usize>) {
        let text = self.line.get(range.clone()).unwrap_or_default();
        let starts_word = text.starts_with(|c: char| c.is_ascii_digit());
        let ends_word = text.ends_with(|c: char| c.is_ascii_digit());
        self.seen.push(Seen {
            range,
            starts_word,
            ends_word,
        });
    }

    fn list(&mut self, stmt: &Stmt) -> Result<AndOr, HookRefusal> {
        match stmt.terminator {
            None | Some(StmtTerminator::Semicolon) => {}
            Some(StmtTerminator::Background(
                BackgroundOperator::Plain | BackgroundOperator::Pipe | BackgroundOperator::Bang,
            )) => {
                let span = stmt.terminator_span.unwrap_or(stmt.span);
                return Err(HookRefusal::at(
                    Rule::Background,
                    range(span),
                    "take the `&` away: a hook ends when its last process ends",
                ));
            }
        }
        let list = self.and_or(stmt)?;
        if let Some(span) = stmt.terminator_span {
            self.saw_operator(range(span));
        }
        Ok(list)
    }

    fn and_or(&mut self, stmt: &Stmt) -> Result<AndOr, HookRefusal> {
        if let Command::Binary(binary) = &stmt.command {
            let joint = match binary.op {
                BinaryOp::And => Some(Joint::And),
                BinaryOp::Or => Some(Joint::Or),
                BinaryOp::Pipe | BinaryOp::PipeAll => None,
            };
            if let Some(joint) = joint {
                self.bare(stmt)?;
                let mut list = self.and_or(&binary.left)?;
                self.saw_operator(range(binary.op_span));
                let right = self.and_or(&binary.right)?;
                list.rest.push((joint, right.first));
                list.rest.extend(right.rest);
                return Ok(list);
            }
        }
        let mut commands = Vec::new();
        self.pipeline(stmt, &mut commands)?;
        Ok(AndOr {
            first: Pipeline { commands },
            rest: Vec::new(),
        })
    }

    fn pipeline(&mut self, stmt: &Stmt, into: &mut Vec<SimpleCommand>) -> Result<(), HookRefusal> {
        if let Command::Binary(binary) = &stmt.command {
            match binary.op {
                BinaryOp::Pipe => {
                    self.bare(stmt)?;
                    self.pipeline(&binary.left, into)?;
                    self.saw_operator(range(binary.op_span));
                    return self.pipeline(&binary.right, into);
                }
                BinaryOp::PipeAll => {
                    return Err(HookRefusal::at(
                        Rule::Redirection,
                        range(binary.op_span),
                        "write `2>&1 |` instead of `|&`",
                    ));
                }
                // `a | b && c` binds as `(a | b) && c`, so this is no place for a list.
                BinaryOp::And | BinaryOp::Or => return Err(self.unsure(stmt.span)),
            }
        }
        into.push(self.command(stmt)?);
        Ok(())
    }

    /// A statement that holds others has nothing of its own.
    fn bare(&self, stmt: &Stmt) -> Result<(), HookRefusal> {
        self.plain(stmt)?;
        if stmt.redirects.is_empty() {
            Ok(())
        } else {
            Err(self.unsure(stmt.span))
        }
    }

    fn plain(&self, stmt: &Stmt) -> Result<(), HookRefusal> {
        if let Some(comment) = stmt
            .leading_comments
            .first()
            .or(stmt.inline_comment.as_ref())
        {
            return Err(self.comment(comment.range.start().to_u32() as usize));
        }
        if stmt.negated {
            return Err(HookRefusal::at(
                Rule::Negation,
                range(stmt.span),
                "`!` is not for hooks; use `||`, or a script on the machine",
            ));
        }
        Ok(())
    }

    fn command(&mut self, stmt: &Stmt) -> Result<SimpleCommand, HookRefusal> {
        self.plain(stmt)?;
        let (name, arguments) = match &stmt.command {
            Command::Simple(simple) => {
                if let Some(assignment) = simple.assignments.first() {
                    return Err(names::assignment(range(assignment.span)));
                }
                let name = self.word(&simple.name)?;
                let name = self.name(name, range(simple.name.span))?;
                let arguments = self.words(&simple.args)?;
                names::check_arguments(&name, &arguments, range(simple.span))?;
                (name, arguments)
            }
            Command::Builtin(builtin) => self.builtin(builtin)?,
            Command::Decl(declaration) => {
                return Err(self.by_name(range(declaration.variant_span)));
            }
            Command::Binary(_) => return Err(self.unsure(stmt.span)),
            Command::Compound(compound) => {
                return Err(parts::compound_refusal(compound, range(stmt.span)));
            }
            Command::Function(_) | Command::AnonymousFunction(_) => {
                return Err(HookRefusal::at(
                    Rule::Function,
                    range(stmt.span),
                    "put functions into a script on the machine and name that script",
                ));
            }
        };
        let redirects = stmt
            .redirects
            .iter()
            .map(|it| self.redirect(it))
            .collect::<Result<_, _>>()?;
        Ok(SimpleCommand {
            name,
            arguments,
            redirects,
        })
    }

    fn name(&self, word: Word, span: Range<usize>) -> Result<String, HookRefusal> {
        let Some(name) = word.into_literal() else {
            return Err(HookRefusal::at(
                Rule::CommandWord,
                span,
                "the program has to be named by plain text, without variables",
            ));
        };
        names::check(&name, span)?;
        Ok(name)
    }

    /// `exit` has a node of its own in the parser's tree; for us it is a command like others.
    fn builtin(&mut self, builtin: &BuiltinCommand) -> Result<(String, Vec<Word>), HookRefusal> {
        match builtin {
            BuiltinCommand::Exit(exit) => {
                if let Some(assignment) = exit.assignments.first() {
                    return Err(names::assignment(range(assignment.span)));
                }
                let start = exit.span.start.offset();
                let span = start..start + EXIT.len();
                if self.line.get(span.clone()) != Some(EXIT) {
                    return Err(self.unsure(exit.span));
                }
                self.saw_word(span);
                let words = exit.code.iter().chain(&exit.extra_args);
                let words = words
                    .map(|word| self.word(word))
                    .collect::<Result<_, _>>()?;
                Ok((EXIT.to_owned(), words))
            }
            BuiltinCommand::Break(command) => Err(self.by_name(range(command.span))),
            BuiltinCommand::Continue(command) => Err(self.by_name(range(command.span))),
            BuiltinCommand::Return(command) => Err(self.by_name(range(command.span))),
        }
    }

    fn by_name(&self, span: Range<usize>) -> HookRefusal {
        let length = self.line.get(span.clone()).and_then(|text| text.find(' '));
        let span = length.map_or(span.clone(), |length| span.start..span.start + length);
        HookRefusal::at(
            Rule::Builtin,
            span,
            "this command changes what the shell does with the rest; put the line into a script \
             on the machine and name that script",
        )
    }

    fn redirect(&mut self, redirect: &shuck_ast::Redirect) -> Result<Redirect, HookRefusal> {
        let span = range(redirect.span);
        let refuse = |rule, hint: &str| Err(HookRefusal::at(rule, span.clone(), hint));
        let only = "hooks redirect with `<`, `>`, `>>` and `2>&1`, with one digit before the sign \
                    at most";
        if redirect.fd_var.is_some() {
            return refuse(Rule::Redirection, only);
        }
        let (mode, default) = match redirect.kind {
            RedirectKind::Input => (FileMode::Read, 0),
            RedirectKind::Output => (FileMode::Write, 1),
            RedirectKind::Append => (FileMode::Append, 1),
            RedirectKind::DupOutput => return self.copy(span),
            RedirectKind::HereDoc | RedirectKind::HereDocStrip | RedirectKind::HereString => {
                return refuse(
                    Rule::HereDocument,
                    "put the text into a file on the machine and read it with `<`",
                );
            }
            RedirectKind::Clobber
            | RedirectKind::ReadWrite
            | RedirectKind::DupInput
            | RedirectKind::OutputBoth => return refuse(Rule::Redirection, only),
        };
        let fd = match redirect.fd.map(u8::try_from) {
            None => default,
            Some(Ok(fd)) if fd <= 9 => fd,
            Some(_) => return refuse(Rule::Redirection, only),
        };
        let Some(target) = redirect.word_target() else {
            return Err(self.unsure(redirect.span));
        };
        // The sign and its digit; the target is accounted for by itself.
        self.saw_redirect(span.start..range(target.span).start);
        let mut target = self.word(target)?;
        // bash would split the value and complain, dash would not; in quotes they agree.
        for piece in &mut target.pieces {
            if let Piece::Parameter { quoted, .. } = piece {
                *quoted = true;
            }
        }
        Ok(Redirect::File {
            fd,
            mode,
            target: target.tidy(),
        })
    }

    /// `n>&m`. Read from the text, for the parser gives the `m` no place.
    fn copy(&mut self, span: Range<usize>) -> Result<Redirect, HookRefusal> {
        let refusal = HookRefusal::at(
            Rule::Redirection,
            span.clone(),
            "write a digit on both sides: `2>&1`",
        );
        let raw = self.line.get(span.clone()).unwrap_or_default();
        let Some((left, right)) = raw.split_once(">&") else {
            return Err(refusal);
        };
        let digit = |text: &str| match text.as_bytes() {
            [digit @ b'0'..=b'9'] => Some(digit - b'0'),
            _ => None,
        };
        let fd = if left.is_empty() {
            Some(1)
        } else {
            digit(left)
        };
        let (Some(fd), Some(of)) = (fd, digit(right.trim_start_matches(' '))) else {
            return Err(refusal);
        };
        self.saw_redirect(span);
        Ok(Redirect::Copy { fd, of })
    }

    fn words(&mut self, words: &[shuck_ast::Word]) -> Result<Vec<Word>, HookRefusal> {
        words.iter().map(|word| self.word(word)).collect()
    }

    fn word(&mut self, parsed: &shuck_ast::Word) -> Result<Word, HookRefusal> {
        let span = range(parsed.span);
        for part in &parsed.parts {
            parts::refuse_part(part)?;
        }
        let word = word::read(self.line, span.clone())?;
        if !parts::agree(self.line, &parsed.parts, &word) {
            return Err(self.unsure(parsed.span));
        }
        if word
            .pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Text(text) if text.contains("..")))
        {
            return Err(text::traversal(span));
        }
        self.saw_word(span);
        Ok(word)
    }

    /// Every character that is not a space belongs to something that was taken over, and words
    /// stand apart: the parser splits `]-x` in two, a shell does not.
    fn nothing_overlooked(mut self) -> Result<(), HookRefusal> {
        self.seen.sort_by_key(|seen| seen.range.start);
        let end = self.line.len();
        self.saw_operator(end..end);
        let (mut at, mut in_word) = (0, false);
        for seen in &self.seen {
            let gap = self.line.get(at..seen.range.start).unwrap_or_default();
            let glued = gap.is_empty() && in_word && seen.starts_word;
            if glued || gap.bytes().any(|byte| byte != b' ') {
                return Err(syntax(self.line, Some(at..seen.range.end)));
            }
            (at, in_word) = (at.max(seen.range.end), seen.ends_word);
        }
        Ok(())
    }

    fn comment(&self, start: usize) -> HookRefusal {
        HookRefusal::at(
            Rule::Comment,
            start..self.line.len(),
            "take the comment out, or put the `#` in single quotes",
        )
    }

    fn unsure(&self, span: Span) -> HookRefusal {
        HookRefusal::at(
            Rule::Unsure,
            range(span),
            "this can be read in more than one way; write it as an exec hook: \
             {\"exec\": [\"/path/of/program\", \"argument\"]}",
        )
    }
}

fn syntax(line: &str, span: Option<Range<usize>>) -> HookRefusal {
    let whole = 0..line.len();
    let span = span.filter(|span| !span.is_empty() && line.get(span.clone()).is_some());
    HookRefusal::at(
        Rule::Syntax,
        span.unwrap_or(whole),
        "the line is not complete or not correct as a shell command",
    )
}

fn range(span: Span) -> Range<usize> {
    span.start.offset()..span.end.offset().max(span.start.offset())
}

const EXIT: &str = "exit";
const MAX_DEPTH: usize = 32;
const MAX_STEPS: usize = 20_000;
