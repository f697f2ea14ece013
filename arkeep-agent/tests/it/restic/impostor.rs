//! A program that behaves as no restic should, for what a real one cannot be made to do.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use super::servers::tool;

#[derive(Debug)]
pub(crate) struct Impostor {
    /// The version it claims.
    pub(crate) version: &'static str,
    /// Ignores SIGINT and never ends.
    pub(crate) deaf: bool,
    /// Starts a child in a process group of its own that never ends either.
    pub(crate) child: bool,
    /// Complains about its back-end, over and over.
    pub(crate) babble: bool,
    /// Prints without end and without lines.
    pub(crate) flood: bool,
    /// Works for two seconds without a word, and ends with its code.
    pub(crate) busy: bool,
    /// Names a snapshot that is not there.
    pub(crate) lies: bool,
    /// What it ends with.
    pub(crate) code: i32,
}

impl Default for Impostor {
    fn default() -> Self {
        Self {
            version: "0.18.0",
            deaf: false,
            child: false,
            babble: false,
            flood: false,
            busy: false,
            lies: false,
            code: 0,
        }
    }
}

/// Compiles it; the same one is compiled once.
pub(crate) fn impostor(how: &Impostor) -> Result<PathBuf, Box<dyn Error>> {
    let name: String = format!("{how:?}{}", SOURCE.len())
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let binary = place.join(&name);
    if binary.exists() {
        return Ok(binary);
    }
    let draft = tempfile::TempDir::new_in(place)?;
    let (source, made) = (draft.path().join("impostor.c"), draft.path().join("made"));
    fs::write(&source, SOURCE)?;
    let define = |name: &str, value: i32| format!("-D{name}={value}");
    let compiled = tool("cc")
        .arg("-o")
        .arg(&made)
        .arg(&source)
        .arg(format!("-DVERSION=\"{}\"", how.version))
        .arg(define("DEAF", how.deaf.into()))
        .arg(define("CHILD", how.child.into()))
        .arg(define("BABBLE", how.babble.into()))
        .arg(define("FLOOD", how.flood.into()))
        .arg(define("BUSY", how.busy.into()))
        .arg(define("LIES", how.lies.into()))
        .arg(define("CODE", how.code))
        .output()?;
    if !compiled.status.success() {
        return Err(String::from_utf8_lossy(&compiled.stderr).into());
    }
    fs::rename(&made, &binary)?;
    Ok(binary)
}

const SOURCE: &str = r#"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "version")) {
        puts("restic " VERSION " compiled by hand");
        return 0;
    }
    if (argc > 1 && (!strcmp(argv[1], "unlock") || !strcmp(argv[1], "list"))) return 0;
    if (DEAF) signal(SIGINT, SIG_IGN);
    if (CHILD && fork() == 0) {
        setpgid(0, 0);
        for (;;) pause();
    }
    if (FLOOD) {
        static char block[1 << 16];
        memset(block, 'x', sizeof block);
        for (int i = 0; i < 1 << 12; i++) {
            write(1, block, sizeof block);
            write(2, block, sizeof block);
        }
    }
    for (int i = 0; BUSY && i < 20; i++) {
        static char block[1 << 20];
        int zeroes = open("/dev/zero", O_RDONLY);
        if (read(zeroes, block, sizeof block) < 1) return 1;
        close(zeroes);
        usleep(100000);
    }
    if (LIES && !strcmp(argv[1], "backup")) {
        puts("{\"message_type\":\"summary\",\"snapshot_id\":\"0123456789abcdef\"}");
    }
    if (LIES && !strcmp(argv[1], "snapshots")) {
        puts("[]");
    }
    while (DEAF) {
        if (BABBLE) {
            puts("{\"message_type\":\"status\",\"percent_done\":0,\"total_files\":1}");
            fflush(stdout);
            fputs("Save(<data/x>) returned error, retrying after 1s\n", stderr);
        }
        usleep(100000);
    }
    return CODE;
}
"#;
