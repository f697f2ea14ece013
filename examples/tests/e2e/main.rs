//! The real server and the real agent, with real restic, seen from outside.
//!
//! Every test starts processes of its own in a directory of its own. What is awaited is always a
//! condition; patience only bounds a test that would hang.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a test that panics has failed, and says where"
)]

mod backup;
mod ca_rotation;
mod canary;
mod fleet;
mod hooks;
mod identity;
mod join;
mod kills;
mod repositories;
mod restic;
mod setup;
mod shutdown;
mod sources;
mod vault_key;
