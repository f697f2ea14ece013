//! The vault from outside: vectors, promises, properties, crashes and what memory keeps.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what helps a test may fail as a test does"
)]

mod canary;
mod compile_fail;
mod conformance;
mod crash;
mod process;
mod properties;
mod vectors;

type TestResult = Result<(), Box<dyn std::error::Error>>;
