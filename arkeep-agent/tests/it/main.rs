//! The agent's parts together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on ends, also in what the tests share"
)]

mod attachment;
mod bench;
mod conversation;
#[cfg(feature = "failpoints")]
mod crash;
mod executor;
mod jobs;
mod network;
mod outbox;
mod program;
mod restic;
mod wire;
