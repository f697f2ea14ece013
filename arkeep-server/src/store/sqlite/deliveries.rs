use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use super::SqliteStore;
use super::channels::channel;
use super::columns::{Columns as _, corrupt, failed, one_more, signed, to_json};
use crate::store::deliveries::{
    Claimed, Delivery, DeliveryFilter, DeliveryState, DeliveryStore, Event, LONGEST_REST, Outcome,
    PATIENCE, Settled, Settlement,
};
use crate::store::{Listed, Page};

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn claim_delivery(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Claimed>, StoreError> {
        if !self.has_due(now).await? {
            return Ok(None);
        }
        let mut transaction = self.begin().await?;
        let claimed = sqlx::query(
            "UPDATE channels SET turn = turn + 1, claimed_until = $3 WHERE id = ( \
                 SELECT id FROM channels c WHERE enabled \
                 AND (claimed_until IS NULL OR claimed_until NOT BETWEEN $1 + 1 AND $2) \
                 AND (retry_at IS NULL OR retry_at NOT BETWEEN $1 + 1 AND $2) \
                 AND EXISTS (SELECT 1 FROM deliveries d \
                     WHERE d.channel_id = c.id AND d.state = 'pending') \
                 ORDER BY retry_at IS NOT NULL, retry_at LIMIT 1) \
             RETURNING *",
        )
        .bind(now.as_unix_millis())
        .bind(now.plus(LONGEST_REST).as_unix_millis())
        .bind(until.as_unix_millis())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(claimed) = claimed else {
            return Ok(None);
        };
        let oldest = sqlx::query(
            "SELECT d.seq, d.id, e.type, e.occurred_at, e.data FROM deliveries d \
             JOIN events e ON e.seq = d.event_seq \
             WHERE d.channel_id = $1 AND d.state = 'pending' ORDER BY d.seq LIMIT 1",
        )
        .bind(claimed.text("id")?)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Some(Claimed {
            channel: channel(&claimed)?,
            turn: claimed.count("turn")?,
            failures: claimed.count("failures")?,
            seq: oldest.count("seq")?,
            id: oldest.word("id")?,
            event: event(&oldest)?,
        }))
    }

    async fn settle_delivery(&self, done: &Settlement) -> Result<Option<Settled>, StoreError> {
        let mut transaction = self.begin().await?;
        let settled = match &done.outcome {
            Outcome::Delivered => delivered(&mut transaction, done).await?,
            Outcome::Failed { reason, retry_at } => {
                missed(&mut transaction, done, reason, *retry_at).await?
            }
        };
        transaction.commit().await.map_err(failed)?;
        Ok(settled)
    }

    /// Only one process serves a file.
    async fn forget_turns(&self) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE channels SET claimed_until = NULL, failing_since = NULL, retry_at = NULL \
             WHERE claimed_until IS NOT NULL OR failing_since IS NOT NULL OR retry_at IS NOT NULL",
        )
        .execute(&self.writer)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Listed<Delivery>, StoreError> {
        let before = page.cursor().map_or(i64::MAX, |cursor| {
            i64::try_from(cursor.id().as_u128()).unwrap_or(i64::MAX)
        });
        let rows = sqlx::query(
            "SELECT d.*, e.type, e.occurred_at, e.data, c.retry_at FROM deliveries d \
             JOIN events e ON e.seq = d.event_seq JOIN channels c ON c.id = d.channel_id \
             WHERE d.seq < $1 AND ($2 IS NULL OR d.channel_id = $2) \
             AND ($3 IS NULL OR d.state = $3) ORDER BY d.seq DESC LIMIT $4",
        )
        .bind(before)
        .bind(filter.channel.map(|id| id.to_string()))
        .bind(filter.state.map(DeliveryState::as_str))
        .bind(one_more(page))
        .fetch_all(&self.reader)
        .await
        .map_err(failed)?;
        let found = rows.iter().map(delivery).collect::<Result<_, _>>()?;
        Ok(Listed::cut(found, page, Delivery::as_id))
    }

    async fn prune_deliveries(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let pruned = sqlx::query("DELETE FROM deliveries WHERE ended_at <= $1")
            .bind(before.as_unix_millis())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(
            "DELETE FROM events WHERE occurred_at <= $1 \
             AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_seq = events.seq)",
        )
        .bind(before.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(pruned.rows_affected())
    }
}

impl SqliteStore {
    /// Whether it is worth waiting for the lock of all writers.
    async fn has_due(&self, now: Timestamp) -> Result<bool, StoreError> {
        let found = sqlx::query(
            "SELECT 1 FROM channels c WHERE enabled \
             AND (claimed_until IS NULL OR claimed_until NOT BETWEEN $1 + 1 AND $2) \
             AND (retry_at IS NULL OR retry_at NOT BETWEEN $1 + 1 AND $2) \
             AND EXISTS (SELECT 1 FROM deliveries d \
                 WHERE d.channel_id = c.id AND d.state = 'pending') LIMIT 1",
        )
        .bind(now.as_unix_millis())
        .bind(now.plus(LONGEST_REST).as_unix_millis())
        .fetch_optional(&self.reader)
        .await
        .map_err(failed)?;
        Ok(found.is_some())
    }
}

/// Writes down that something happened, as part of what makes it happen.
pub(super) async fn happened(
    transaction: &mut Transaction<'_, Sqlite>,
    event: &Event,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO events (type, occurred_at, data) VALUES ($1, $2, $3)")
        .bind(&event.kind)
        .bind(event.occurred_at.as_unix_millis())
        .bind(to_json(&event.data)?)
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
    Ok(())
}

async fn delivered(
    transaction: &mut Transaction<'_, Sqlite>,
    done: &Settlement,
) -> Result<Option<Settled>, StoreError> {
    let ours = sqlx::query(
        "UPDATE channels SET claimed_until = NULL, failures = 0, failing_since = NULL, \
         retry_at = NULL WHERE id = $1 AND turn = $2",
    )
    .bind(done.channel.to_string())
    .bind(signed(done.turn))
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    if ours.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query(
        "UPDATE deliveries SET state = 'delivered', attempts = attempts + 1, error = NULL, \
         tried_at = $2, ended_at = $2 WHERE seq = $1",
    )
    .bind(signed(done.seq))
    .bind(done.now.as_unix_millis())
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(Some(Settled { given_up: 0 }))
}

async fn missed(
    transaction: &mut Transaction<'_, Sqlite>,
    done: &Settlement,
    reason: &str,
    retry_at: Timestamp,
) -> Result<Option<Settled>, StoreError> {
    let ours = sqlx::query(
        "UPDATE channels SET claimed_until = NULL, failures = failures + 1, retry_at = $4, \
         failing_since = coalesce(failing_since, $3) WHERE id = $1 AND turn = $2 \
         RETURNING failing_since",
    )
    .bind(done.channel.to_string())
    .bind(signed(done.turn))
    .bind(done.now.as_unix_millis())
    .bind(retry_at.as_unix_millis())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed)?;
    let Some(ours) = ours else {
        return Ok(None);
    };
    sqlx::query(
        "UPDATE deliveries SET attempts = attempts + 1, error = $3, tried_at = $2 WHERE seq = $1",
    )
    .bind(signed(done.seq))
    .bind(done.now.as_unix_millis())
    .bind(reason)
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    let long_ago = done.now.minus(PATIENCE);
    if ours.time("failing_since")? > long_ago {
        return Ok(Some(Settled { given_up: 0 }));
    }
    // All that waited as long, also behind the one that was tried: a channel that is dead for good
    // keeps a day's worth.
    let given_up = sqlx::query(
        "UPDATE deliveries SET state = 'given_up', ended_at = $3 \
         WHERE channel_id = $1 AND state = 'pending' AND created_at <= $2",
    )
    .bind(done.channel.to_string())
    .bind(long_ago.as_unix_millis())
    .bind(done.now.as_unix_millis())
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(Some(Settled {
        given_up: given_up.rows_affected(),
    }))
}

fn event(row: &SqliteRow) -> Result<Event, StoreError> {
    Ok(Event {
        kind: row.text("type")?,
        occurred_at: row.time("occurred_at")?,
        data: row.json("data")?,
    })
}

fn delivery(row: &SqliteRow) -> Result<Delivery, StoreError> {
    let state = row.text("state")?;
    let state: DeliveryState = state.parse().map_err(|_| corrupt("state"))?;
    Ok(Delivery {
        seq: row.count("seq")?,
        id: row.word("id")?,
        channel: row.word("channel_id")?,
        event: event(row)?,
        state,
        attempts: row.count("attempts")?,
        error: row.text_if("error")?,
        tried_at: row.time_if("tried_at")?,
        retry_at: match state {
            DeliveryState::Pending => row.time_if("retry_at")?,
            _ => None,
        },
        ended_at: row.time_if("ended_at")?,
    })
}
