#![doc = include_str!("../README.md")]

pub mod conversation;
pub mod executor;
mod failpoint;
mod files;
pub mod guard;
pub mod outbox;
pub mod restic;
pub mod state;
mod sys;
