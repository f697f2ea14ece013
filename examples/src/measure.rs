//! What the measuring programs read of a process, and how they put figures together.

use std::fs;
use std::io;
use std::time::Duration;

/// A line of proc_pid_status(5) such as `VmRSS` or `VmHWM`, in KiB.
///
/// # Errors
///
/// When the process has ended, or has no such line.
pub fn memory(process: u32, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    status
        .lines()
        .find(|line| line.starts_with(name))
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| unread("status", process))
}

/// What a process has run so far, with the threads that have ended: proc_pid_stat(5), which counts
/// in hundredths of a second.
///
/// # Errors
///
/// When the process has ended.
pub fn time_on_a_core(process: u32) -> io::Result<Duration> {
    let figures = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The program's name stands in parentheses and may hold anything.
    let ran: Option<u64> = figures.rsplit_once(')').and_then(|(_, figures)| {
        let two = figures.split_whitespace().skip(11).take(2);
        two.map(|figure| figure.parse::<u64>().ok()).sum()
    });
    ran.map(|hundredths| Duration::from_millis(hundredths * 10))
        .ok_or_else(|| unread("stat", process))
}

/// The time below which this share of all times lies: 50 for the median.
#[must_use]
pub fn percentile(of: &mut [Duration], share: usize) -> Duration {
    of.sort_unstable();
    let index = of.len().saturating_sub(1) * share / 100;
    of.get(index).copied().unwrap_or_default()
}

/// Milliseconds, with their fraction.
#[must_use]
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn unread(file: &str, process: u32) -> io::Error {
    let text = format!("/proc/{process}/{file} does not say");
    io::Error::new(io::ErrorKind::InvalidData, text)
}
