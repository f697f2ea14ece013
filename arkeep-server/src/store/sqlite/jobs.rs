use arkeep_core::job::{Fence, JobError, JobKind, JobState};
use arkeep_core::{AgentId, JobId, PolicyId, StoreError, Timestamp};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Builder;

use super::SqliteStore;
use super::columns::{Columns as _, below, failed, one_more, signed, to_json};
use crate::store::agents::Agent;
use crate::store::jobs::{Job, JobFilter, JobStore, Sent, agent_away, agent_revoked};
use crate::store::{Listed, Page};

#[async_trait]
impl JobStore for SqliteStore {
    async fn find(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        sqlx::query("SELECT * FROM jobs WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(failed)?
            .map(|row| job(&row))
            .transpose()
    }

    async fn list(&self, filter: &JobFilter, page: &Page) -> Result<Listed<Job>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(BRIEF);
        query.push_bind(below(page));
        let words = [
            (
                " AND state = ",
                filter.state.map(|it| it.as_str().to_owned()),
            ),
            (" AND kind = ", filter.kind.map(|it| it.as_str().to_owned())),
            (" AND agent_id = ", filter.agent.map(|it| it.to_string())),
            (" AND policy_id = ", filter.policy.map(|it| it.to_string())),
            (" AND id >= ", filter.since.map(first_id_of)),
        ];
        for (clause, word) in words {
            if let Some(word) = word {
                query.push(clause).push_bind(word);
            }
        }
        let rows = query
            .push(" ORDER BY id DESC LIMIT ")
            .push_bind(one_more(page))
            .build()
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
        let found = rows.iter().map(job).collect::<Result<_, _>>()?;
        Ok(Listed::cut(found, page, |one: &Job| one.id.as_uuid()))
    }

    async fn held(&self, agent: AgentId) -> Result<Vec<Job>, StoreError> {
        sqlx::query(
            "SELECT * FROM jobs WHERE agent_id = $1 AND state IN ('leased', 'running') ORDER BY id",
        )
        .bind(agent.to_string())
        .fetch_all(&self.reader)
        .await
        .map_err(failed)?
        .iter()
        .map(job)
        .collect()
    }

    async fn note_assignment(
        &self,
        job: JobId,
        fence: Fence,
        sent: &Sent,
    ) -> Result<bool, StoreError> {
        let noted = sqlx::query(
            "UPDATE jobs SET assigned_destinations = $3, sent = $4 \
             WHERE id = $1 AND fence = $2 AND state = 'leased'",
        )
        .bind(job.to_string())
        .bind(signed(fence.0))
        .bind(to_json(&sent.destinations())?)
        .bind(to_json(sent)?)
        .execute(&self.writer)
        .await
        .map_err(failed)?;
        Ok(noted.rows_affected() == 1)
    }

    async fn miss(
        &self,
        policy: PolicyId,
        kind: JobKind,
        tick: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<JobId>, StoreError> {
        sqlx::query(
            "UPDATE jobs SET state = 'missed', ended_at = $4 WHERE policy_id = $1 AND kind = $2 \
             AND state = 'queued' AND scheduled_for < $3 RETURNING id",
        )
        .bind(policy.to_string())
        .bind(kind.as_str())
        .bind(tick.as_unix_millis())
        .bind(now.as_unix_millis())
        .fetch_all(&self.writer)
        .await
        .map_err(failed)?
        .iter()
        .map(|row| row.word("id"))
        .collect()
    }

    async fn give_up(
        &self,
        job: JobId,
        fence: Fence,
        error: &JobError,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let ended = sqlx::query(
            "UPDATE jobs SET state = 'failed', error = $3, ended_at = $4, lease_until = NULL \
             WHERE id = $1 AND fence = $2 AND state IN ('leased', 'running')",
        )
        .bind(job.to_string())
        .bind(signed(fence.0))
        .bind(to_json(error)?)
        .bind(now.as_unix_millis())
        .execute(&self.writer)
        .await
        .map_err(failed)?;
        Ok(ended.rows_affected() == 1)
    }

    async fn abandon(&self, now: Timestamp) -> Result<Vec<JobId>, StoreError> {
        let silent = now.minus(Agent::ABSENCE).as_unix_millis();
        let revoked = sqlx::query(
            "UPDATE jobs SET error = $1, ended_at = $2, lease_until = NULL, \
             state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE 'failed' END \
             WHERE state IN ('queued', 'leased', 'running') \
             AND agent_id IN (SELECT id FROM agents WHERE standing = 'revoked') RETURNING id",
        )
        .bind(to_json(&agent_revoked())?)
        .bind(now.as_unix_millis())
        .fetch_all(&self.writer)
        .await
        .map_err(failed)?;
        let unheard = sqlx::query(
            "UPDATE jobs SET error = $1, ended_at = $2, lease_until = NULL, state = 'cancelled' \
             WHERE state = 'running' AND cancel_requested_at IS NOT NULL AND agent_id IN \
                 (SELECT id FROM agents WHERE last_seen_at IS NULL OR last_seen_at <= $3) \
             RETURNING id",
        )
        .bind(to_json(&agent_away())?)
        .bind(now.as_unix_millis())
        .bind(silent)
        .fetch_all(&self.writer)
        .await
        .map_err(failed)?;
        let ended = revoked.iter().chain(&unheard);
        ended.map(|row| row.word("id")).collect()
    }

    async fn pending(&self) -> Result<Vec<(JobState, u64)>, StoreError> {
        sqlx::query(
            "SELECT state, count(*) AS jobs FROM jobs \
             WHERE state IN ('queued', 'leased', 'running') GROUP BY state",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(failed)?
        .iter()
        .map(|row| Ok((row.word("state")?, row.count("jobs")?)))
        .collect()
    }
}

/// The lowest UUIDv7 of this moment: jobs are looked up by time through their ids.
fn first_id_of(moment: Timestamp) -> String {
    let millis = u64::try_from(moment.as_unix_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &[0; 10])
        .into_uuid()
        .as_hyphenated()
        .to_string()
}

pub(super) fn job(row: &SqliteRow) -> Result<Job, StoreError> {
    Ok(Job {
        id: row.word("id")?,
        kind: row.word("kind")?,
        state: row.word("state")?,
        agent: row.word("agent_id")?,
        policy: row.word_if("policy_id")?,
        scheduled_for: row.time("scheduled_for")?,
        deadline: row.time_if("deadline")?,
        attempt: row.count("attempt")?,
        fence: Fence(row.count("fence")?),
        assigned: row.json_if("assigned_destinations")?.unwrap_or_default(),
        sent: row.json_if("sent")?,
        folded: row.count("folded")?,
        source: row.word("source")?,
        parameters: row.text("parameters")?,
        created_at: row.time("created_at")?,
        started_at: row.time_if("started_at")?,
        ended_at: row.time_if("ended_at")?,
        cancel_requested_at: row.time_if("cancel_requested_at")?,
        error: row.json_if("error")?,
        results: row.json("results")?,
        hooks: row.json("hooks")?,
        late_result: row.json_if("late_result")?,
    })
}

/// A job as [`JobStore::list`] shows it. Nothing is decoded that is not shown.
const BRIEF: &str = "SELECT id, kind, state, agent_id, policy_id, scheduled_for, deadline, attempt, \
     fence, assigned_destinations, sent, folded, source, parameters, created_at, started_at, \
     ended_at, cancel_requested_at, error, results, \
     (SELECT json_group_array(json_set(h.value, '$.output', '')) FROM json_each(hooks) h) AS hooks, \
     json_set(late_result, '$.hooks', json('[]'), '$.results', json('[]')) AS late_result \
     FROM jobs WHERE id < ";
