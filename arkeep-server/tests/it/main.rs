//! The server, from outside.
#![cfg_attr(
    feature = "store",
    expect(
        clippy::duplicate_mod,
        reason = "the tests of the stores run on each engine"
    )
)]

#[cfg(feature = "server")]
mod dispatch;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "store")]
mod store;
#[cfg(feature = "store")]
mod store_postgres;
