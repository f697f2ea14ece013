//! The crate from outside.

mod api_tokens;
mod conformance;
#[cfg(feature = "axum")]
mod extractor;
mod fixture;
mod following;
mod memory;
mod model;
#[cfg(feature = "oidc")]
mod oidc;
mod races;
mod revocation;
mod second_factor;
mod sessions;
mod throttle;
mod timing;
mod vectors;
