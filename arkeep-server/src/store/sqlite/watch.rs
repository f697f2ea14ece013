use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;

use super::SqliteStore;
use super::columns::failed;
use crate::store::agents::Agent;
use crate::store::watch::WatchStore;

#[async_trait]
impl WatchStore for SqliteStore {
    async fn watch_policies(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for statement in [MENDED, BROKEN] {
            sqlx::query(statement)
                .bind(now.as_unix_millis())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    async fn watch_agents(&self, now: Timestamp) -> Result<(), StoreError> {
        let silent = now.minus(Agent::ABSENCE).as_unix_millis();
        let mut transaction = self.begin().await?;
        sqlx::query(
            "DELETE FROM absent_agents WHERE EXISTS (SELECT 1 FROM agents a WHERE a.id = agent_id \
             AND (a.last_seen_at > $1 OR a.standing <> 'trusted'))",
        )
        .bind(silent)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query(
            "INSERT INTO absent_agents (agent_id, seen_at, noticed_at) \
             SELECT a.id, a.last_seen_at, $2 FROM agents a WHERE a.standing = 'trusted' \
             AND a.last_seen_at <= $1 \
             AND NOT EXISTS (SELECT 1 FROM absent_agents known WHERE known.agent_id = a.id)",
        )
        .bind(silent)
        .bind(now.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }
}

// In milliseconds.
macro_rules! max_age {
    () => {
        "((p.settings ->> '$.max_age') * 1000)"
    };
}

// Whether policy `p` has what it promises. A time that an agent made up, in the future, is not
// believed: the job ended by our clock.
macro_rules! kept {
    () => {
        concat!(
            "EXISTS (SELECT 1 FROM snapshots s LEFT JOIN jobs j ON j.id = s.job_id \
             WHERE s.policy_id = p.id AND s.present = 1 AND s.taken_at > $1 - ",
            max_age!(),
            " AND ((j.state = 'succeeded' AND j.ended_at > $1 - ",
            max_age!(),
            ") OR (j.id IS NULL AND s.taken_at <= $1)))"
        )
    };
}

const MENDED: &str = concat!(
    "DELETE FROM overdue_policies WHERE NOT EXISTS (SELECT 1 FROM policies p \
     WHERE p.id = policy_id AND p.enabled AND ",
    max_age!(),
    " IS NOT NULL AND NOT ",
    kept!(),
    ")"
);

const BROKEN: &str = concat!(
    "INSERT INTO overdue_policies (policy_id, since, last_good_at) \
     SELECT p.id, $1, (SELECT max(s.taken_at) FROM snapshots s LEFT JOIN jobs j ON j.id = s.job_id \
         WHERE s.policy_id = p.id AND s.present = 1 AND (j.id IS NULL OR j.state = 'succeeded')) \
     FROM policies p WHERE p.enabled AND p.created_at <= $1 - ",
    max_age!(),
    " AND NOT EXISTS (SELECT 1 FROM overdue_policies known WHERE known.policy_id = p.id) \
     AND NOT ",
    kept!()
);
