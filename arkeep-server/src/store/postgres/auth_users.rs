use arkeep_auth::user::{Credentials, PasswordChange, UserStore};
use arkeep_auth::{Epoch, PasswordHash};
use arkeep_core::{StoreError, UserId};
use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::columns::{Columns as _, failed, is_storable};
use super::revocations::{epoch_of, raise};
use super::sessions::end_sessions;

#[async_trait]
impl UserStore for PostgresStore {
    async fn find_by_email(&self, email: &str) -> Result<Option<Credentials>, StoreError> {
        if !is_storable(email) {
            return Ok(None);
        }
        sqlx::query(
            "SELECT u.id, u.password_hash, u.enabled, u.role, r.epoch FROM users u \
             JOIN revocations r ON r.kind = 'subject' AND r.id = u.id WHERE lower(u.email COLLATE \"C\") = lower($1 COLLATE \"C\")",
        )
        .bind(email)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?
        .map(|row| credentials(&row))
        .transpose()
    }

    async fn find(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        sqlx::query(
            "SELECT u.id, u.password_hash, u.enabled, u.role, r.epoch FROM users u \
             JOIN revocations r ON r.kind = 'subject' AND r.id = u.id WHERE u.id = $1",
        )
        .bind(user.to_string())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?
        .map(|row| credentials(&row))
        .transpose()
    }

    async fn rehash(
        &self,
        user: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let replaced =
            sqlx::query("UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2")
                .bind(user.to_string())
                .bind(old.as_str())
                .bind(new.as_str())
                .execute(&self.pool)
                .await
                .map_err(failed)?;
        Ok(replaced.rows_affected() == 1)
    }

    async fn change_password(&self, change: &PasswordChange) -> Result<Option<Epoch>, StoreError> {
        let mut transaction = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE users SET password_hash = $2, version = version + 1, updated_at = $3 \
             WHERE id = $1 AND enabled AND EXISTS (SELECT 1 FROM revocations \
                 WHERE kind = 'subject' AND id = $1 AND epoch = $4)",
        )
        .bind(change.user.to_string())
        .bind(change.new.as_str())
        .bind(change.now.as_unix_millis())
        .bind(change.epoch.as_i64())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if changed.rows_affected() == 0 {
            return Ok(None);
        }
        raise(&mut *transaction, change.user).await?;
        end_sessions(&mut transaction, change.user, change.keep, change.now).await?;
        let epoch = epoch_of(&mut *transaction, change.user).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(epoch)
    }
}

fn credentials(row: &PgRow) -> Result<Credentials, StoreError> {
    Ok(Credentials {
        user: row.word("id")?,
        password: row.text_if("password_hash")?.map(PasswordHash::from_stored),
        enabled: row.flag("enabled")?,
        role: row.word("role")?,
        epoch: row.integer("epoch").map(Epoch::from_i64)?,
    })
}
