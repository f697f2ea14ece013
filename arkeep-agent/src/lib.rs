#![doc = include_str!("../README.md")]

pub mod attachment;
pub mod conversation;
pub mod executor;
mod failpoint;
mod files;
pub mod guard;
pub mod identity;
pub mod outbox;
mod paths;
pub mod restic;
pub mod state;
mod sys;
