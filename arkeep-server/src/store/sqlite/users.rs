use arkeep_auth::{Epoch, PasswordHash};
use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, Sqlite};

use super::SqliteStore;
use super::columns::{Columns as _, below, failed, one_more, signed, taken};
use super::revocations::raise;
use super::sessions::end_sessions;
use crate::store::users::{NewUser, SetUp, User, UserDirectory, UserEdit};
use crate::store::{Listed, Page, Refusal, WriteError};

#[async_trait]
impl UserDirectory for SqliteStore {
    async fn set_up(&self, first: &NewUser, token_digest: &[u8; 32]) -> Result<SetUp, StoreError> {
        let mut transaction = self.begin().await?;
        let won = sqlx::query(
            "UPDATE instance SET set_up_at = $1, setup_token_digest = NULL \
             WHERE set_up_at IS NULL AND setup_token_digest = $2 \
             AND NOT EXISTS (SELECT 1 FROM users)",
        )
        .bind(first.created_at.as_unix_millis())
        .bind(token_digest.as_slice())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if won.rows_affected() == 0 {
            let open = sqlx::query(
                "SELECT 1 FROM instance WHERE set_up_at IS NULL \
                 AND NOT EXISTS (SELECT 1 FROM users)",
            )
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
            return Ok(match open {
                Some(_) => SetUp::WrongToken,
                None => SetUp::AlreadyDone,
            });
        }
        insert(&mut *transaction, first).await.map_err(failed)?;
        raise(&mut *transaction, first.id).await?;
        let user = one(&mut *transaction, first.id).await?;
        transaction.commit().await.map_err(failed)?;
        user.map(SetUp::Done)
            .ok_or_else(|| StoreError::Corrupt("a user that was just made is gone".to_owned()))
    }

    async fn create(&self, new: &NewUser) -> Result<User, WriteError> {
        let mut transaction = self.begin().await?;
        insert(&mut *transaction, new)
            .await
            .map_err(taken("email"))?;
        raise(&mut *transaction, new.id).await?;
        let user = one(&mut *transaction, new.id).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(user.ok_or(Refusal::NotFound)?)
    }

    async fn find(&self, id: UserId) -> Result<Option<User>, StoreError> {
        one(&self.reader, id).await
    }

    async fn find_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        sqlx::query(
            "SELECT u.*, r.epoch, EXISTS (SELECT 1 FROM second_factors f \
                 WHERE f.id = u.id AND f.last_step IS NOT NULL) AS mfa, \
             (SELECT json_group_array(json_object('provider', i.provider_id, \
                 'subject', i.subject)) FROM identities i WHERE i.user_id = u.id) AS identities FROM users u \
             JOIN revocations r ON r.kind = 'subject' AND r.id = u.id WHERE u.email = $1",
        )
        .bind(email)
        .fetch_optional(&self.reader)
        .await
        .map_err(failed)?
        .map(|row| user(&row))
        .transpose()
    }

    async fn list(&self, page: &Page) -> Result<Listed<User>, StoreError> {
        let rows = sqlx::query(
            "SELECT u.*, r.epoch, EXISTS (SELECT 1 FROM second_factors f \
                 WHERE f.id = u.id AND f.last_step IS NOT NULL) AS mfa, \
             (SELECT json_group_array(json_object('provider', i.provider_id, \
                 'subject', i.subject)) FROM identities i WHERE i.user_id = u.id) AS identities FROM users u \
             JOIN revocations r ON r.kind = 'subject' AND r.id = u.id \
             WHERE u.id < $1 ORDER BY u.id DESC LIMIT $2",
        )
        .bind(below(page))
        .bind(one_more(page))
        .fetch_all(&self.reader)
        .await
        .map_err(failed)?;
        let users = rows.iter().map(user).collect::<Result<_, _>>()?;
        Ok(Listed::cut(users, page, |user: &User| user.id.as_uuid()))
    }

    async fn update(&self, edit: &UserEdit) -> Result<User, WriteError> {
        let mut transaction = self.begin().await?;
        let before = one(&mut *transaction, edit.id)
            .await?
            .ok_or(Refusal::NotFound)?;
        // The last clause keeps an administrator, whoever changes what in the same moment.
        let changed = sqlx::query(
            "UPDATE users SET version = version + 1, email = $3, display_name = $4, role = $5, \
             enabled = $6, password_hash = coalesce($7, password_hash), updated_at = $8 \
             WHERE id = $1 AND version = $2 \
             AND (($5 = 'admin' AND $6 = 1) OR role <> 'admin' OR enabled = 0 OR EXISTS \
                 (SELECT 1 FROM users o WHERE o.id <> $1 AND o.role = 'admin' AND o.enabled = 1))",
        )
        .bind(edit.id.to_string())
        .bind(signed(edit.version))
        .bind(&edit.email)
        .bind(&edit.display_name)
        .bind(edit.role.as_str())
        .bind(edit.enabled)
        .bind(edit.password_hash.as_ref().map(PasswordHash::as_str))
        .bind(edit.at.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(taken("email"))?;
        if changed.rows_affected() == 0 {
            return Err(if before.version == edit.version {
                Refusal::LastAdmin.into()
            } else {
                Refusal::Stale.into()
            });
        }
        if before.role != edit.role
            || before.enabled != edit.enabled
            || edit.password_hash.is_some()
        {
            raise(&mut *transaction, edit.id).await?;
        }
        if !edit.enabled || edit.password_hash.is_some() {
            end_sessions(&mut transaction, edit.id, None, edit.at).await?;
        }
        let after = one(&mut *transaction, edit.id).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(after.ok_or(Refusal::NotFound)?)
    }

    async fn delete(&self, id: UserId, version: Option<u64>) -> Result<(), WriteError> {
        let mut transaction = self.begin().await?;
        let before = one(&mut *transaction, id).await?.ok_or(Refusal::NotFound)?;
        let removed = sqlx::query(
            "DELETE FROM users WHERE id = $1 AND ($2 IS NULL OR version = $2) \
             AND (role <> 'admin' OR enabled = 0 OR EXISTS \
                 (SELECT 1 FROM users o WHERE o.id <> $1 AND o.role = 'admin' AND o.enabled = 1))",
        )
        .bind(id.to_string())
        .bind(version.map(signed))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if removed.rows_affected() == 0 {
            return Err(if version.is_none_or(|version| version == before.version) {
                Refusal::LastAdmin.into()
            } else {
                Refusal::Stale.into()
            });
        }
        // The row of the epoch stays for ever: it is what refuses the user's last tokens.
        raise(&mut *transaction, id).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(())
    }

    async fn logged_in(&self, id: UserId, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE users SET last_login_at = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(now.as_unix_millis())
            .execute(&self.writer)
            .await
            .map_err(failed)?;
        Ok(())
    }
}

pub(super) async fn insert(
    executor: impl Executor<'_, Database = Sqlite>,
    new: &NewUser,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO users (id, email, display_name, role, password_hash, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
    )
    .bind(new.id.to_string())
    .bind(&new.email)
    .bind(&new.display_name)
    .bind(new.role.as_str())
    .bind(new.password_hash.as_ref().map(PasswordHash::as_str))
    .bind(new.created_at.as_unix_millis())
    .execute(executor)
    .await?;
    Ok(())
}

pub(super) async fn one(
    executor: impl Executor<'_, Database = Sqlite>,
    id: UserId,
) -> Result<Option<User>, StoreError> {
    sqlx::query(
        "SELECT u.*, r.epoch, EXISTS (SELECT 1 FROM second_factors f \
                 WHERE f.id = u.id AND f.last_step IS NOT NULL) AS mfa, \
             (SELECT json_group_array(json_object('provider', i.provider_id, \
                 'subject', i.subject)) FROM identities i WHERE i.user_id = u.id) AS identities FROM users u \
         JOIN revocations r ON r.kind = 'subject' AND r.id = u.id WHERE u.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(executor)
    .await
    .map_err(failed)?
    .map(|row| user(&row))
    .transpose()
}

fn user(row: &SqliteRow) -> Result<User, StoreError> {
    Ok(User {
        id: row.word("id")?,
        version: row.count("version")?,
        email: row.text("email")?,
        display_name: row.text("display_name")?,
        role: row.word("role")?,
        enabled: row.flag("enabled")?,
        mfa: row.flag("mfa")?,
        identities: row.json("identities")?,
        password_hash: row.text_if("password_hash")?.map(PasswordHash::from_stored),
        epoch: row.integer("epoch").map(Epoch::from_i64)?,
        last_login_at: row.time_if("last_login_at")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
