//! Where the server keeps what it must not forget.
//!
//! Every table has a port here: a small trait that speaks in records of this crate and says what
//! is atomic. [`sqlite::SqliteStore`] implements all of them on one file,
//! [`postgres::PostgresStore`] for several replicas; both also implement the ports of `arkeep-auth`
//! and `arkeep-transport`. A caller holds `Arc<dyn …>` of the ones it needs and never sees SQL.
//!
//! Three promises hold for each port:
//!
//! - A step that only one caller may win is one conditional statement. Who loses is told so by a
//!   value ([`Refusal`], [`Enqueued`](arkeep_core::queue::Enqueued)), not by an error to be parsed.
//! - What a method answered survives a crash of the program and of the machine.
//! - A secret passes through sealed. The records hold blobs of `arkeep-vault`; [`sealed`] says
//!   which column each belongs to, and nothing here can open one.
//!
//! Records carry a `version` that grows by one with each change; a write names the version it was
//! made from and is refused as [`Refusal::Stale`] when another came first.

pub mod address;
pub mod agents;
pub mod audit;
pub mod channels;
mod database;
pub mod deliveries;
pub mod destinations;
pub mod elsewhere;
pub mod factors;
pub mod feed;
pub mod identity;
pub mod instance;
pub mod jobs;
pub mod keys;
pub mod logs;
mod open;
pub mod page;
pub mod policies;
pub mod postgres;
pub mod rotation;
mod sample;
pub mod schedule;
pub mod sealed;
pub mod snapshots;
pub mod sqlite;
pub mod users;
pub mod watch;
mod write;

pub use agents::AgentStore;
pub use audit::AuditStore;
pub use channels::ChannelStore;
pub use database::{Database, Neighbours};
pub use deliveries::DeliveryStore;
pub use destinations::DestinationStore;
pub use factors::{FactorRecords, SealedFactors};
pub use identity::IdentityStore;
pub use instance::InstanceStore;
pub use jobs::JobStore;
pub use keys::KeyStore;
pub use logs::JobLogStore;
pub use open::OpenStoreError;
pub use page::{Cursor, Listed, Page};
pub use policies::PolicyStore;
pub use rotation::RotationStore;
pub use sample::Sample;
pub use schedule::ScheduleStore;
pub use sealed::SealedValues;
pub use snapshots::SnapshotStore;
pub use users::UserDirectory;
pub use watch::WatchStore;
pub use write::{Refusal, SecretChange, WriteError};
