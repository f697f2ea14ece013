use arkeep_auth::oidc::{LoginDigest, LoginState, LoginStateStore};
use arkeep_auth::{Epoch, OidcProviderId};
use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Transaction};

use super::PostgresStore;
use super::columns::{Columns as _, below, failed, one_more, signed, taken, to_json};
use super::destinations::absent_or_stale;
use super::revocations::{epoch_of, raise};
use super::sessions::end_sessions;
use super::users::{insert, one};
use crate::store::identity::{
    IdentityStore, NewIdentity, NewProvider, ProviderEdit, StoredProvider,
};
use crate::store::users::{NewUser, User};
use crate::store::{Listed, Page, Refusal, SecretChange, WriteError};

#[async_trait]
impl IdentityStore for PostgresStore {
    async fn create_provider(&self, new: &NewProvider) -> Result<StoredProvider, WriteError> {
        let mut transaction = self.begin().await?;
        let same = sqlx::query("SELECT 1 FROM oidc_providers WHERE issuer = $1")
            .bind(&new.issuer)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        if same.is_some() {
            return Err(Refusal::Taken { field: "issuer" }.into());
        }
        let row = sqlx::query(
            "INSERT INTO oidc_providers (id, name, issuer, client_id, client_secret, scopes, \
             role_claim, role_map, enabled, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) RETURNING *",
        )
        .bind(new.id.to_string())
        .bind(&new.name)
        .bind(&new.issuer)
        .bind(&new.client_id)
        .bind(&new.client_secret)
        .bind(to_json(&new.scopes)?)
        .bind(&new.role_claim)
        .bind(to_json(&new.role_map)?)
        .bind(new.enabled)
        .bind(new.created_at.as_unix_millis())
        .fetch_one(&mut *transaction)
        .await
        .map_err(taken("name"))?;
        transaction.commit().await.map_err(failed)?;
        Ok(provider(&row)?)
    }

    async fn provider(&self, id: OidcProviderId) -> Result<Option<StoredProvider>, StoreError> {
        sqlx::query("SELECT * FROM oidc_providers WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?
            .map(|row| provider(&row))
            .transpose()
    }

    async fn providers(&self, page: &Page) -> Result<Listed<StoredProvider>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM oidc_providers WHERE id < $1 ORDER BY id DESC LIMIT $2")
                .bind(below(page))
                .bind(one_more(page))
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
        let found = rows.iter().map(provider).collect::<Result<_, _>>()?;
        Ok(Listed::cut(found, page, |one: &StoredProvider| {
            one.id.as_uuid()
        }))
    }

    async fn update_provider(&self, edit: &ProviderEdit) -> Result<StoredProvider, WriteError> {
        let (replace, secret) = match &edit.client_secret {
            SecretChange::Keep => (false, None),
            SecretChange::Clear => (true, None),
            SecretChange::Set(sealed) => (true, Some(sealed)),
        };
        let mut transaction = self.begin().await?;
        let row = sqlx::query(
            "UPDATE oidc_providers SET version = version + 1, name = $3, client_id = $4, \
             scopes = $5, role_claim = $6, role_map = $7, enabled = $8, updated_at = $9, \
             client_secret = CASE WHEN $10 THEN $11 ELSE client_secret END \
             WHERE id = $1 AND version = $2 RETURNING *",
        )
        .bind(edit.id.to_string())
        .bind(signed(edit.version))
        .bind(&edit.name)
        .bind(&edit.client_id)
        .bind(to_json(&edit.scopes)?)
        .bind(&edit.role_claim)
        .bind(to_json(&edit.role_map)?)
        .bind(edit.enabled)
        .bind(edit.at.as_unix_millis())
        .bind(replace)
        .bind(secret)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(taken("name"))?;
        let Some(row) = row else {
            let id = edit.id.to_string();
            let refusal = absent_or_stale(&mut transaction, "oidc_providers", &id).await?;
            return Err(refusal.into());
        };
        if !edit.enabled {
            take_back(&mut transaction, edit.id, edit.at).await?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(provider(&row)?)
    }

    async fn delete_provider(
        &self,
        id: OidcProviderId,
        version: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let mut transaction = self.begin().await?;
        // Before the identities go with it.
        take_back(&mut transaction, id, now).await?;
        let removed = sqlx::query(
            "DELETE FROM oidc_providers WHERE id = $1 AND ($2 IS NULL OR version = $2)",
        )
        .bind(id.to_string())
        .bind(version.map(signed))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if removed.rows_affected() == 0 {
            let id = id.to_string();
            let refusal = absent_or_stale(&mut transaction, "oidc_providers", &id).await?;
            return Err(refusal.into());
        }
        transaction.commit().await.map_err(failed)?;
        Ok(())
    }

    async fn user_of(&self, issuer: &str, subject: &str) -> Result<Option<User>, StoreError> {
        let found =
            sqlx::query("SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2")
                .bind(issuer)
                .bind(subject)
                .fetch_optional(&self.pool)
                .await
                .map_err(failed)?;
        match found {
            Some(row) => one(&self.pool, row.word("user_id")?).await,
            None => Ok(None),
        }
    }

    async fn admit(&self, user: &NewUser, identity: &NewIdentity) -> Result<User, WriteError> {
        let mut transaction = self.begin().await?;
        insert(&mut *transaction, user)
            .await
            .map_err(taken("email"))?;
        raise(&mut *transaction, user.id).await?;
        sqlx::query(
            "INSERT INTO identities (issuer, subject, provider_id, user_id, created_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&identity.issuer)
        .bind(&identity.subject)
        .bind(identity.provider.to_string())
        .bind(user.id.to_string())
        .bind(user.created_at.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(taken("subject"))?;
        let user = one(&mut *transaction, user.id).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(user.ok_or(Refusal::NotFound)?)
    }

    async fn shut_out(&self, user: UserId, now: Timestamp) -> Result<Option<Epoch>, StoreError> {
        let mut transaction = self.begin().await?;
        // One that was removed in the meantime has lost everything.
        if one(&mut *transaction, user).await?.is_none() {
            return Ok(None);
        }
        take_back_from(&mut transaction, user, now).await?;
        let epoch = epoch_of(&mut *transaction, user).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(epoch)
    }
}

#[async_trait]
impl LoginStateStore for PostgresStore {
    async fn keep(&self, state: &LoginState) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO oidc_logins (digest, provider_id, expires_at) VALUES ($1, $2, $3)",
        )
        .bind(state.digest.as_bytes().to_vec())
        .bind(state.provider.to_string())
        .bind(state.expires_at.as_unix_millis())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn take(
        &self,
        digest: &LoginDigest,
        now: Timestamp,
    ) -> Result<Option<OidcProviderId>, StoreError> {
        sqlx::query(
            "DELETE FROM oidc_logins WHERE digest = $1 AND expires_at > $2 RETURNING provider_id",
        )
        .bind(digest.as_bytes().to_vec())
        .bind(now.as_unix_millis())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?
        .map(|row| row.word("provider_id"))
        .transpose()
    }

    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let pruned = sqlx::query("DELETE FROM oidc_logins WHERE expires_at <= $1")
            .bind(now.as_unix_millis())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(pruned.rows_affected())
    }
}

/// Takes back everything of the users that a provider leads to.
async fn take_back(
    transaction: &mut Transaction<'_, Postgres>,
    provider: OidcProviderId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT DISTINCT user_id FROM identities WHERE provider_id = $1")
        .bind(provider.to_string())
        .fetch_all(&mut **transaction)
        .await
        .map_err(failed)?;
    for row in rows {
        take_back_from(transaction, row.word("user_id")?, now).await?;
    }
    Ok(())
}

/// Takes back everything that was issued to a user: to them and to their programs.
async fn take_back_from(
    transaction: &mut Transaction<'_, Postgres>,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    raise(&mut **transaction, user).await?;
    end_sessions(transaction, user, None, now).await?;
    sqlx::query("DELETE FROM api_tokens WHERE owner_id = $1")
        .bind(user.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
    Ok(())
}

fn provider(row: &PgRow) -> Result<StoredProvider, StoreError> {
    Ok(StoredProvider {
        id: row.word("id")?,
        version: row.count("version")?,
        name: row.text("name")?,
        issuer: row.text("issuer")?,
        client_id: row.text("client_id")?,
        client_secret: row.blob_if("client_secret")?,
        scopes: row.json("scopes")?,
        role_claim: row.text_if("role_claim")?,
        role_map: row.json("role_map")?,
        enabled: row.flag("enabled")?,
    })
}
