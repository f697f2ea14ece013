//! For tests: the suite that every enrolment store passes, and ways past the network for fuzzers.
//!
//! The memory implementation of the store is
//! [`MemoryEnrollments`](crate::enrollment::MemoryEnrollments).

pub mod calls;
pub mod enrollment;
pub mod messages;
pub mod stream;
