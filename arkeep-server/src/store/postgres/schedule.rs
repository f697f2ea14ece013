use arkeep_core::job::JobKind;
use arkeep_core::{PolicyId, StoreError};
use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::columns::{Columns as _, failed, to_json};
use crate::store::schedule::{Mark, ScheduleStore};

#[async_trait]
impl ScheduleStore for PostgresStore {
    async fn marks(&self) -> Result<Vec<Mark>, StoreError> {
        sqlx::query("SELECT * FROM schedule_marks")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?
            .iter()
            .map(mark)
            .collect()
    }

    async fn advance(&self, mark: &Mark) -> Result<(), StoreError> {
        // The policy may have been removed since it was read.
        sqlx::query(
            "INSERT INTO schedule_marks (policy_id, kind, schedule, up_to) \
             SELECT id, $2, $3, $4 FROM policies WHERE id = $1 \
             ON CONFLICT (policy_id, kind) DO UPDATE SET schedule = excluded.schedule, \
             up_to = CASE WHEN schedule_marks.schedule = excluded.schedule \
                 THEN greatest(schedule_marks.up_to, excluded.up_to) ELSE excluded.up_to END",
        )
        .bind(mark.policy.to_string())
        .bind(mark.kind.as_str())
        .bind(to_json(&mark.schedule)?)
        .bind(mark.up_to.as_unix_millis())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn forget(&self, policy: PolicyId, kind: JobKind) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM schedule_marks WHERE policy_id = $1 AND kind = $2")
            .bind(policy.to_string())
            .bind(kind.as_str())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }
}

fn mark(row: &PgRow) -> Result<Mark, StoreError> {
    Ok(Mark {
        policy: row.word("policy_id")?,
        kind: row.word("kind")?,
        schedule: row.json("schedule")?,
        up_to: row.time("up_to")?,
    })
}
