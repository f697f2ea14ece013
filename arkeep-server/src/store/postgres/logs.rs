use arkeep_core::job::LogLine;
use arkeep_core::{JobId, StoreError};
use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder, Transaction};

use super::PostgresStore;
use super::columns::{Columns as _, corrupt, failed, signed};
use crate::store::logs::{JobLogStore, LOG_BOUND, LogBatch, StoredLine};

#[async_trait]
impl JobLogStore for PostgresStore {
    async fn append(&self, batch: &LogBatch) -> Result<Option<u64>, StoreError> {
        let mut transaction = self.begin().await?;
        let job = batch.job.to_string();
        // Anybody's log but the agent's own is not there for it.
        let known = sqlx::query(
            "INSERT INTO job_logs (job_id) SELECT id FROM jobs WHERE id = $1 AND agent_id = $2 \
             ON CONFLICT (job_id) DO UPDATE SET last_seq = job_logs.last_seq RETURNING *",
        )
        .bind(&job)
        .bind(batch.agent.to_string())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(known) = known else {
            return Ok(None);
        };
        let mut bounds = Bounds::read(&known)?;
        let mut heard = heard(&mut transaction, &job, batch.attempt).await?;
        let mut fresh = Vec::with_capacity(batch.lines.len());
        for line in &batch.lines {
            if line.seq > heard {
                heard = line.seq;
                fresh.push((bounds.place(line.text.len()), line));
            }
        }
        if !fresh.is_empty() {
            insert(&mut transaction, batch, &fresh).await?;
            note(&mut transaction, &job, batch.attempt, heard).await?;
            bounds.trim(&mut transaction, &job).await?;
            bounds.write(&mut transaction, &job).await?;
            transaction.commit().await.map_err(failed)?;
        }
        Ok(Some(heard))
    }

    async fn read(
        &self,
        job: JobId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredLine>, StoreError> {
        sqlx::query(
            "SELECT * FROM job_log_lines WHERE job_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(job.to_string())
        .bind(signed(after))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?
        .iter()
        .map(line)
        .collect()
    }
}

/// How much of one log is kept, and where its head ends.
struct Bounds {
    last_seq: u64,
    head_end: u64,
    head_bytes: u64,
    tail_bytes: u64,
}

impl Bounds {
    const HALF: u64 = LOG_BOUND / 2;

    fn read(row: &PgRow) -> Result<Self, StoreError> {
        Ok(Self {
            last_seq: row.count("last_seq")?,
            head_end: row.count("head_end")?,
            head_bytes: row.count("head_bytes")?,
            tail_bytes: row.count("tail_bytes")?,
        })
    }

    /// Gives the next line its number and counts it to the head while that has room.
    fn place(&mut self, text: usize) -> u64 {
        let cost = cost(text);
        let head_is_open = self.head_end == self.last_seq;
        self.last_seq += 1;
        if head_is_open && self.head_bytes + cost <= Self::HALF {
            self.head_end = self.last_seq;
            self.head_bytes += cost;
        } else {
            self.tail_bytes += cost;
        }
        self.last_seq
    }

    /// Removes the oldest lines of the tail until the rest fits.
    async fn trim(
        &mut self,
        transaction: &mut Transaction<'_, Postgres>,
        job: &str,
    ) -> Result<(), StoreError> {
        while self.tail_bytes > Self::HALF {
            let oldest = sqlx::query(
                "SELECT seq, octet_length(text)::BIGINT AS bytes FROM job_log_lines \
                 WHERE job_id = $1 AND seq > $2 ORDER BY seq LIMIT 1000",
            )
            .bind(job)
            .bind(signed(self.head_end))
            .fetch_all(&mut **transaction)
            .await
            .map_err(failed)?;
            let mut cut = None;
            for row in &oldest {
                if self.tail_bytes <= Self::HALF {
                    break;
                }
                let bytes: usize = row.count("bytes")?;
                self.tail_bytes = self.tail_bytes.saturating_sub(cost(bytes));
                cut = Some(row.integer("seq")?);
            }
            let cut = cut.ok_or_else(|| corrupt("tail_bytes"))?;
            sqlx::query("DELETE FROM job_log_lines WHERE job_id = $1 AND seq > $2 AND seq <= $3")
                .bind(job)
                .bind(signed(self.head_end))
                .bind(cut)
                .execute(&mut **transaction)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    async fn write(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        job: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE job_logs SET last_seq = $2, head_end = $3, head_bytes = $4, tail_bytes = $5 \
             WHERE job_id = $1",
        )
        .bind(job)
        .bind(signed(self.last_seq))
        .bind(signed(self.head_end))
        .bind(signed(self.head_bytes))
        .bind(signed(self.tail_bytes))
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
        Ok(())
    }
}

/// What a line counts against the bound. An empty line costs a row too.
const fn cost(text: usize) -> u64 {
    text as u64 + 64
}

async fn heard(
    transaction: &mut Transaction<'_, Postgres>,
    job: &str,
    attempt: u32,
) -> Result<u64, StoreError> {
    sqlx::query("SELECT last_seq FROM job_log_attempts WHERE job_id = $1 AND attempt = $2")
        .bind(job)
        .bind(i64::from(attempt))
        .fetch_optional(&mut **transaction)
        .await
        .map_err(failed)?
        .map_or(Ok(0), |row| row.count("last_seq"))
}

async fn note(
    transaction: &mut Transaction<'_, Postgres>,
    job: &str,
    attempt: u32,
    heard: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO job_log_attempts (job_id, attempt, last_seq) VALUES ($1, $2, $3) \
         ON CONFLICT (job_id, attempt) DO UPDATE SET last_seq = excluded.last_seq",
    )
    .bind(job)
    .bind(i64::from(attempt))
    .bind(signed(heard))
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn insert(
    transaction: &mut Transaction<'_, Postgres>,
    batch: &LogBatch,
    fresh: &[(u64, &LogLine)],
) -> Result<(), StoreError> {
    // Well below the 65,535 parameters that one statement may have.
    for chunk in fresh.chunks(1_000) {
        let mut query = QueryBuilder::<Postgres>::new(
            "INSERT INTO job_log_lines (job_id, seq, attempt, at, level, source, text) ",
        );
        query
            .push_values(chunk, |mut row, (seq, line)| {
                row.push_bind(batch.job.to_string())
                    .push_bind(signed(*seq))
                    .push_bind(i64::from(batch.attempt))
                    .push_bind(line.at.as_unix_millis())
                    .push_bind(line.level.as_str())
                    .push_bind(line.source.as_str())
                    .push_bind(storable(&line.text));
            })
            .build()
            .execute(&mut **transaction)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// PostgreSQL's texts have every character but one.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn line(row: &PgRow) -> Result<StoredLine, StoreError> {
    Ok(StoredLine {
        seq: row.count("seq")?,
        attempt: row.count("attempt")?,
        at: row.time("at")?,
        level: row.word("level")?,
        source: row.word("source")?,
        text: row.text("text")?,
    })
}
