//! What the quickstart and the end-to-end tests share: the real programs, a client for the HTTP
//! API, and a tree of awkward files.
//!
//! Nothing here is a model or a mock. [`Programs`] finds the binaries that cargo built,
//! [`Server`] and [`Agent`] run them as processes of their own, [`Api`] speaks to the server as
//! any other client would, [`tree`] compares what was restored with what was backed up, and
//! [`measure`] reads what a process costs.

mod api;
pub mod measure;
mod process;
mod programs;
pub mod tree;

pub use api::{Answer, Api, ApiError};
pub use process::{Agent, AgentOptions, ProcessError, Running, Server, free_port};
pub use programs::{Programs, ProgramsError};

use std::time::Duration;

/// The front page, whose example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct FrontPage;

/// Asks until the answer is there, or `patience` is at an end.
///
/// The pauses are short and grow to a quarter of a second: what is awaited is the condition, the
/// clock only bounds a test that would otherwise hang.
pub async fn until<T>(patience: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = tokio::time::Instant::now() + patience;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        if tokio::time::Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}
