use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::columns::{Columns as _, failed};
use crate::store::keys::{KeyStore, StoredAuthority, StoredTokenKey};

#[async_trait]
impl KeyStore for SqliteStore {
    async fn authorities(&self) -> Result<Vec<StoredAuthority>, StoreError> {
        sqlx::query("SELECT * FROM ca ORDER BY created_at DESC, id DESC")
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?
            .iter()
            .map(authority)
            .collect()
    }

    async fn establish_authority(
        &self,
        new: &StoredAuthority,
    ) -> Result<StoredAuthority, StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO ca (id, certificate, private_key, created_at) \
             SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM ca)",
        )
        .bind(&new.id)
        .bind(&new.certificate)
        .bind(&new.private_key)
        .bind(new.created_at.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query(
            "INSERT INTO ca_rotation (id, phase, since, old_id) \
             SELECT 1, 'settled', created_at, id FROM ca WHERE id = $1",
        )
        .bind(&new.id)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        let row = sqlx::query("SELECT * FROM ca ORDER BY created_at DESC, id DESC LIMIT 1")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        authority(&row)
    }

    async fn token_keys(&self) -> Result<Vec<StoredTokenKey>, StoreError> {
        sqlx::query("SELECT * FROM token_keys ORDER BY created_at DESC, id DESC")
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?
            .iter()
            .map(token_key)
            .collect()
    }

    async fn establish_token_key(
        &self,
        new: &StoredTokenKey,
    ) -> Result<StoredTokenKey, StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO token_keys (id, public_key, private_key, created_at, retired_at) \
             SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT 1 FROM token_keys)",
        )
        .bind(&new.id)
        .bind(&new.public_key)
        .bind(&new.private_key)
        .bind(new.created_at.as_unix_millis())
        .bind(new.retired_at.map(|at| at.as_unix_millis()))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        let row = sqlx::query("SELECT * FROM token_keys ORDER BY created_at DESC, id DESC LIMIT 1")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        token_key(&row)
    }

    async fn follow_token_key(
        &self,
        last: &str,
        next: &StoredTokenKey,
        from: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let won = sqlx::query(
            "UPDATE token_keys SET retired_at = $2 WHERE id = $1 AND retired_at IS NULL",
        )
        .bind(last)
        .bind(from.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if won.rows_affected() == 0 {
            return Ok(false);
        }
        // What a clock that was wrong retired in a future that will not come so soon.
        sqlx::query("UPDATE token_keys SET retired_at = $1 WHERE retired_at > $1")
            .bind(from.as_unix_millis())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO token_keys (id, public_key, private_key, created_at, retired_at) \
             VALUES ($1, $2, $3, $4, NULL)",
        )
        .bind(&next.id)
        .bind(&next.public_key)
        .bind(&next.private_key)
        .bind(next.created_at.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    async fn remove_token_keys(&self, before: Timestamp) -> Result<u64, StoreError> {
        let removed = sqlx::query("DELETE FROM token_keys WHERE retired_at < $1")
            .bind(before.as_unix_millis())
            .execute(&self.writer)
            .await
            .map_err(failed)?;
        Ok(removed.rows_affected())
    }
}

pub(super) fn authority(row: &SqliteRow) -> Result<StoredAuthority, StoreError> {
    Ok(StoredAuthority {
        id: row.text("id")?,
        certificate: row.blob("certificate")?,
        private_key: row.blob("private_key")?,
        created_at: row.time("created_at")?,
    })
}

fn token_key(row: &SqliteRow) -> Result<StoredTokenKey, StoreError> {
    Ok(StoredTokenKey {
        id: row.text("id")?,
        public_key: row.blob("public_key")?,
        private_key: row.blob("private_key")?,
        created_at: row.time("created_at")?,
        retired_at: row.time_if("retired_at")?,
    })
}
