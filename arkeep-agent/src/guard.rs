//! What the machine's owner does not let the server do, whatever the server says.
//!
//! The server names paths: what to back up, and where to put files back. A server that was taken
//! over would name `/etc/shadow` and `/etc/cron.d`. The agent judges both by its own
//! configuration, which the server cannot change.

mod sources;
mod targets;

pub use sources::{DeniedSources, SourceRefused};
pub use targets::{RestoreTargets, TargetRefused};
