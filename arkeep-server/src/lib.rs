//! The reference server: SQL stores, dispatch and the HTTP API.

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod dispatch;
#[cfg(feature = "server")]
pub mod exit;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod maintenance;
#[cfg(feature = "store")]
pub mod parameters;
#[cfg(feature = "server")]
pub mod process;
#[cfg(feature = "server")]
pub mod run;
#[cfg(feature = "store")]
pub mod store;
