//! What dash and bash make of accepted lines.
//!
//! Lines are generated, judged, and those accepted are run in batches by both shells, as they were
//! written and in canonical form. In the place of every program stands a shell function that
//! records its arguments. All four records have to be the same, and, where the variables have
//! plain values, the same as what the judge's own tree says.
//!
//! A run of all tests takes 20,000 commands; `ARKEEP_PROOF=full` takes 100,000.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::judge;
use crate::script::{FileMode, Joint, Piece, Redirect, ShellScript, SimpleCommand, Word};

/// H2
#[test]
fn run_the_same_arguments_as_judged() {
    let mut lines = Lines::new();
    let mut commands = 0;
    let mut batch = Vec::new();
    let mut odd_values_done = false;
    while commands < 100_000 {
        let line = lines.next_line();
        let Ok(script) = judge(&line) else { continue };
        // The parser, too, finds in the canonical text what was judged.
        let again = super::understand(&script.to_string());
        assert_eq!(again.as_ref(), Ok(&script), "{line:?}");
        if !is_harmless(&script) {
            continue;
        }
        commands += all_commands(&script).count();
        batch.push((line, script));
        if batch.len() == 5_000 {
            // Odd values once: they take as long again, and depend on the line less.
            compare(&std::mem::take(&mut batch), !odd_values_done);
            odd_values_done = true;
        }
    }
    compare(&batch, false);
}

fn compare(batch: &[(String, ShellScript)], also_odd_values: bool) {
    let plain = [
        "HOME=home",
        "PATH=path",
        "LANG=C.UTF-8",
        "BACKUP_JOB=job",
        "BACKUP_STATE=x-1",
    ];
    let expected: Vec<String> = batch.iter().map(|(_, script)| records(script)).collect();
    let rough = [
        "HOME=a  b ",
        "PATH= ",
        "LANG=C.UTF-8",
        "BACKUP_STATE=",
        "BACKUP_A= x",
    ];
    let canonical: Vec<String> = batch.iter().map(|(_, script)| script.to_string()).collect();
    let written: Vec<String> = batch.iter().map(|(line, _)| line.clone()).collect();
    let all = [
        ("/bin/dash", &written),
        ("/bin/dash", &canonical),
        ("/bin/bash", &written),
        ("/bin/bash", &canonical),
    ];
    for (said, (shell, texts)) in run_all(&all, &plain).iter().zip(all) {
        assert_eq!(
            said.len(),
            batch.len(),
            "{shell} stopped at {:?}",
            texts.get(said.len())
        );
        for ((expected, said), text) in expected.iter().zip(said).zip(texts) {
            assert_eq!(expected, said, "{shell}: {text:?}");
        }
    }
    if also_odd_values {
        let said = run_all(&all, &rough);
        for (said_here, (shell, texts)) in said.iter().zip(all) {
            for (place, (_, script)) in batch.iter().enumerate() {
                // bash does not redirect to a value that splits; the canonical text quotes it.
                if !redirects_to_a_variable(script) {
                    let text = &texts[place];
                    assert_eq!(said[0][place], said_here[place], "{shell}: {text:?}");
                }
            }
        }
    }
}

/// The shells run beside one another.
fn run_all(all: &[(&str, &Vec<String>)], variables: &[&str]) -> Vec<Vec<String>> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = all
            .iter()
            .map(|(shell, texts)| scope.spawn(|| run(shell, texts, variables)))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

/// The sorted records of each line: the commands of a pipeline run at the same time.
fn run(shell: &str, texts: &[String], variables: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut batch = String::from(
        "exec 9>> \"$LOG\"\n\
         r() { printf '%s\\037' r \"$@\" \"$RS\" >&9; }\n\
         f() { printf '%s\\037' f \"$@\" \"$RS\" >&9; return 1; }\n\
         m() { printf '%s\\035' \"\" >&9; }\n",
    );
    for text in texts {
        batch.push_str("m\n");
        batch.push_str(text);
        batch.push('\n');
    }
    fs::write(dir.path().join("batch"), batch).unwrap();
    fs::write(dir.path().join("in"), "").unwrap();
    #[expect(clippy::disallowed_methods, reason = "a shell to compare with")]
    let status = Command::new(shell)
        .args(["batch", "p1", "p2"])
        .current_dir(dir.path())
        .env_clear()
        .envs(
            variables
                .iter()
                .filter_map(|variable| variable.split_once('=')),
        )
        .env("RS", "\u{1e}")
        .env("LOG", dir.path().join("log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok(), "{shell} is needed for this test");
    read_log(&dir.path().join("log"))
}

fn read_log(log: &Path) -> Vec<String> {
    let log = String::from_utf8(fs::read(log).unwrap()).unwrap();
    log.split('\u{1d}')
        .skip(1)
        .map(|records| sorted(records.split_inclusive("\u{1e}\u{1f}")))
        .collect()
}

fn sorted<'a>(records: impl Iterator<Item = &'a str>) -> String {
    let mut records: Vec<_> = records.collect();
    records.sort_unstable();
    records.concat()
}

/// What the shells should record, by the judge's own tree.
fn records(script: &ShellScript) -> String {
    let mut records = Vec::new();
    for list in &script.lists {
        let mut good = run_pipeline(&list.first.commands, &mut records);
        for (joint, pipeline) in &list.rest {
            if good == (*joint == Joint::And) {
                good = run_pipeline(&pipeline.commands, &mut records);
            }
        }
    }
    sorted(records.iter().map(String::as_str))
}

fn run_pipeline(commands: &[SimpleCommand], records: &mut Vec<String>) -> bool {
    for command in commands {
        let mut record = format!("{}\u{1f}", command.name);
        for argument in command.arguments.iter().filter_map(value) {
            record.push_str(&argument);
            record.push('\u{1f}');
        }
        record.push_str("\u{1e}\u{1f}");
        records.push(record);
    }
    commands.last().is_some_and(|command| command.name == "r")
}

/// The word's value; none when it vanishes.
fn value(word: &Word) -> Option<String> {
    let mut value = String::new();
    let mut stays = false;
    for piece in &word.pieces {
        match piece {
            Piece::Text(text) => {
                value.push_str(text);
                stays = true;
            }
            Piece::Parameter { name, quoted } => {
                value.push_str(match name.as_str() {
                    "HOME" => "home",
                    "PATH" => "path",
                    "LANG" => "C.UTF-8",
                    "BACKUP_JOB" => "job",
                    "BACKUP_STATE" => "x-1",
                    "1" => "p1",
                    "2" => "p2",
                    _ => "",
                });
                stays |= quoted;
            }
        }
    }
    (stays || !value.is_empty()).then_some(value)
}

fn all_commands(script: &ShellScript) -> impl Iterator<Item = &SimpleCommand> {
    script.lists.iter().flat_map(|list| {
        std::iter::once(&list.first)
            .chain(list.rest.iter().map(|(_, pipeline)| pipeline))
            .flat_map(|pipeline| &pipeline.commands)
    })
}

/// Whether a line only calls recorders, and opens files of its directory only.
fn is_harmless(script: &ShellScript) -> bool {
    all_commands(script).all(|command| {
        matches!(command.name.as_str(), "r" | "f")
            && command.redirects.iter().all(|redirect| match redirect {
                // The record goes to 9.
                Redirect::Copy { fd: 3.., .. } | Redirect::File { fd: 3.., .. } => false,
                Redirect::Copy { of, .. } => *of <= 2,
                Redirect::File {
                    mode: FileMode::Read,
                    target,
                    ..
                } => target.literal().is_some_and(|name| name == "in"),
                Redirect::File {
                    mode: FileMode::Write | FileMode::Append,
                    target,
                    ..
                } => value(target).is_some_and(|name| {
                    let reserved = ["", ".", "in", "log", "batch"];
                    !name.contains('/') && !reserved.contains(&name.as_str())
                }),
            })
    })
}

fn redirects_to_a_variable(script: &ShellScript) -> bool {
    all_commands(script)
        .flat_map(|command| &command.redirects)
        .any(|redirect| match redirect {
            Redirect::File { target, .. } => target.literal().is_none(),
            Redirect::Copy { .. } => false,
        })
}

/// Lines that look like shell, most of them well-formed.
struct Lines {
    rng: TestRng,
}

impl Lines {
    fn new() -> Self {
        Self {
            rng: TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        }
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        for place in 0..=self.below(4) {
            if place > 0 {
                // A pipeline forks, which is what this test spends its time on.
                let pipe = self.below(12) == 0;
                let joints: &'static [_] = if pipe {
                    &["|", " | "]
                } else {
                    &["&&", " && ", "||", " || ", ";", " ; ", "; "]
                };
                line.push_str(self.pick(joints));
            }
            self.command(&mut line);
        }
        if self.below(20) == 0 {
            line.push_str(self.pick(&[";", " ", " ;"]));
        }
        line
    }

    fn command(&mut self, line: &mut String) {
        if self.below(12) == 0 {
            line.push_str(self.pick(&[">o ", "2>&1 ", " ", "<in "]));
        }
        line.push_str(self.pick(&["r", "r", "r", "f", "'r'", "\"f\"", "\\r", "''r", "r\"\""]));
        for _ in 0..self.below(4) {
            line.push_str(self.pick(&[" ", " ", "  "]));
            if self.below(8) == 0 {
                line.push_str(self.pick(&[
                    ">o1",
                    "> 'o 2'",
                    ">>o3",
                    "2> o4",
                    "2>&1",
                    ">&2",
                    "1>&2",
                    "<in",
                    "0< in",
                    "> \"$HOME\"",
                    ">$BACKUP_JOB",
                    "2>o\\ 5",
                ]));
            } else {
                self.word(line);
            }
        }
    }

    fn word(&mut self, line: &mut String) {
        for _ in 0..=self.below(3) {
            match self.below(9) {
                0 => line.push_str(self.pick(&[
                    "$HOME",
                    "${PATH}",
                    "$1",
                    "${2}",
                    "$BACKUP_JOB",
                    "${10}",
                ])),
                1 => self.quoted(line, '\'', CHARACTERS),
                2 => self.quoted(line, '"', CHARACTERS),
                3 => {
                    line.push('"');
                    line.push_str(self.pick(&[
                        "$HOME",
                        "${LANG}",
                        "$1",
                        "$3",
                        "${BACKUP_STATE}",
                        "$",
                    ]));
                    line.push('"');
                }
                4 => {
                    line.push('\\');
                    line.push_str(self.pick(CHARACTERS));
                }
                5 => line.push_str(self.pick(&[
                    "if", "{}", "a=b", "''", "\"\"", "-n", "--", "]", "[", "!", "2", "10",
                ])),
                _ => {
                    for _ in 0..=self.below(3) {
                        line.push_str(self.pick(CHARACTERS));
                    }
                }
            }
        }
    }

    fn quoted(&mut self, line: &mut String, quote: char, from: &'static [&'static str]) {
        line.push(quote);
        for _ in 0..self.below(5) {
            line.push_str(self.pick(from));
        }
        line.push(quote);
    }

    fn pick(&mut self, from: &'static [&'static str]) -> &'static str {
        from[self.below(from.len())]
    }

    fn below(&mut self, limit: usize) -> usize {
        self.rng.next_u32() as usize % limit
    }
}

const CHARACTERS: &[&str] = &[
    "a", "b", "c", "x", "Z", "0", "1", "9", "_", "-", "/", ".", ",", ":", "@", "%", "+", "=", "^",
    "é", "🦀", "日", " ", "'", "\"", "\\", "$", "#", "!", "~", "{", "}", "[", "]", "*", "?", "<",
    ">", "|", "&", ";", "(", ")", "\\n", "\\0", "e", "n", "u{1}",
];
