use std::fmt;
use std::sync::Arc;

use arkeep_auth::oidc::LoginStateStore;
use arkeep_auth::{ApiTokenStore, RevocationStore, SessionStore, UserStore};
use arkeep_core::StoreError;
use arkeep_core::queue::JobQueue;
use arkeep_transport::enrollment::EnrollmentStore;
use async_trait::async_trait;

use super::elsewhere::{AgentNotices, Elsewhere};
use super::feed::{NoNotices, RevocationNotices};
use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;
use super::{
    AgentStore, AuditStore, ChannelStore, DeliveryStore, DestinationStore, FactorRecords,
    IdentityStore, InstanceStore, JobLogStore, JobStore, KeyStore, PolicyStore, RotationStore,
    ScheduleStore, SealedValues, SnapshotStore, UserDirectory, WatchStore,
};

/// Every port of this module, and those of `arkeep-auth` and `arkeep-transport`, on one database.
///
/// For a program that does not care which: an `Arc` of it becomes the `Arc` of any of its ports.
#[async_trait]
pub trait Database:
    AgentStore
    + ApiTokenStore
    + AuditStore
    + ChannelStore
    + DeliveryStore
    + DestinationStore
    + EnrollmentStore
    + FactorRecords
    + IdentityStore
    + InstanceStore
    + JobLogStore
    + JobQueue
    + JobStore
    + KeyStore
    + LoginStateStore
    + PolicyStore
    + RevocationStore
    + RotationStore
    + ScheduleStore
    + SealedValues
    + SessionStore
    + SnapshotStore
    + UserDirectory
    + UserStore
    + WatchStore
    + fmt::Debug
{
    /// Tells of what others revoke in this database.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    async fn revocation_notices(&self) -> Result<Box<dyn RevocationNotices>, StoreError>;

    /// Tells what other replicas do to agents; none where there are no other replicas.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    async fn elsewhere(&self) -> Result<Option<Neighbours>, StoreError>;

    /// Waits until every connection is closed.
    async fn close(&self);
}

/// What it takes to follow other replicas.
#[derive(Debug)]
pub struct Neighbours {
    /// Says how things stand.
    pub store: Arc<dyn Elsewhere>,
    /// Tells that something changed.
    pub notices: Box<dyn AgentNotices>,
}

#[async_trait]
impl Database for SqliteStore {
    /// SQLite tells nothing: what a command beside the server revokes is found by looking.
    async fn revocation_notices(&self) -> Result<Box<dyn RevocationNotices>, StoreError> {
        Ok(Box::new(NoNotices))
    }

    async fn elsewhere(&self) -> Result<Option<Neighbours>, StoreError> {
        Ok(None)
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}

#[async_trait]
impl Database for PostgresStore {
    async fn revocation_notices(&self) -> Result<Box<dyn RevocationNotices>, StoreError> {
        Ok(Box::new(Self::revocation_notices(self).await?))
    }

    async fn elsewhere(&self) -> Result<Option<Neighbours>, StoreError> {
        Ok(Some(Neighbours {
            store: Arc::new(self.clone()),
            notices: Box::new(self.agent_notices().await?),
        }))
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}
