use arkeep_core::StoreError;
use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::columns::{Columns as _, corrupt, failed, one_more, signed};
use crate::store::audit::{Actor, AuditStore, ChainHash, Changes, Entry, Head, NewEntry, Target};
use crate::store::{Listed, Page};

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append(&self, new: &NewEntry) -> Result<Entry, StoreError> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query("SELECT seq, hash FROM audit_head")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        let entry = Entry::after(&end(&row)?, new.clone());
        let says = &entry.says;
        sqlx::query(
            "INSERT INTO audit (seq, at, actor_kind, actor_id, actor_name, action, target_kind, \
             target_id, result, address, request_id, changes, previous_hash, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(signed(entry.seq))
        .bind(says.at.as_unix_millis())
        .bind(says.actor.kind.as_ref())
        .bind(&says.actor.id)
        .bind(&says.actor.name)
        .bind(says.action.as_ref())
        .bind(says.target.kind.as_ref())
        .bind(&says.target.id)
        .bind(says.result.as_ref())
        .bind(&says.address)
        .bind(&says.request_id)
        .bind(says.changes.as_str())
        .bind(entry.previous_hash.as_bytes().to_vec())
        .bind(entry.hash.as_bytes().to_vec())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query("UPDATE audit_head SET seq = $1, hash = $2")
            .bind(signed(entry.seq))
            .bind(entry.hash.as_bytes().to_vec())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(entry)
    }

    async fn entries(&self, page: &Page) -> Result<Listed<Entry>, StoreError> {
        let before = page.cursor().map_or(i64::MAX, |cursor| {
            i64::try_from(cursor.id().as_u128()).unwrap_or(i64::MAX)
        });
        let rows = sqlx::query("SELECT * FROM audit WHERE seq < $1 ORDER BY seq DESC LIMIT $2")
            .bind(before)
            .bind(one_more(page))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let found = rows.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Listed::cut(found, page, Entry::as_id))
    }

    async fn following(&self, seq: u64, limit: u32) -> Result<Vec<Entry>, StoreError> {
        sqlx::query("SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(signed(seq))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?
            .iter()
            .map(entry)
            .collect()
    }

    async fn head(&self) -> Result<Head, StoreError> {
        let row = sqlx::query("SELECT seq, hash FROM audit_head")
            .fetch_one(&self.pool)
            .await
            .map_err(failed)?;
        end(&row)
    }
}

fn end(row: &PgRow) -> Result<Head, StoreError> {
    Ok(Head {
        seq: row.count("seq")?,
        hash: hash(row, "hash")?,
    })
}

fn hash(row: &PgRow, column: &str) -> Result<ChainHash, StoreError> {
    ChainHash::from_stored(&row.blob(column)?).ok_or_else(|| corrupt(column))
}

// Words are not judged here: what is wrong with a row is for the verifier to say.
fn entry(row: &PgRow) -> Result<Entry, StoreError> {
    Ok(Entry {
        seq: row.count("seq")?,
        says: NewEntry {
            at: row.time("at")?,
            actor: Actor {
                kind: row.text("actor_kind")?.into(),
                id: row.text_if("actor_id")?,
                name: row.text_if("actor_name")?,
            },
            action: row.text("action")?.into(),
            target: Target {
                kind: row.text("target_kind")?.into(),
                id: row.text_if("target_id")?,
            },
            result: row.text("result")?.into(),
            address: row.text_if("address")?,
            request_id: row.text_if("request_id")?,
            changes: Changes::from_stored(row.text("changes")?),
        },
        previous_hash: hash(row, "previous_hash")?,
        hash: hash(row, "hash")?,
    })
}
