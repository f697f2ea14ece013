use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;

use super::PostgresStore;
use super::columns::{Columns as _, failed};
use crate::store::InstanceStore;
use crate::store::instance::SetupOffer;

#[async_trait]
impl InstanceStore for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM instance")
            .fetch_one(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn set_up_at(&self) -> Result<Option<Timestamp>, StoreError> {
        sqlx::query("SELECT set_up_at FROM instance")
            .fetch_one(&self.pool)
            .await
            .map_err(failed)?
            .time_if("set_up_at")
    }

    async fn offer_setup(&self, token_digest: &[u8; 32]) -> Result<bool, StoreError> {
        let offered = sqlx::query(
            "UPDATE instance SET setup_token_digest = $1 \
             WHERE set_up_at IS NULL AND NOT EXISTS (SELECT 1 FROM users)",
        )
        .bind(token_digest.as_slice())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(offered.rows_affected() == 1)
    }

    async fn offer_setup_once(&self, token_digest: &[u8; 32]) -> Result<SetupOffer, StoreError> {
        let offered = sqlx::query(
            "UPDATE instance SET setup_token_digest = $1 \
             WHERE set_up_at IS NULL AND NOT EXISTS (SELECT 1 FROM users) \
             AND (setup_token_digest IS NULL OR setup_token_digest = $1)",
        )
        .bind(token_digest.as_slice())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        if offered.rows_affected() == 1 {
            return Ok(SetupOffer::Offered);
        }
        let is_open = sqlx::query(
            "SELECT set_up_at IS NULL AND NOT EXISTS (SELECT 1 FROM users) AS is_open FROM instance",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(failed)?
        .flag("is_open")?;
        Ok(match is_open {
            true => SetupOffer::OfferedByAnother,
            false => SetupOffer::SetUp,
        })
    }
}
