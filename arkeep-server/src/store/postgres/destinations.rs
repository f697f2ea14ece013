use arkeep_core::{DestinationId, StoreError};
use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::columns::{Columns as _, below, bound, failed, one_more, signed, taken, to_json};
use super::repositories::one_password_each;
use crate::store::destinations::{Destination, DestinationEdit, DestinationStore, NewDestination};
use crate::store::policies::RepositoryPasswords;
use crate::store::{Listed, Page, Refusal, SecretChange, WriteError};

#[async_trait]
impl DestinationStore for PostgresStore {
    async fn create(&self, new: &NewDestination) -> Result<Destination, WriteError> {
        let row = sqlx::query(
            "INSERT INTO destinations (id, name, location, credentials, credentials_updated_at, \
             enabled, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, CASE WHEN $4 IS NULL THEN NULL ELSE $6 END, $5, $6, $6) \
             RETURNING *",
        )
        .bind(new.id.to_string())
        .bind(&new.name)
        .bind(to_json(&new.location)?)
        .bind(&new.credentials)
        .bind(new.enabled)
        .bind(new.created_at.as_unix_millis())
        .fetch_one(&self.pool)
        .await
        .map_err(taken("name"))?;
        Ok(destination(&row)?)
    }

    async fn find(&self, id: DestinationId) -> Result<Option<Destination>, StoreError> {
        sqlx::query("SELECT * FROM destinations WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?
            .map(|row| destination(&row))
            .transpose()
    }

    async fn list(&self, page: &Page) -> Result<Listed<Destination>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM destinations WHERE id < $1 ORDER BY id DESC LIMIT $2")
                .bind(below(page))
                .bind(one_more(page))
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
        let found = rows.iter().map(destination).collect::<Result<_, _>>()?;
        Ok(Listed::cut(found, page, |one: &Destination| {
            one.id.as_uuid()
        }))
    }

    async fn update(
        &self,
        edit: &DestinationEdit,
        passwords: &dyn RepositoryPasswords,
    ) -> Result<Destination, WriteError> {
        let (replace, credentials) = match &edit.credentials {
            SecretChange::Keep => (false, None),
            SecretChange::Clear => (true, None),
            SecretChange::Set(sealed) => (true, Some(sealed)),
        };
        let mut transaction = self.begin().await?;
        let row = sqlx::query(
            "UPDATE destinations SET version = version + 1, name = $3, location = $4, \
             enabled = $5, updated_at = $6, \
             credentials = CASE WHEN $7 THEN $8 ELSE credentials END, \
             credentials_updated_at = CASE WHEN $7 THEN $6 ELSE credentials_updated_at END \
             WHERE id = $1 AND version = $2 RETURNING *",
        )
        .bind(edit.id.to_string())
        .bind(signed(edit.version))
        .bind(&edit.name)
        .bind(to_json(&edit.location)?)
        .bind(edit.enabled)
        .bind(edit.at.as_unix_millis())
        .bind(replace)
        .bind(credentials)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(taken("name"))?;
        match row {
            Some(row) => {
                forget_addresses(&mut transaction, edit).await?;
                one_password_each(&mut transaction, &edit.id.to_string(), passwords).await?;
                transaction.commit().await.map_err(failed)?;
                Ok(destination(&row)?)
            }
            None => Err(
                absent_or_stale(&mut transaction, "destinations", &edit.id.to_string())
                    .await?
                    .into(),
            ),
        }
    }

    async fn delete(&self, id: DestinationId, version: Option<u64>) -> Result<(), WriteError> {
        let mut transaction = self.begin().await?;
        // Its result is still to come, and names the destination.
        let sent = sqlx::query(
            "SELECT 1 FROM jobs, json_array_elements_text(jobs.assigned_destinations::JSON) AS sent (value) \
             WHERE jobs.state IN ('queued', 'leased', 'running') \
             AND jobs.assigned_destinations IS NOT NULL AND value = $1 LIMIT 1",
        )
        .bind(id.to_string())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        if sent.is_some() {
            return Err(Refusal::InUse { by: "open jobs" }.into());
        }
        let removed =
            sqlx::query("DELETE FROM destinations WHERE id = $1 AND ($2 IS NULL OR version = $2)")
                .bind(id.to_string())
                .bind(version.map(signed))
                .execute(&mut *transaction)
                .await
                .map_err(bound(Refusal::InUse { by: "policies" }))?;
        if removed.rows_affected() == 0 {
            let refusal =
                absent_or_stale(&mut transaction, "destinations", &id.to_string()).await?;
            return Err(refusal.into());
        }
        transaction.commit().await.map_err(failed)?;
        Ok(())
    }
}

/// They are made anew from the place that was written.
async fn forget_addresses(
    transaction: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    edit: &DestinationEdit,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE policy_destinations SET repository = NULL WHERE destination_id = $1")
        .bind(edit.id.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Why a write that named a version found no row.
pub(super) async fn absent_or_stale(
    transaction: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    table: &'static str,
    id: &str,
) -> Result<Refusal, StoreError> {
    let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new("SELECT 1 FROM ");
    let found = query
        .push(table)
        .push(" WHERE id = ")
        .push_bind(id)
        .build()
        .fetch_optional(&mut **transaction)
        .await
        .map_err(failed)?;
    Ok(match found {
        Some(_) => Refusal::Stale,
        None => Refusal::NotFound,
    })
}

fn destination(row: &PgRow) -> Result<Destination, StoreError> {
    Ok(Destination {
        id: row.word("id")?,
        version: row.count("version")?,
        name: row.text("name")?,
        location: row.json("location")?,
        credentials: row.blob_if("credentials")?,
        credentials_updated_at: row.time_if("credentials_updated_at")?,
        enabled: row.flag("enabled")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
