use arkeep_auth::api_token::{
    ApiTokenDigest, ApiTokenInfo, ApiTokenStore, NewApiToken, StoredApiToken,
};
use arkeep_auth::{ApiTokenId, Epoch};
use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::columns::{Columns as _, corrupt, failed, to_json};

#[async_trait]
impl ApiTokenStore for PostgresStore {
    async fn create(&self, new: &NewApiToken) -> Result<bool, StoreError> {
        // With the lock of all writers: whoever takes everything back does it before or after this.
        let mut transaction = self.begin().await?;
        let made = sqlx::query(
            "INSERT INTO api_tokens (id, owner_id, name, digest, scopes, created_at, expires_at) \
             SELECT $1, $2, $3, $4, $5, $6, $7 \
             WHERE EXISTS (SELECT 1 FROM users WHERE id = $2 AND enabled) \
             AND EXISTS (SELECT 1 FROM revocations \
                 WHERE kind = 'subject' AND id = $2 AND epoch = $8)",
        )
        .bind(new.id.to_string())
        .bind(new.owner.user.to_string())
        .bind(&new.name)
        .bind(new.digest.as_bytes().to_vec())
        .bind(to_json(&new.scopes)?)
        .bind(new.created_at.as_unix_millis())
        .bind(new.expires_at.as_unix_millis())
        .bind(new.owner.epoch.as_i64())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(made.rows_affected() == 1)
    }

    async fn find(&self, id: ApiTokenId) -> Result<Option<StoredApiToken>, StoreError> {
        sqlx::query(
            "SELECT t.*, u.role, u.enabled, r.epoch FROM api_tokens t \
             JOIN users u ON u.id = t.owner_id \
             JOIN revocations r ON r.kind = 'subject' AND r.id = u.id WHERE t.id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?
        .map(|row| stored(&row))
        .transpose()
    }

    async fn used(&self, id: ApiTokenId, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE api_tokens SET last_used_at = $2 \
             WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
        )
        .bind(id.to_string())
        .bind(now.as_unix_millis())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn list(&self, owner: UserId) -> Result<Vec<ApiTokenInfo>, StoreError> {
        sqlx::query(
            "SELECT * FROM api_tokens WHERE owner_id = $1 ORDER BY created_at DESC, id DESC",
        )
        .bind(owner.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?
        .iter()
        .map(info)
        .collect()
    }

    async fn revoke(&self, owner: UserId, id: ApiTokenId) -> Result<bool, StoreError> {
        let revoked = sqlx::query("DELETE FROM api_tokens WHERE id = $1 AND owner_id = $2")
            .bind(id.to_string())
            .bind(owner.to_string())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(revoked.rows_affected() == 1)
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        let pruned = sqlx::query("DELETE FROM api_tokens WHERE expires_at < $1")
            .bind(before.as_unix_millis())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(pruned.rows_affected())
    }
}

fn stored(row: &PgRow) -> Result<StoredApiToken, StoreError> {
    let digest = row.blob("digest")?;
    let digest = digest.try_into().map_err(|_| corrupt("digest"))?;
    Ok(StoredApiToken {
        digest: ApiTokenDigest::from_bytes(digest),
        scopes: row.json("scopes")?,
        expires_at: row.time("expires_at")?,
        last_used_at: row.time_if("last_used_at")?,
        owner: row.word("owner_id")?,
        owner_role: row.word("role")?,
        owner_epoch: row.integer("epoch").map(Epoch::from_i64)?,
        owner_enabled: row.flag("enabled")?,
    })
}

fn info(row: &PgRow) -> Result<ApiTokenInfo, StoreError> {
    Ok(ApiTokenInfo {
        id: row.word("id")?,
        name: row.text("name")?,
        scopes: row.json("scopes")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
        last_used_at: row.time_if("last_used_at")?,
    })
}
