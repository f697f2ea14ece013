//! What judging and caging cost.
//!
//! The limits: judging 1,024 characters takes under 200 µs, and a caged `/bin/true` at most
//! 15 ms more than one started by `posix_spawn`. The process that starts them holds 32 MiB, as an
//! agent may: the cage forks, and a fork copies the page tables.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot be set up has nothing to measure, and one starts the bare thing"
)]

use std::process::{Command, Stdio};

use arkeep_hooks::judge::judge;
use arkeep_hooks::output::Capture;
use arkeep_hooks::{
    Any, CancelSignal, HookContext, HookPolicy as _, HookRunner as _, HookSet, HookSpec, Phase,
    ProcessRunner, RawHook, Review, Secrets,
};
use divan::Bencher;
use divan::counter::BytesCount;
use shuck_parser::parser::Parser;
use shuck_parser::{ShellDialect, ShellProfile};

fn main() {
    divan::main();
}

const KINDS: [&str; 6] = [
    "words",
    "quotes",
    "commands",
    "slowest",
    "refused",
    "slowest refused",
];

#[divan::bench(args = KINDS)]
fn judging_1024_characters(bencher: Bencher<'_, '_>, kind: &str) {
    let line = line(kind);
    bencher.bench(|| judge(divan::black_box(&line)).is_ok());
}

/// The bare thing: the parser alone, once.
#[divan::bench(args = KINDS)]
fn parsing_1024_characters(bencher: Bencher<'_, '_>, kind: &str) {
    let line = line(kind);
    bencher.bench(|| {
        let profile = ShellProfile::native(ShellDialect::Bash);
        Parser::with_limits_and_profile(divan::black_box(&line), 32, 20_000, profile).parse()
    });
}

fn line(kind: &str) -> String {
    match kind {
        "words" => fill("pg_dump ", "table_0 "),
        "quotes" => fill("echo ", "'table one'\"$HOME\"\\x "),
        "commands" => fill("", "/usr/bin/pg_dump -Fc app > /srv/app.dump; "),
        // What `slowest.rs` finds.
        "slowest" => fill("", "exit ${1}"),
        "slowest refused" => fill("${1}printf ", "!while ${1}a|"),
        _ => fill("echo ", "/srv/*/dump.sql "),
    }
}

fn fill(start: &str, piece: &str) -> String {
    let mut line = start.to_owned();
    while line.len() + piece.len() <= 1024 {
        line.push_str(piece);
    }
    line
}

#[divan::bench]
fn redacting_1_mib(bencher: Bencher<'_, '_>) {
    let secrets = Secrets::new(["correct horse battery staple", "hunter2!hunter2!"]);
    let text = "2026-11-23 03:00:01 dumped table customers, 12345 rows\n".repeat(19_065);
    bencher.counter(BytesCount::of_str(&text)).bench(|| {
        let mut capture = Capture::new(&secrets);
        for chunk in text.as_bytes().chunks(64 * 1024) {
            capture.push(chunk);
        }
        capture.finish().len()
    });
}

#[divan::bench(sample_count = 100)]
fn starting_true_by_posix_spawn(bencher: Bencher<'_, '_>) {
    let ballast = ballast();
    bencher.bench(|| {
        Command::new("/bin/true")
            .stdin(Stdio::null())
            .env_clear()
            .status()
            .unwrap()
    });
    drop(ballast);
}

#[divan::bench(sample_count = 100)]
fn starting_true_in_the_cage(bencher: Bencher<'_, '_>) {
    let ballast = ballast();
    let hidden = std::env::temp_dir();
    let runner = ProcessRunner::new().hide(hidden);
    let raw = RawHook {
        name: "true".to_owned(),
        exec: Some(vec!["/bin/true".to_owned()]),
        shell: None,
        timeout: 10,
        signature: None,
    };
    let at = Review {
        agent: "a",
        policy: "p",
        phase: Phase::Before,
        hooks: &HookSet::default(),
        now_unix_millis: 0,
    };
    let hook = Any.review(&HookSpec::check(raw).unwrap(), &at).unwrap();
    let context = HookContext {
        policy: "p".to_owned(),
        job: "j".to_owned(),
        phase: Phase::Before,
        state: "running".to_owned(),
        attempt: 1,
        secrets: Secrets::default(),
        cancel: CancelSignal::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    bencher.bench(|| runtime.block_on(runner.run(&hook, &context)).unwrap());
    drop(ballast);
}

fn ballast() -> Vec<u8> {
    divan::black_box(vec![1; 32 << 20])
}
