//! The server, from outside.

#[cfg(feature = "server")]
mod dispatch;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "store")]
mod store;
