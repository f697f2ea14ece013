//! What the quickstart prints.

use std::error::Error;
use std::io::Write as _;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use serde_json::Value;

/// Prints one line. A reader that went away is no reason to stop half-way.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

pub(crate) fn step(what: &str, detail: &str) {
    line(&format!("{what:<12}{detail}"));
}

pub(crate) fn failure(error: &dyn Error) {
    let mut text = format!("\nfailed: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  because: {error}"));
        cause = error.source();
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A bar on a terminal; nothing elsewhere.
pub(crate) fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("{prefix:<12}[{bar:32}] {percent:>3} %  {msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what);
    bar
}

/// Moves the bar to what the job says of itself.
pub(crate) fn follow(bar: &ProgressBar, job: &Value) {
    let progress = job.get("progress").unwrap_or(&Value::Null);
    let number = |name: &str| progress.get(name).and_then(Value::as_u64).unwrap_or(0);
    let percent = progress
        .get("percent")
        .and_then(Value::as_f64)
        .unwrap_or(0.0);
    bar.set_position(percent.clamp(0.0, 100.0) as u64);
    bar.set_message(format!(
        "{} of {}, {} files",
        HumanBytes(number("bytes_done")),
        HumanBytes(number("bytes_total")),
        HumanCount(number("files_done")),
    ));
}

/// One sentence about a backup.
pub(crate) fn summary(job: &Value) -> String {
    let result = job.pointer("/results/0").unwrap_or(&Value::Null);
    let number = |name: &str| result.get(name).and_then(Value::as_u64).unwrap_or(0);
    format!(
        "{}: {} read, {} added; {} new, {} changed, {} unmodified files",
        job.get("state").and_then(Value::as_str).unwrap_or("?"),
        HumanBytes(number("bytes_processed")),
        HumanBytes(number("bytes_added")),
        HumanCount(number("files_new")),
        HumanCount(number("files_changed")),
        HumanCount(number("files_unmodified")),
    )
}

/// The snapshots as a table, newest first, as the server lists them.
pub(crate) fn table(snapshots: &[Value]) {
    line(&format!(
        "\n{:<10}{:<26}{:>8}{:>14}{:>14}",
        "SNAPSHOT", "TAKEN", "FILES", "READ", "ADDED"
    ));
    for snapshot in snapshots {
        let text = |name: &str| snapshot.get(name).and_then(Value::as_str).unwrap_or("-");
        let number = |name: &str| snapshot.get(name).and_then(Value::as_u64).unwrap_or(0);
        line(&format!(
            "{:<10}{:<26}{:>8}{:>14}{:>14}",
            text("restic_id").get(..8).unwrap_or("-"),
            text("taken_at"),
            number("files"),
            HumanBytes(number("bytes_processed")).to_string(),
            HumanBytes(number("bytes_added")).to_string(),
        ));
    }
    line("");
}
