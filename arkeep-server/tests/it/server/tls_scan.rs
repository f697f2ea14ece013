//! T3: what a stranger's scanner finds on the port for agents.

use std::io::Write as _;
use std::time::Duration;

use tokio::process::Command;

use super::{Fallible, Server};

/// T3: TLS 1.3 and nothing before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_finds_nothing_but_tls_1_3_on_the_port_for_agents() -> Fallible {
    let name = "a_scanner_finds_nothing_but_tls_1_3_on_the_port_for_agents";
    let server = Server::start().await?;

    let scanned = command(PROGRAM)
        .args(["--no-colour", "--no-check-certificate", &server.grpc])
        .output();
    let scanned = match tokio::time::timeout(Duration::from_secs(60), scanned).await? {
        Ok(scanned) => scanned,
        Err(error) => return skipped(name, &format!("{PROGRAM} cannot be run: {error}")),
    };

    let told = String::from_utf8(scanned.stdout)?;
    let says = |what: &str, how: &str| {
        let words = |line: &str| line.split_whitespace().eq([what, how]);
        told.lines().any(words)
    };
    assert!(says("TLSv1.3", "enabled"), "{told}");
    for old in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1", "TLSv1.2"] {
        assert!(says(old, "disabled"), "{old}: {told}");
    }
    let accepted = told.lines().filter(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("Preferred" | "Accepted"))
    });
    let accepted: Vec<_> = accepted.collect();
    assert!(!accepted.is_empty(), "{told}");
    assert!(
        accepted.iter().all(|line| line.contains("TLSv1.3")),
        "{told}"
    );
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the scanner is a program of its own"
)]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.kill_on_drop(true);
    command
}

#[expect(clippy::disallowed_methods, reason = "the test script says where")]
fn skipped(name: &str, why: &str) -> Fallible {
    if let Some(list) = std::env::var_os("ARKEEP_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().append(true).open(list)?;
        writeln!(list, "{name}: {why}")?;
    }
    Ok(())
}

const PROGRAM: &str = "sslscan";
