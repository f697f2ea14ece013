//! The real program, against a real agent port over memory stores.

mod enrolling;
mod hooks;
mod running;
pub(crate) mod server;
