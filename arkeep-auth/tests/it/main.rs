//! The crate from outside.

mod conformance;
mod fixture;
mod sessions;
mod vectors;
