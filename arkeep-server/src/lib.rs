#![cfg_attr(feature = "server", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "server"),
    doc = "The stores of Arkeep's server and their ports."
)]

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod authority;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod dispatch;
#[cfg(feature = "server")]
pub mod exit;
#[cfg(feature = "store")]
mod failpoint;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod keeper;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod maintenance;
#[cfg(feature = "server")]
pub mod notify;
#[cfg(feature = "store")]
pub mod parameters;
#[cfg(feature = "server")]
pub mod process;
#[cfg(feature = "store")]
pub mod reseal;
#[cfg(feature = "server")]
pub mod run;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "server")]
pub mod token_keys;
