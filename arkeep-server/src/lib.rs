//! The reference server: SQL stores, dispatch and the HTTP API.

#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "store")]
pub mod parameters;
#[cfg(feature = "store")]
pub mod store;
