use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arkeep_core::Timestamp;
use arkeep_core::job::{LogLevel, LogLine, LogSource};
use tokio::sync::Notify;

use super::record::MOST_LINES;

/// The lines of one running job, on their way to the outbox.
///
/// A job may print without end. The first 4 MiB are numbered and kept as they come; of what
/// follows, the last 256 KiB stay in memory until the job ends, and one line says how many lines
/// are missing between.
#[derive(Debug)]
pub struct JobLog {
    lines: Mutex<Lines>,
    wake: Notify,
}

#[derive(Debug)]
struct Lines {
    last: u64,
    head_left: usize,
    ready: VecDeque<LogLine>,
    tail: VecDeque<LogLine>,
    tail_bytes: usize,
    left_out: u64,
    closed: bool,
}

impl JobLog {
    /// Goes on counting after `last`.
    #[must_use]
    pub fn after(last: u64) -> Self {
        Self {
            lines: Mutex::new(Lines {
                last,
                head_left: HEAD,
                ready: VecDeque::new(),
                tail: VecDeque::new(),
                tail_bytes: 0,
                left_out: 0,
                closed: false,
            }),
            wake: Notify::new(),
        }
    }

    /// Adds what was said, one line for each line of the text.
    pub fn say(&self, at: Timestamp, level: LogLevel, source: LogSource, text: &str) {
        let mut lines = self.lock();
        for text in text.lines() {
            lines.add(LogLine {
                seq: 0,
                at,
                level,
                source,
                text: printable(text),
            });
        }
        drop(lines);
        self.wake.notify_one();
    }

    /// Says that nothing follows: what was held back comes now.
    pub fn close(&self, at: Timestamp) {
        self.lock().close(at);
        self.wake.notify_one();
    }

    /// Takes the next lines to keep; nothing when there are none now.
    #[must_use]
    pub fn take(&self) -> Vec<LogLine> {
        let mut lines = self.lock();
        let mut bytes = 0;
        let mut count = 0;
        for line in lines.ready.iter().take(MOST_LINES) {
            bytes += line.text.len();
            if count > 0 && bytes > BATCH {
                break;
            }
            count += 1;
        }
        lines.ready.drain(..count).collect()
    }

    /// Puts lines back that could not be kept.
    pub fn put_back(&self, taken: Vec<LogLine>) {
        let mut lines = self.lock();
        for line in taken.into_iter().rev() {
            lines.ready.push_front(line);
        }
    }

    /// Whether nothing follows and all was taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let lines = self.lock();
        lines.closed && lines.ready.is_empty()
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Resolves when there is something new.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn add(&mut self, line: LogLine) {
        if self.closed {
            return;
        }
        let size = line.text.len() + LINE_COST;
        if self.head_left >= size {
            self.head_left -= size;
            self.number(line);
            return;
        }
        self.head_left = 0;
        self.tail_bytes += size;
        self.tail.push_back(line);
        while self.tail_bytes > TAIL {
            let Some(oldest) = self.tail.pop_front() else {
                break;
            };
            self.tail_bytes -= oldest.text.len() + LINE_COST;
            self.left_out += 1;
        }
    }

    fn close(&mut self, at: Timestamp) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        if self.left_out > 0 {
            self.number(LogLine {
                seq: 0,
                at,
                level: LogLevel::Warn,
                source: LogSource::Agent,
                text: format!("{} lines are left out here", self.left_out),
            });
        }
        for line in std::mem::take(&mut self.tail) {
            self.number(line);
        }
    }

    fn number(&mut self, line: LogLine) {
        self.last += 1;
        self.ready.push_back(LogLine {
            seq: self.last,
            ..line
        });
    }
}

/// The text without control characters, and not longer than anybody reads.
fn printable(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .take(LONGEST_LINE + 1)
        .collect();
    if clean.chars().count() > LONGEST_LINE {
        clean.pop();
        clean.push('…');
    }
    clean
}

const HEAD: usize = 4 << 20;
const TAIL: usize = 256 << 10;
const BATCH: usize = 256 << 10;
const LONGEST_LINE: usize = 4_096;
// What a line takes beside its text, on the disk and on the wire.
const LINE_COST: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn say(log: &JobLog, text: &str) {
        log.say(
            Timestamp::UNIX_EPOCH,
            LogLevel::Info,
            LogSource::Agent,
            text,
        );
    }

    fn all(log: &JobLog) -> Vec<LogLine> {
        let mut lines = Vec::new();
        loop {
            let more = log.take();
            if more.is_empty() {
                return lines;
            }
            lines.extend(more);
        }
    }

    /// G10
    #[test]
    fn is_bounded_and_keeps_its_head_and_its_tail() {
        let log = JobLog::after(10);
        let count = 4 * HEAD / 1_000;

        for number in 0..count {
            say(&log, &format!("{number} {}", "x".repeat(900)));
        }
        log.close(Timestamp::UNIX_EPOCH);

        let lines = all(&log);
        let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
        assert!(bytes <= HEAD + TAIL, "{bytes}");
        assert!(lines[0].text.starts_with("0 "));
        assert!(
            lines
                .last()
                .unwrap()
                .text
                .starts_with(&format!("{} ", count - 1))
        );
        assert!(
            lines
                .iter()
                .any(|line| line.text.ends_with("lines are left out here"))
        );
        assert!(
            lines
                .iter()
                .map(|line| line.seq)
                .eq(11..11 + lines.len() as u64)
        );
        assert!(log.is_done());
    }

    #[test]
    fn a_line_is_printable_and_one_line() {
        let log = JobLog::after(0);

        say(&log, "a\x1b[31mb\r\nc\0");

        let texts: Vec<_> = all(&log).into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["a[31mb", "c"]);
    }

    #[test]
    fn lines_that_could_not_be_kept_come_again() {
        let log = JobLog::after(0);
        say(&log, "a\nb");

        let taken = log.take();
        log.put_back(taken.clone());

        assert_eq!(log.take(), taken);
    }
}
