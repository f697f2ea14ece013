#![doc = include_str!("../README.md")]

pub mod engine;
pub mod entropy;
pub mod id;
pub mod job;
pub mod policy;
pub mod queue;
pub mod repository;
pub mod secret;
pub mod snapshot;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;

pub use entropy::{Entropy, SystemEntropy};
pub use id::{AgentId, ChannelId, DeliveryId, DestinationId, JobId, PolicyId, SnapshotId, UserId};
pub use secret::{ExposeSecret, SecretSlice, SecretString};
pub use store::StoreError;
pub use time::{Clock, SystemClock, Timestamp};
