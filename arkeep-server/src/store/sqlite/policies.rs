use arkeep_core::{AgentId, PolicyId, StoreError, Timestamp};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use super::SqliteStore;
use super::columns::{Columns as _, below, bound, failed, one_more, signed, taken, to_json};
use super::destinations::absent_or_stale;
use super::repositories::one_password_each;
use crate::store::policies::{
    NewPolicy, Policy, PolicyDestination, PolicyEdit, PolicyStore, RepositoryPasswords,
};
use crate::store::{Listed, Page, Refusal, WriteError};

/// Policies with their destinations as one column of JSON, so that a page is one statement.
macro_rules! policy_columns {
    () => {
        "SELECT p.*, (SELECT json_group_array(json_object('destination_id', d.destination_id, \
         'path', d.path, 'retention', json(d.retention)) ORDER BY d.position) \
         FROM policy_destinations d WHERE d.policy_id = p.id) AS destinations FROM policies p "
    };
}
#[async_trait]
impl PolicyStore for SqliteStore {
    async fn create(
        &self,
        new: &NewPolicy,
        passwords: &dyn RepositoryPasswords,
    ) -> Result<Policy, WriteError> {
        let mut transaction = self.begin().await?;
        let made = sqlx::query(
            "INSERT INTO policies (id, agent_id, name, enabled, repository_password, settings, \
             created_at, updated_at) \
             SELECT $1, a.id, $3, $4, $5, $6, $7, $7 FROM agents a WHERE a.id = $2",
        )
        .bind(new.id.to_string())
        .bind(new.agent.to_string())
        .bind(&new.name)
        .bind(new.enabled)
        .bind(&new.repository_password)
        .bind(to_json(&new.settings)?)
        .bind(new.created_at.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(taken("name"))?;
        if made.rows_affected() == 0 {
            return Err(Refusal::Dangling { field: "agent_id" }.into());
        }
        insert_destinations(&mut transaction, new.id, &new.destinations).await?;
        one_password_each(&mut transaction, &new.id.to_string(), passwords).await?;
        let made = one(&mut transaction, new.id).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(made.ok_or(Refusal::NotFound)?)
    }

    async fn find(&self, id: PolicyId) -> Result<Option<Policy>, StoreError> {
        sqlx::query(concat!(policy_columns!(), "WHERE p.id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await
            .map_err(failed)?
            .map(|row| policy(&row))
            .transpose()
    }

    async fn list(
        &self,
        agent: Option<AgentId>,
        page: &Page,
    ) -> Result<Listed<Policy>, StoreError> {
        let query = match agent {
            Some(agent) => sqlx::query(concat!(
                policy_columns!(),
                "WHERE p.id < $1 AND p.agent_id = $3 ORDER BY p.id DESC LIMIT $2"
            ))
            .bind(below(page))
            .bind(one_more(page))
            .bind(agent.to_string()),
            None => sqlx::query(concat!(
                policy_columns!(),
                "WHERE p.id < $1 ORDER BY p.id DESC LIMIT $2"
            ))
            .bind(below(page))
            .bind(one_more(page)),
        };
        let rows = query.fetch_all(&self.reader).await.map_err(failed)?;
        let found = rows.iter().map(policy).collect::<Result<_, _>>()?;
        Ok(Listed::cut(found, page, |one: &Policy| one.id.as_uuid()))
    }

    async fn update(
        &self,
        edit: &PolicyEdit,
        passwords: &dyn RepositoryPasswords,
    ) -> Result<Policy, WriteError> {
        let mut transaction = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE policies SET version = version + 1, name = $3, enabled = $4, \
             repository_password = coalesce($5, repository_password), settings = $6, \
             updated_at = $7 WHERE id = $1 AND version = $2",
        )
        .bind(edit.id.to_string())
        .bind(signed(edit.version))
        .bind(&edit.name)
        .bind(edit.enabled)
        .bind(&edit.repository_password)
        .bind(to_json(&edit.settings)?)
        .bind(edit.at.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(taken("name"))?;
        if changed.rows_affected() == 0 {
            let id = edit.id.to_string();
            return Err(absent_or_stale(&mut transaction, "policies", &id)
                .await?
                .into());
        }
        if edit.repository_password.is_some() && is_in_use(&mut transaction, edit.id).await? {
            let field = "repository_password";
            return Err(Refusal::Settled { field }.into());
        }
        sqlx::query("DELETE FROM policy_destinations WHERE policy_id = $1")
            .bind(edit.id.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        insert_destinations(&mut transaction, edit.id, &edit.destinations).await?;
        one_password_each(&mut transaction, &edit.id.to_string(), passwords).await?;
        let changed = one(&mut transaction, edit.id).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(changed.ok_or(Refusal::NotFound)?)
    }

    async fn delete(
        &self,
        id: PolicyId,
        version: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "UPDATE jobs SET state = 'cancelled', ended_at = $2 \
             WHERE policy_id = $1 AND state = 'queued'",
        )
        .bind(id.to_string())
        .bind(now.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        let removed = sqlx::query(
            "DELETE FROM policies WHERE id = $1 AND ($2 IS NULL OR version = $2) \
             AND NOT EXISTS (SELECT 1 FROM jobs \
                 WHERE policy_id = $1 AND state IN ('leased', 'running'))",
        )
        .bind(id.to_string())
        .bind(version.map(signed))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if removed.rows_affected() == 0 {
            let refusal = match one(&mut transaction, id).await? {
                None => Refusal::NotFound,
                Some(found) if version.is_some_and(|version| version != found.version) => {
                    Refusal::Stale
                }
                Some(_) => Refusal::InUse { by: "running jobs" },
            };
            return Err(refusal.into());
        }
        transaction.commit().await.map_err(failed)?;
        Ok(())
    }
}

async fn insert_destinations(
    transaction: &mut Transaction<'_, Sqlite>,
    policy: PolicyId,
    destinations: &[PolicyDestination],
) -> Result<(), WriteError> {
    for (position, pair) in destinations.iter().enumerate() {
        let retention = pair.retention.as_ref().map(to_json).transpose()?;
        sqlx::query(
            "INSERT INTO policy_destinations (policy_id, destination_id, position, path, \
             retention) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(policy.to_string())
        .bind(pair.destination_id.to_string())
        .bind(signed(position as u64))
        .bind(pair.path.as_str())
        .bind(retention)
        .execute(&mut **transaction)
        .await
        .map_err(|error| match error.as_database_error() {
            Some(database) if database.is_unique_violation() => Refusal::Taken {
                field: "destinations",
            }
            .into(),
            _ => bound(Refusal::Dangling {
                field: "destinations",
            })(error),
        })?;
    }
    Ok(())
}

/// Whether repositories may have been made with the policy's password.
async fn is_in_use(
    transaction: &mut Transaction<'_, Sqlite>,
    policy: PolicyId,
) -> Result<bool, StoreError> {
    let found = sqlx::query(
        "SELECT 1 FROM jobs WHERE policy_id = $1 AND kind = 'backup' AND attempt > 0 \
         UNION ALL SELECT 1 FROM snapshots WHERE policy_id = $1 LIMIT 1",
    )
    .bind(policy.to_string())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(found.is_some())
}

async fn one(
    transaction: &mut Transaction<'_, Sqlite>,
    id: PolicyId,
) -> Result<Option<Policy>, StoreError> {
    sqlx::query(concat!(policy_columns!(), "WHERE p.id = $1"))
        .bind(id.to_string())
        .fetch_optional(&mut **transaction)
        .await
        .map_err(failed)?
        .map(|row| policy(&row))
        .transpose()
}

fn policy(row: &SqliteRow) -> Result<Policy, StoreError> {
    Ok(Policy {
        id: row.word("id")?,
        version: row.count("version")?,
        agent: row.word("agent_id")?,
        name: row.text("name")?,
        enabled: row.flag("enabled")?,
        destinations: row.json("destinations")?,
        repository_password: row.blob("repository_password")?,
        settings: row.json("settings")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
