use arkeep_core::{ChannelId, StoreError};
use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::columns::{Columns as _, below, corrupt, failed, one_more, signed, taken, to_json};
use super::destinations::absent_or_stale;
use crate::store::channels::{Channel, ChannelConfig, ChannelEdit, ChannelStore, NewChannel};
use crate::store::{Listed, Page, SecretChange, WriteError};

#[async_trait]
impl ChannelStore for PostgresStore {
    async fn create_channel(&self, new: &NewChannel) -> Result<Channel, WriteError> {
        let row = sqlx::query(
            "INSERT INTO channels (id, name, kind, config, secret, events, enabled, created_at, \
             updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) RETURNING *",
        )
        .bind(new.id.to_string())
        .bind(&new.name)
        .bind(new.config.kind().as_str())
        .bind(to_json(&new.config)?)
        .bind(&new.secret)
        .bind(to_json(&new.events)?)
        .bind(new.enabled)
        .bind(new.created_at.as_unix_millis())
        .fetch_one(&self.pool)
        .await
        .map_err(taken("name"))?;
        Ok(channel(&row)?)
    }

    async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, StoreError> {
        sqlx::query("SELECT * FROM channels WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?
            .map(|row| channel(&row))
            .transpose()
    }

    async fn channels(&self, page: &Page) -> Result<Listed<Channel>, StoreError> {
        let rows = sqlx::query("SELECT * FROM channels WHERE id < $1 ORDER BY id DESC LIMIT $2")
            .bind(below(page))
            .bind(one_more(page))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let found = rows.iter().map(channel).collect::<Result<_, _>>()?;
        Ok(Listed::cut(found, page, |one: &Channel| one.id.as_uuid()))
    }

    async fn update_channel(&self, edit: &ChannelEdit) -> Result<Channel, WriteError> {
        let (replace, secret) = match &edit.secret {
            SecretChange::Keep => (false, None),
            SecretChange::Clear => (true, None),
            SecretChange::Set(sealed) => (true, Some(sealed)),
        };
        let mut transaction = self.begin().await?;
        let row = sqlx::query(
            "UPDATE channels SET version = version + 1, name = $3, config = $4, events = $5, \
             enabled = $6, updated_at = $7, secret = CASE WHEN $8 THEN $9 ELSE secret END, \
             failures = 0, failing_since = NULL, retry_at = NULL \
             WHERE id = $1 AND version = $2 RETURNING *",
        )
        .bind(edit.id.to_string())
        .bind(signed(edit.version))
        .bind(&edit.name)
        .bind(to_json(&edit.config)?)
        .bind(to_json(&edit.events)?)
        .bind(edit.enabled)
        .bind(edit.at.as_unix_millis())
        .bind(replace)
        .bind(secret)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(taken("name"))?;
        let Some(row) = row else {
            let id = edit.id.to_string();
            let refusal = absent_or_stale(&mut transaction, "channels", &id).await?;
            return Err(refusal.into());
        };
        transaction.commit().await.map_err(failed)?;
        Ok(channel(&row)?)
    }

    async fn delete_channel(&self, id: ChannelId, version: Option<u64>) -> Result<(), WriteError> {
        let mut transaction = self.begin().await?;
        let removed =
            sqlx::query("DELETE FROM channels WHERE id = $1 AND ($2 IS NULL OR version = $2)")
                .bind(id.to_string())
                .bind(version.map(signed))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        if removed.rows_affected() == 0 {
            let id = id.to_string();
            let refusal = absent_or_stale(&mut transaction, "channels", &id).await?;
            return Err(refusal.into());
        }
        transaction.commit().await.map_err(failed)?;
        Ok(())
    }
}

pub(super) fn channel(row: &PgRow) -> Result<Channel, StoreError> {
    let config = ChannelConfig::read(row.word("kind")?, row.json("config")?);
    Ok(Channel {
        id: row.word("id")?,
        version: row.count("version")?,
        name: row.text("name")?,
        config: config.map_err(|_| corrupt("config"))?,
        secret: row.blob_if("secret")?,
        events: row.json("events")?,
        enabled: row.flag("enabled")?,
    })
}
