use arkeep_auth::factor::{OneUse, RecoveryDigest, TotpStep};
use arkeep_core::{StoreError, UserId};
use async_trait::async_trait;

use super::SqliteStore;
use super::columns::{Columns as _, failed};
use crate::store::factors::{FactorRecords, StoredFactor};

#[async_trait]
impl FactorRecords for SqliteStore {
    async fn factor(&self, user: UserId) -> Result<StoredFactor, StoreError> {
        let row = sqlx::query(
            "SELECT secret, last_step, \
             (SELECT count(*) FROM recovery_codes WHERE user_id = $1) AS codes \
             FROM second_factors WHERE id = $1",
        )
        .bind(user.to_string())
        .fetch_optional(&self.reader)
        .await
        .map_err(failed)?;
        let Some(row) = row else {
            return Ok(StoredFactor::default());
        };
        Ok(StoredFactor {
            secret: Some(row.blob("secret")?),
            confirmed: row.integer_if("last_step")?.is_some(),
            recovery_codes_left: row.count("codes")?,
        })
    }

    async fn propose_sealed(&self, user: UserId, secret: &[u8]) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO second_factors (id, secret) VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET secret = excluded.secret \
             WHERE second_factors.last_step IS NULL",
        )
        .bind(user.to_string())
        .bind(secret.to_vec())
        .execute(&self.writer)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn confirm_sealed(
        &self,
        user: UserId,
        secret: &[u8],
        first: TotpStep,
    ) -> Result<bool, StoreError> {
        let confirmed = sqlx::query(
            "UPDATE second_factors SET last_step = $3 \
             WHERE id = $1 AND secret = $2 AND last_step IS NULL",
        )
        .bind(user.to_string())
        .bind(secret.to_vec())
        .bind(first.as_i64())
        .execute(&self.writer)
        .await
        .map_err(failed)?;
        Ok(confirmed.rows_affected() == 1)
    }

    async fn spend_once(&self, user: UserId, what: &OneUse) -> Result<bool, StoreError> {
        let query = match what {
            OneUse::Step(step) => sqlx::query(
                "UPDATE second_factors SET last_step = $2 WHERE id = $1 AND last_step < $2",
            )
            .bind(user.to_string())
            .bind(step.as_i64()),
            OneUse::Recovery(digest) => {
                sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1 AND digest = $2")
                    .bind(user.to_string())
                    .bind(digest.as_bytes().to_vec())
            }
        };
        let spent = query.execute(&self.writer).await.map_err(failed)?;
        Ok(spent.rows_affected() == 1)
    }

    async fn replace_codes(
        &self,
        user: UserId,
        codes: &[RecoveryDigest],
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let confirmed =
            sqlx::query("SELECT 1 FROM second_factors WHERE id = $1 AND last_step IS NOT NULL")
                .bind(user.to_string())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed)?;
        if confirmed.is_none() {
            return Ok(false);
        }
        sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1")
            .bind(user.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        for code in codes {
            sqlx::query("INSERT INTO recovery_codes (user_id, digest) VALUES ($1, $2)")
                .bind(user.to_string())
                .bind(code.as_bytes().to_vec())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    async fn remove_factor(&self, user: UserId) -> Result<bool, StoreError> {
        let removed = sqlx::query("DELETE FROM second_factors WHERE id = $1 RETURNING last_step")
            .bind(user.to_string())
            .fetch_optional(&self.writer)
            .await
            .map_err(failed)?;
        match removed {
            Some(row) => Ok(row.integer_if("last_step")?.is_some()),
            None => Ok(false),
        }
    }
}
