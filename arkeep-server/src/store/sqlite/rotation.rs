use arkeep_core::{AgentId, StoreError, Timestamp};
use arkeep_transport::ca::rotation::Rotation;
use arkeep_transport::trust::TrustDigest;
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::columns::{Columns as _, corrupt, failed};
use super::keys::authority;
use crate::store::RotationStore;
use crate::store::rotation::{self, Follower, Step, StoredRotation};

#[async_trait]
impl RotationStore for SqliteStore {
    async fn rotation(&self) -> Result<Option<StoredRotation>, StoreError> {
        // One statement, so that the roots are those of the phase.
        let rows = sqlx::query(
            "SELECT r.phase, r.since, r.signs_since, r.old_id, r.new_id, ca.* \
             FROM ca_rotation r JOIN ca ON ca.id IN (r.old_id, r.new_id)",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(failed)?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let root = |id: Option<String>| {
            let is_it = |row: &&SqliteRow| row.text("id").ok() == id;
            let row = rows.iter().find(is_it);
            row.filter(|_| id.is_some()).map(authority).transpose()
        };
        Ok(Some(StoredRotation {
            rotation: Rotation {
                phase: rotation::phase(&row.text("phase")?)?,
                since: row.time("since")?,
            },
            old: root(row.text_if("old_id")?)?.ok_or_else(|| corrupt("old_id"))?,
            new: root(row.text_if("new_id")?)?,
            signs_since: row.time_if("signs_since")?,
        }))
    }

    async fn advance(
        &self,
        seen: &Rotation,
        step: Step<'_>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let mut new = None;
        if let Step::Announce(root) = step {
            new = Some(root.id.as_str());
            sqlx::query(
                "INSERT INTO ca (id, certificate, private_key, created_at) \
                 VALUES ($1, $2, $3, $4)",
            )
            .bind(&root.id)
            .bind(&root.certificate)
            .bind(&root.private_key)
            .bind(root.created_at.as_unix_millis())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        let taken = sqlx::query(match step {
            Step::Announce(_) => {
                "UPDATE ca_rotation SET phase = $3, since = $4, new_id = $5 \
                 WHERE phase = $1 AND since = $2"
            }
            Step::Issue => {
                "UPDATE ca_rotation SET phase = $3, since = $4, signs_since = $4 \
                 WHERE phase = $1 AND since = $2 AND $5 IS NULL"
            }
            Step::Settle => {
                "UPDATE ca_rotation SET phase = $3, since = $4, old_id = new_id, new_id = NULL \
                 WHERE phase = $1 AND since = $2 AND $5 IS NULL"
            }
        })
        .bind(seen.phase.as_str())
        .bind(seen.since.as_unix_millis())
        .bind(step.leads_to().as_str())
        .bind(now.as_unix_millis())
        .bind(new)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if taken.rows_affected() == 0 {
            return Ok(false);
        }
        if let Step::Settle = step {
            sqlx::query("DELETE FROM ca WHERE id NOT IN (SELECT old_id FROM ca_rotation)")
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    async fn fleet(&self) -> Result<Vec<Follower>, StoreError> {
        let rows = sqlx::query(
            "SELECT a.id, a.name, a.trust, a.last_seen_at, (SELECT min(c.issued_at) \
             FROM certificates c WHERE c.agent_id = a.id AND c.superseded = 0) AS certified_at \
             FROM agents a WHERE a.standing <> 'revoked' ORDER BY a.id",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(failed)?;
        rows.iter().map(follower).collect()
    }

    async fn trusts(&self, agent: AgentId, trust: TrustDigest) -> Result<(), StoreError> {
        sqlx::query("UPDATE agents SET trust = $2 WHERE id = $1")
            .bind(agent.to_string())
            .bind(trust.as_bytes().as_slice())
            .execute(&self.writer)
            .await
            .map_err(failed)?;
        Ok(())
    }
}

fn follower(row: &SqliteRow) -> Result<Follower, StoreError> {
    Ok(Follower {
        agent: row.word("id")?,
        name: row.text("name")?,
        trust: rotation::trust(row.blob_if("trust")?)?,
        certified_at: row.time_if("certified_at")?,
        last_seen_at: row.time_if("last_seen_at")?,
    })
}
