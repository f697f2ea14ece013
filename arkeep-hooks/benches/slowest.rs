//! Looks for the line that takes the judge longest.
//!
//! Limits on a line are only as good as the worst line that keeps them. This makes 1,024-byte lines of
//! short pieces over and over, takes the slowest further by changing a few bytes at a time, and
//! prints what it found: microseconds, what became of the line, and how it begins. The seed is fixed.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for a terminal, which has nothing to do when it fails"
)]

use arkeep_hooks::judge::{MAX_BYTES, judge};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut found = Vec::new();
    for first in PIECES {
        found.push(Found::measure(repeat(first)));
        for second in PIECES {
            found.push(Found::measure(repeat(&format!("{first}{second}"))));
        }
    }
    for _ in 0..3_000 {
        let pieces = 3 + random.below(6);
        let unit: String = (0..pieces).map(|_| random.piece()).collect();
        found.push(Found::measure(repeat(&unit)));
        let mut line = String::new();
        while line.len() < MAX_BYTES {
            line.push_str(random.piece());
        }
        line.truncate(MAX_BYTES);
        found.push(Found::measure(line));
    }
    for accepted in [true, false] {
        let mut worst: Vec<_> = found
            .iter()
            .filter(|found| found.accepted() == accepted)
            .cloned()
            .collect();
        worst.sort_by(|one, other| other.micros.total_cmp(&one.micros));
        worst.truncate(12);
        for found in &mut worst {
            *found = Found::of(found.line.clone(), 10);
            for _ in 0..150 {
                let changed = Found::measure(random.change(&found.line));
                if changed.micros > found.micros && changed.accepted() == accepted {
                    *found = changed;
                }
            }
            // Many tries have good luck and bad luck among them.
            *found = Found::of(found.line.clone(), 200);
        }
        worst.sort_by(|one, other| other.micros.total_cmp(&one.micros));
        for found in worst {
            let start: String = found.line.chars().take(72).collect();
            println!("{:7.1} µs  {:20}  {start}", found.micros, found.verdict);
        }
    }
}

#[derive(Clone)]
struct Found {
    line: String,
    micros: f64,
    verdict: &'static str,
}

impl Found {
    fn measure(line: String) -> Self {
        Self::of(line, 2)
    }

    /// The fastest of some runs: what the line costs, and not what else the machine did.
    fn of(line: String, runs: usize) -> Self {
        let mut micros = f64::INFINITY;
        for _ in 0..runs {
            let begin = now();
            drop(std::hint::black_box(judge(std::hint::black_box(&line))));
            micros = micros.min(now() - begin);
        }
        let verdict = judge(&line).map_or_else(|refusal| refusal.rule().name(), |_| "accepted");
        Self {
            line,
            micros,
            verdict,
        }
    }

    fn accepted(&self) -> bool {
        self.verdict == "accepted"
    }
}

/// Microseconds of the processor: what else the machine does takes none of them.
#[expect(clippy::cast_precision_loss, reason = "a run takes no years")]
fn now() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

fn repeat(piece: &str) -> String {
    piece.repeat(MAX_BYTES / piece.len())
}

/// Xorshift: the same lines in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    fn piece(&mut self) -> &'static str {
        PIECES[self.below(PIECES.len())]
    }

    /// Writes a piece over, into, or away from some places.
    fn change(&mut self, line: &str) -> String {
        let mut line = line.to_owned();
        for _ in 0..=self.below(8) {
            let at = self.below(line.len());
            let piece = self.piece();
            let end = (at + self.below(4)).min(line.len());
            line.replace_range(at..end, piece);
        }
        line.truncate(MAX_BYTES);
        line
    }
}

const PIECES: &[&str] = &[
    "a",
    " ",
    "a ",
    "|",
    "||",
    "&&",
    ";",
    ";a",
    "a;",
    "a|",
    "a&&",
    "a||",
    ">a",
    "<a",
    ">>a",
    "2>a",
    "2>&1",
    ">&1 ",
    "'",
    "\"",
    "''",
    "\"\"",
    "' '",
    "'a'",
    "\"a\"",
    "$1",
    "\"$1\"",
    "${1}",
    "\"${1}\"",
    "$HOME",
    "\\a",
    "\\ ",
    "\\\"",
    "{}",
    "{",
    "}",
    "(",
    ")",
    "((",
    "[",
    "] ",
    "[[ ",
    "*",
    "~",
    "#",
    "!",
    "=",
    "a=",
    "&",
    "<<",
    "<<<",
    "${a",
    "if ",
    "for ",
    "case ",
    "$",
    "$[",
    "${",
    "[a",
    "]]",
    "a[1]=",
    "=(",
    "<>",
    ">|",
    "&>",
    "|&",
    "time ",
    "while ",
    "let ",
    "declare a=",
    "! ",
    "export ",
    "printf ",
    "exit ",
    "then ",
    "do ",
    "$[a",
    "\"$[",
    "a[",
    "$a[",
    "\"$1[",
    "{a}>",
];
