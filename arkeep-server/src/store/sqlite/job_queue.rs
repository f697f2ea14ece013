use std::time::Duration;

use arkeep_core::job::{Fence, JobError, JobReport, JobState, ReportBody};
use arkeep_core::queue::{Applied, CancelOutcome, ClaimedJob, Enqueued, JobQueue, NewJob};
use arkeep_core::{AgentId, JobId, StoreError, Timestamp};
use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::SqliteStore;
use super::columns::{Columns as _, failed, is_dangling, signed, to_json};
use super::repositories::name_all;
use crate::store::jobs::LateResult;

#[async_trait]
impl JobQueue for SqliteStore {
    async fn enqueue(&self, job: &NewJob) -> Result<Enqueued, StoreError> {
        let mut transaction = self.begin().await?;
        let known = match folding(job) {
            true => known(&mut transaction, job).await?,
            false => None,
        };
        let enqueued = match known {
            Some(known) => Enqueued::Known(known),
            None => add(&mut transaction, job).await?,
        };
        if enqueued != Enqueued::NotFound {
            transaction.commit().await.map_err(failed)?;
        }
        Ok(enqueued)
    }

    async fn claim(
        &self,
        agent: AgentId,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Option<ClaimedJob>, StoreError> {
        if !self.has_queued(agent).await? {
            return Ok(None);
        }
        let mut transaction = self.begin().await?;
        name_all(&mut transaction).await?;
        let claimed = sqlx::query(
            "UPDATE jobs SET state = 'leased', attempt = attempt + 1, fence = fence + 1, \
             lease_until = $3, applied_sequence = 0 \
             WHERE id = (SELECT id FROM jobs next WHERE agent_id = $1 AND state = 'queued' \
                 AND (deadline IS NULL OR deadline > $2) \
                 AND NOT (folds = 1 AND EXISTS (SELECT 1 FROM jobs ahead \
                     WHERE ahead.policy_id = next.policy_id AND ahead.kind = next.kind \
                     AND ahead.state IN ('leased', 'running'))) \
                 AND NOT (kind = 'backup' AND EXISTS (SELECT 1 FROM policy_destinations mine \
                     JOIN jobs other ON other.agent_id <> next.agent_id AND other.kind = 'backup' \
                         AND other.state IN ('leased', 'running') \
                     WHERE mine.policy_id = next.policy_id \
                     AND NOT EXISTS (SELECT 1 FROM snapshots \
                         WHERE snapshots.repository = mine.repository) \
                     AND (EXISTS (SELECT 1 FROM policy_destinations theirs \
                             WHERE theirs.policy_id = other.policy_id \
                             AND theirs.repository = mine.repository) \
                         OR EXISTS (SELECT 1 FROM json_each(other.sent, '$.repositories') sent WHERE sent.value ->> 'address' = mine.repository)))) \
                 ORDER BY id LIMIT 1) \
             RETURNING id, kind, policy_id, attempt, fence, deadline, parameters",
        )
        .bind(agent.to_string())
        .bind(now.as_unix_millis())
        .bind(now.plus(lease).as_unix_millis())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        claimed
            .map(|row| {
                Ok(ClaimedJob {
                    id: row.word("id")?,
                    kind: row.word("kind")?,
                    policy: row.word_if("policy_id")?,
                    attempt: row.count("attempt")?,
                    fence: Fence(row.count("fence")?),
                    deadline: row.time_if("deadline")?,
                    parameters: row.text("parameters")?,
                })
            })
            .transpose()
    }

    async fn apply(
        &self,
        agent: AgentId,
        report: &JobReport,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let mut transaction = self.begin().await?;
        let Some(held) = held(&mut transaction, agent, report.job).await? else {
            return Ok(Applied::Unknown);
        };
        let is_holder = held.fence == report.fence && held.attempt == report.attempt;
        if is_holder && report.sequence <= held.applied_sequence {
            return Ok(Applied::Duplicate);
        }
        let applied = if is_holder && !held.state.is_terminal() {
            move_on(&mut transaction, &held, report, now).await?
        } else {
            keep_late(&mut transaction, &held, report, now).await?
        };
        if is_holder {
            note_sequence(&mut transaction, report).await?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(applied)
    }

    async fn extend(
        &self,
        agent: AgentId,
        job: JobId,
        fence: Fence,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        // Queued under the same fence: the lease ran out and nobody has taken the job since.
        let extended = sqlx::query(
            "UPDATE jobs SET lease_until = $4, \
             state = CASE WHEN state = 'queued' THEN 'leased' ELSE state END \
             WHERE id = $1 AND agent_id = $2 AND fence = $3 AND attempt > 0 \
             AND state IN ('queued', 'leased', 'running')",
        )
        .bind(job.to_string())
        .bind(agent.to_string())
        .bind(signed(fence.0))
        .bind(until.as_unix_millis())
        .execute(&self.writer)
        .await
        .map_err(failed)?;
        Ok(extended.rows_affected() == 1)
    }

    async fn cancel(&self, job: JobId, now: Timestamp) -> Result<CancelOutcome, StoreError> {
        let row = sqlx::query(
            "UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, $2), \
             ended_at = CASE WHEN state = 'running' THEN NULL ELSE $2 END, \
             state = CASE WHEN state = 'running' THEN 'running' ELSE 'cancelled' END \
             WHERE id = $1 AND state IN ('queued', 'leased', 'running') \
             RETURNING state, agent_id, fence",
        )
        .bind(job.to_string())
        .bind(now.as_unix_millis())
        .fetch_optional(&self.writer)
        .await
        .map_err(failed)?;
        if let Some(row) = row {
            return Ok(match row.word("state")? {
                JobState::Running => {
                    CancelOutcome::Requested(row.word("agent_id")?, Fence(row.count("fence")?))
                }
                _ => CancelOutcome::Cancelled,
            });
        }
        let row = sqlx::query("SELECT state FROM jobs WHERE id = $1")
            .bind(job.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(failed)?;
        match row {
            Some(row) => Ok(CancelOutcome::AlreadyEnded(row.word("state")?)),
            None => Ok(CancelOutcome::NotFound),
        }
    }

    async fn reclaim(&self, now: Timestamp) -> Result<Vec<(JobId, JobState)>, StoreError> {
        let overdue = to_json(&JobError {
            code: "deadline_passed".to_owned(),
            detail: "the job had not ended when its deadline passed".to_owned(),
        })?;
        let rows = sqlx::query(
            "UPDATE jobs SET \
             lease_until = NULL, \
             error = CASE WHEN state <> 'queued' AND deadline <= $1 THEN $2 ELSE error END, \
             ended_at = CASE WHEN deadline <= $1 THEN $1 END, \
             state = CASE WHEN deadline <= $1 AND state = 'queued' THEN 'expired' \
                 WHEN deadline <= $1 THEN 'failed' ELSE 'queued' END \
             WHERE (state IN ('queued', 'leased', 'running') AND deadline <= $1) \
             OR (state = 'leased' AND lease_until <= $1) \
             RETURNING id, state",
        )
        .bind(now.as_unix_millis())
        .bind(overdue)
        .fetch_all(&self.writer)
        .await
        .map_err(failed)?;
        rows.iter()
            .map(|row| Ok((row.word("id")?, row.word("state")?)))
            .collect()
    }
}

impl SqliteStore {
    /// Whether it is worth waiting for the lock of all writers.
    async fn has_queued(&self, agent: AgentId) -> Result<bool, StoreError> {
        let found =
            sqlx::query("SELECT 1 FROM jobs WHERE agent_id = $1 AND state = 'queued' LIMIT 1")
                .bind(agent.to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
        Ok(found.is_some())
    }
}

/// Whether the job may be counted in another, or another in it.
const fn folding(job: &NewJob) -> bool {
    job.policy.is_some() && job.kind.folds()
}

/// Folds the job or inserts it, and remembers its tick.
async fn add(
    transaction: &mut Transaction<'_, Sqlite>,
    job: &NewJob,
) -> Result<Enqueued, StoreError> {
    let waiting = match folding(job) {
        true => fold(transaction, job).await?,
        false => None,
    };
    let enqueued = match waiting {
        Some(waiting) => Enqueued::Folded(waiting),
        None => insert(transaction, job).await?,
    };
    if let (true, Some(stands_for)) = (folding(job), enqueued.job()) {
        remember_tick(transaction, job, stands_for).await?;
    }
    Ok(enqueued)
}

async fn known(
    transaction: &mut Transaction<'_, Sqlite>,
    job: &NewJob,
) -> Result<Option<JobId>, StoreError> {
    sqlx::query(
        "SELECT job_id FROM job_ticks WHERE policy_id = $1 AND kind = $2 AND scheduled_for = $3",
    )
    .bind(job.policy.map(|id| id.to_string()))
    .bind(job.kind.as_str())
    .bind(job.scheduled_for.as_unix_millis())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed)?
    .map(|row| row.word("job_id"))
    .transpose()
}

async fn fold(
    transaction: &mut Transaction<'_, Sqlite>,
    job: &NewJob,
) -> Result<Option<JobId>, StoreError> {
    // max() of a number and NULL is NULL: no deadline is later than any.
    sqlx::query(
        "UPDATE jobs SET folded = folded + 1, deadline = max(deadline, $3) \
         WHERE policy_id = $1 AND kind = $2 AND folds = 1 AND state = 'queued' AND attempt = 0 \
         RETURNING id",
    )
    .bind(job.policy.map(|id| id.to_string()))
    .bind(job.kind.as_str())
    .bind(job.deadline.map(Timestamp::as_unix_millis))
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed)?
    .map(|row| row.word("id"))
    .transpose()
}

async fn insert(
    transaction: &mut Transaction<'_, Sqlite>,
    job: &NewJob,
) -> Result<Enqueued, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO jobs (id, kind, agent_id, policy_id, scheduled_for, deadline, source, \
         parameters, folds, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(job.id.to_string())
    .bind(job.kind.as_str())
    .bind(job.agent.to_string())
    .bind(job.policy.map(|id| id.to_string()))
    .bind(job.scheduled_for.as_unix_millis())
    .bind(job.deadline.map(Timestamp::as_unix_millis))
    .bind(job.source.as_str())
    .bind(&job.parameters)
    .bind(job.kind.folds())
    .bind(job.created_at.as_unix_millis())
    .execute(&mut **transaction)
    .await;
    match inserted {
        Ok(_) => Ok(Enqueued::Created(job.id)),
        // Removed since whoever asks for work has looked.
        Err(error) if is_dangling(&error) => Ok(Enqueued::NotFound),
        Err(error) => Err(failed(error)),
    }
}

async fn remember_tick(
    transaction: &mut Transaction<'_, Sqlite>,
    job: &NewJob,
    stands_for: JobId,
) -> Result<(), StoreError> {
    let Some(policy) = job.policy else {
        return Ok(());
    };
    sqlx::query(
        "INSERT INTO job_ticks (policy_id, kind, scheduled_for, job_id) VALUES ($1, $2, $3, $4)",
    )
    .bind(policy.to_string())
    .bind(job.kind.as_str())
    .bind(job.scheduled_for.as_unix_millis())
    .bind(stands_for.to_string())
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(())
}

/// A job as the report of its agent finds it.
struct Held {
    state: JobState,
    attempt: u32,
    fence: Fence,
    applied_sequence: u64,
    late_result: Option<LateResult>,
}

async fn held(
    transaction: &mut Transaction<'_, Sqlite>,
    agent: AgentId,
    job: JobId,
) -> Result<Option<Held>, StoreError> {
    sqlx::query(
        "SELECT state, attempt, fence, applied_sequence, late_result FROM jobs \
         WHERE id = $1 AND agent_id = $2",
    )
    .bind(job.to_string())
    .bind(agent.to_string())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed)?
    .map(|row| {
        Ok(Held {
            state: row.word("state")?,
            attempt: row.count("attempt")?,
            fence: Fence(row.count("fence")?),
            applied_sequence: row.count("applied_sequence")?,
            late_result: row.json_if("late_result")?,
        })
    })
    .transpose()
}

async fn move_on(
    transaction: &mut Transaction<'_, Sqlite>,
    held: &Held,
    report: &JobReport,
    now: Timestamp,
) -> Result<Applied, StoreError> {
    // By the agent's clock, which may be wrong: nothing has happened that is still to come.
    let at = report.at.min(now);
    match &report.body {
        ReportBody::Finished {
            outcome,
            error,
            results,
            hooks,
        } => {
            sqlx::query(
                "UPDATE jobs SET state = $2, lease_until = NULL, ended_at = $3, \
                 started_at = coalesce(started_at, $3), error = $4, results = $5, hooks = $6 \
                 WHERE id = $1",
            )
            .bind(report.job.to_string())
            .bind(JobState::from(*outcome).as_str())
            .bind(at.as_unix_millis())
            .bind(error.as_ref().map(to_json).transpose()?)
            .bind(to_json(results)?)
            .bind(to_json(hooks)?)
            .execute(&mut **transaction)
            .await
            .map_err(failed)?;
            Ok(Applied::Moved((*outcome).into()))
        }
        _ => {
            if held.state != JobState::Running {
                sqlx::query("UPDATE jobs SET state = 'running', started_at = $2 WHERE id = $1")
                    .bind(report.job.to_string())
                    .bind(at.as_unix_millis())
                    .execute(&mut **transaction)
                    .await
                    .map_err(failed)?;
            }
            Ok(Applied::Moved(JobState::Running))
        }
    }
}

async fn keep_late(
    transaction: &mut Transaction<'_, Sqlite>,
    held: &Held,
    report: &JobReport,
    _now: Timestamp,
) -> Result<Applied, StoreError> {
    let Some(late) = late_result(report) else {
        return Ok(Applied::Late(None));
    };
    let kept_before = held
        .late_result
        .as_ref()
        .is_some_and(|kept| kept.attempt == late.attempt && kept.sequence == late.sequence);
    if kept_before {
        return Ok(Applied::Duplicate);
    }
    sqlx::query("UPDATE jobs SET late_result = $2 WHERE id = $1")
        .bind(report.job.to_string())
        .bind(to_json(&late)?)
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
    Ok(Applied::Late(Some(late.outcome)))
}

fn late_result(report: &JobReport) -> Option<LateResult> {
    match &report.body {
        ReportBody::Finished {
            outcome,
            error,
            results,
            hooks,
        } => Some(LateResult {
            attempt: report.attempt,
            sequence: report.sequence,
            outcome: *outcome,
            at: report.at,
            error: error.clone(),
            results: results.clone(),
            hooks: hooks.clone(),
        }),
        _ => None,
    }
}

async fn note_sequence(
    transaction: &mut Transaction<'_, Sqlite>,
    report: &JobReport,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE jobs SET applied_sequence = $2 WHERE id = $1")
        .bind(report.job.to_string())
        .bind(signed(report.sequence))
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
    Ok(())
}
