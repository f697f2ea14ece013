//! The crate from outside.

mod api_tokens;
mod conformance;
mod fixture;
mod memory;
mod model;
mod second_factor;
mod sessions;
mod throttle;
mod timing;
mod vectors;
