use std::fmt;
use std::time::Duration;

use arkeep_core::StoreError;
use async_trait::async_trait;
use sqlx::postgres::PgListener;

use super::PostgresStore;
use super::columns::failed;
use crate::store::feed::RevocationNotices;

/// Hears of revocations as they are committed, on a connection of its own.
///
/// A trigger of the table tells, so that no way of revoking something can forget to.
pub struct PostgresNotices {
    listener: PgListener,
}

impl PostgresStore {
    /// Begins to listen for revocations, whichever replica commits them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    pub async fn revocation_notices(&self) -> Result<PostgresNotices, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await.map_err(failed)?;
        listener.listen(CHANNEL).await.map_err(failed)?;
        Ok(PostgresNotices { listener })
    }
}

#[async_trait]
impl RevocationNotices for PostgresNotices {
    async fn next(&mut self) {
        // A connection that broke is made anew; until it is, whoever calls has other ways to know.
        if let Err(error) = self.listener.recv().await {
            tracing::warn!(%error, "revocations of other replicas are not told");
            tokio::time::sleep(BREATH).await;
        }
        // What was told meanwhile is read in one go.
        while self.listener.next_buffered().is_some() {}
    }
}

impl fmt::Debug for PostgresNotices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresNotices").finish_non_exhaustive()
    }
}

const CHANNEL: &str = "arkeep_revocations";
pub(super) const BREATH: Duration = Duration::from_secs(1);
