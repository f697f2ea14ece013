//! The reference server: SQL stores, dispatch and the HTTP API.

#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "store")]
pub mod store;
