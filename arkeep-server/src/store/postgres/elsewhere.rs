use std::fmt;

use arkeep_core::{AgentId, StoreError};
use async_trait::async_trait;
use sqlx::postgres::{PgListener, PgRow};

use super::PostgresStore;
use super::columns::{Columns as _, failed};
use crate::store::elsewhere::{AgentNotices, Elsewhere, Outlook};

#[async_trait]
impl Elsewhere for PostgresStore {
    async fn outlook(&self, agents: &[AgentId]) -> Result<Vec<Outlook>, StoreError> {
        let ids: Vec<String> = agents.iter().map(ToString::to_string).collect();
        sqlx::query(
            "SELECT a.id, a.standing = 'revoked' AS is_revoked, a.sessions, \
             EXISTS (SELECT 1 FROM jobs WHERE agent_id = a.id AND state = 'queued') AS has_work, \
             EXISTS (SELECT 1 FROM jobs WHERE agent_id = a.id \
                 AND state IN ('leased', 'running') AND cancel_requested_at IS NOT NULL) \
                 AS must_cancel \
             FROM agents a WHERE a.id = ANY($1)",
        )
        .bind(ids)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?
        .iter()
        .map(outlook)
        .collect()
    }
}

fn outlook(row: &PgRow) -> Result<Outlook, StoreError> {
    Ok(Outlook {
        agent: row.word("id")?,
        is_revoked: row.flag("is_revoked")?,
        generation: row.count("sessions")?,
        has_work: row.flag("has_work")?,
        must_cancel: row.flag("must_cancel")?,
    })
}

/// Hears what is committed about agents and their jobs, on a connection of its own.
pub struct PostgresAgentNotices {
    listener: PgListener,
}

impl PostgresStore {
    /// Begins to listen for what is done to agents, whichever replica does it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    pub async fn agent_notices(&self) -> Result<PostgresAgentNotices, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await.map_err(failed)?;
        listener.listen(CHANNEL).await.map_err(failed)?;
        Ok(PostgresAgentNotices { listener })
    }
}

#[async_trait]
impl AgentNotices for PostgresAgentNotices {
    async fn next(&mut self) -> Option<AgentId> {
        match self.listener.try_recv().await {
            Ok(Some(notice)) => notice.payload().parse().ok(),
            // The connection was cut, and is made anew.
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "what other replicas do to agents is not told");
                tokio::time::sleep(super::notices::BREATH).await;
                None
            }
        }
    }
}

impl fmt::Debug for PostgresAgentNotices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresAgentNotices")
            .finish_non_exhaustive()
    }
}

const CHANNEL: &str = "arkeep_agents";
