//! The server, from outside.

#[cfg(feature = "store")]
mod store;
