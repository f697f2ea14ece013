use arkeep_core::snapshot::ResticId;
use arkeep_core::{DestinationId, PolicyId, SnapshotId, StoreError};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use super::SqliteStore;
use super::columns::{Columns as _, below, failed, is_dangling, one_more, signed, to_json};
use crate::store::snapshots::{Snapshot, SnapshotFilter, SnapshotStore};
use crate::store::{Listed, Page};

#[async_trait]
impl SnapshotStore for SqliteStore {
    async fn record(&self, snapshot: &Snapshot) -> Result<Option<SnapshotId>, StoreError> {
        let recorded = sqlx::query(
            "INSERT INTO snapshots (id, restic_id, policy_id, agent_id, destination_id, path, \
             job_id, taken_at, hostname, paths, tags, bytes_processed, bytes_added, files, \
             verified_at, present, repository) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
             coalesce($17, (SELECT repository FROM policy_destinations \
                 WHERE policy_id = $3 AND destination_id = $5 AND path = $6))) \
             ON CONFLICT (policy_id, destination_id, restic_id) \
             DO UPDATE SET present = 1, job_id = coalesce(job_id, excluded.job_id) \
             RETURNING id",
        )
        .bind(snapshot.id.to_string())
        .bind(snapshot.restic_id.as_str())
        .bind(snapshot.policy.to_string())
        .bind(snapshot.agent.to_string())
        .bind(snapshot.destination.to_string())
        .bind(snapshot.path.as_str())
        .bind(snapshot.job.map(|job| job.to_string()))
        .bind(snapshot.taken_at.as_unix_millis())
        .bind(&snapshot.hostname)
        .bind(to_json(&snapshot.paths)?)
        .bind(to_json(&snapshot.tags)?)
        .bind(signed(snapshot.bytes_processed))
        .bind(signed(snapshot.bytes_added))
        .bind(signed(snapshot.files))
        .bind(snapshot.verified_at.map(|at| at.as_unix_millis()))
        .bind(snapshot.present)
        .bind(&snapshot.repository)
        .fetch_one(&self.writer)
        .await;
        match recorded {
            Ok(row) => row.word("id").map(Some),
            Err(error) if is_dangling(&error) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn find(&self, id: SnapshotId) -> Result<Option<Snapshot>, StoreError> {
        sqlx::query("SELECT * FROM snapshots WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(failed)?
            .map(|row| snapshot(&row))
            .transpose()
    }

    async fn list(
        &self,
        filter: &SnapshotFilter,
        page: &Page,
    ) -> Result<Listed<Snapshot>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM snapshots WHERE id < ");
        query.push_bind(below(page));
        let ids = [
            (" AND policy_id = ", filter.policy.map(|id| id.to_string())),
            (" AND agent_id = ", filter.agent.map(|id| id.to_string())),
            (
                " AND destination_id = ",
                filter.destination.map(|id| id.to_string()),
            ),
        ];
        for (clause, id) in ids {
            if let Some(id) = id {
                query.push(clause).push_bind(id);
            }
        }
        let rows = query
            .push(" ORDER BY id DESC LIMIT ")
            .push_bind(one_more(page))
            .build()
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
        let found = rows.iter().map(snapshot).collect::<Result<_, _>>()?;
        Ok(Listed::cut(found, page, |one: &Snapshot| one.id.as_uuid()))
    }

    async fn reconcile(
        &self,
        policy: PolicyId,
        destination: DestinationId,
        present: &[ResticId],
    ) -> Result<Vec<SnapshotId>, StoreError> {
        let mut transaction = self.begin().await?;
        let listed = to_json(present)?;
        let vanished = sqlx::query(
            "UPDATE snapshots SET present = 0 WHERE policy_id = $1 AND destination_id = $2 \
             AND present = 1 AND restic_id NOT IN (SELECT value FROM json_each($3)) RETURNING id",
        )
        .bind(policy.to_string())
        .bind(destination.to_string())
        .bind(&listed)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query(
            "UPDATE snapshots SET present = 1 WHERE policy_id = $1 AND destination_id = $2 \
             AND present = 0 AND restic_id IN (SELECT value FROM json_each($3))",
        )
        .bind(policy.to_string())
        .bind(destination.to_string())
        .bind(&listed)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        vanished.iter().map(|row| row.word("id")).collect()
    }
}

fn snapshot(row: &SqliteRow) -> Result<Snapshot, StoreError> {
    Ok(Snapshot {
        id: row.word("id")?,
        restic_id: row.word("restic_id")?,
        policy: row.word("policy_id")?,
        agent: row.word("agent_id")?,
        destination: row.word("destination_id")?,
        path: row.word("path")?,
        job: row.word_if("job_id")?,
        taken_at: row.time("taken_at")?,
        hostname: row.text("hostname")?,
        paths: row.json("paths")?,
        tags: row.json("tags")?,
        bytes_processed: row.count("bytes_processed")?,
        bytes_added: row.count("bytes_added")?,
        files: row.count("files")?,
        verified_at: row.time_if("verified_at")?,
        present: row.flag("present")?,
        repository: row.text_if("repository")?,
    })
}
