#![doc = include_str!("../README.md")]

pub mod entropy;
pub mod id;
pub mod secret;
mod store;
pub mod time;

pub use entropy::{Entropy, SystemEntropy};
pub use id::{AgentId, DestinationId, JobId, PolicyId, SnapshotId, UserId};
pub use secret::{ExposeSecret, SecretSlice, SecretString};
pub use store::StoreError;
pub use time::{Clock, SystemClock, Timestamp};
