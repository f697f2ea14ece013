//! The calls that Rust cannot vouch for. All `unsafe` code of this crate is here.
//!
//! Everything in this module that runs in a forked copy of the agent runs under one rule: the copy
//! has a single thread, and whatever lock another thread held at the fork is held for ever. So it
//! calls the kernel and nothing else: no allocation, no formatting, no destructor that frees.
#![expect(unsafe_code, reason = "fork, exec and signal masks have no safe form")]

mod exec;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod plain;

pub(super) use exec::ExecVectors;
#[cfg(target_os = "linux")]
pub(super) use linux::*;
#[cfg(any(test, not(target_os = "linux")))]
pub(super) use plain::{Plain, start};
