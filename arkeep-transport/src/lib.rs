#![doc = include_str!("../README.md")]

pub mod address;
#[cfg(feature = "server")]
pub mod ca;
#[cfg(any(feature = "server", feature = "client"))]
mod certificate;
#[cfg(feature = "client")]
pub mod client;
mod convert;
#[cfg(feature = "server")]
pub mod enrollment;
#[cfg(feature = "server")]
pub mod gateway;
pub mod identity;
#[cfg(any(feature = "server", feature = "client"))]
mod key;
#[cfg(any(feature = "server", feature = "client"))]
mod pem;
mod proto;
#[cfg(feature = "server")]
pub mod server;
pub mod session;
#[cfg(any(feature = "server", feature = "client"))]
mod status;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token;
pub mod trust;
pub mod wire;

/// The name that every server's certificate on the agent port carries, whatever its address is.
///
/// Agents know a server by its CA, not by its place: it can move, and have several addresses, and
/// no certificate changes. `.internal` is reserved for private use.
pub const SERVER_NAME: &str = "agents.arkeep.internal";
