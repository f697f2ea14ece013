use arkeep_core::{AgentId, StoreError, Timestamp};
use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Transaction};

use super::PostgresStore;
use super::columns::{
    Columns as _, below, bound, corrupt, failed, one_more, signed, taken, to_json,
};
use super::destinations::absent_or_stale;
use crate::store::agents::{
    Agent, AgentCertificate, AgentEdit, AgentFacts, AgentStanding, AgentStore, NewAgent,
    NewJoinToken,
};
use crate::store::{Listed, Page, Refusal, WriteError};

/// Agents, each with its newest certificate.
macro_rules! agent_columns {
    () => {
        "SELECT a.*, c.serial, c.not_after FROM agents a LEFT JOIN certificates c ON c.serial = \
         (SELECT serial FROM certificates WHERE agent_id = a.id AND NOT superseded \
         ORDER BY issued_at DESC, serial LIMIT 1) "
    };
}

#[async_trait]
impl AgentStore for PostgresStore {
    async fn create(&self, new: &NewAgent, token: &NewJoinToken) -> Result<Agent, WriteError> {
        let mut transaction = self.begin().await?;
        sqlx::query("INSERT INTO agents (id, name, labels, created_at) VALUES ($1, $2, $3, $4)")
            .bind(new.id.to_string())
            .bind(&new.name)
            .bind(to_json(&new.labels)?)
            .bind(new.created_at.as_unix_millis())
            .execute(&mut *transaction)
            .await
            .map_err(taken("name"))?;
        insert_token(&mut transaction, new.id, token).await?;
        let made = one(&mut transaction, new.id).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(made.ok_or(Refusal::NotFound)?)
    }

    async fn find(&self, id: AgentId) -> Result<Option<Agent>, StoreError> {
        sqlx::query(concat!(agent_columns!(), "WHERE a.id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?
            .map(|row| agent(&row))
            .transpose()
    }

    async fn list(&self, page: &Page) -> Result<Listed<Agent>, StoreError> {
        let rows = sqlx::query(concat!(
            agent_columns!(),
            "WHERE a.id < $1 ORDER BY a.id DESC LIMIT $2"
        ))
        .bind(below(page))
        .bind(one_more(page))
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let found = rows.iter().map(agent).collect::<Result<_, _>>()?;
        Ok(Listed::cut(found, page, |one: &Agent| one.id.as_uuid()))
    }

    async fn update(&self, edit: &AgentEdit) -> Result<Agent, WriteError> {
        let mut transaction = self.begin().await?;
        let changed = sqlx::query(
            "UPDATE agents SET version = version + 1, name = $3, labels = $4 \
             WHERE id = $1 AND version = $2",
        )
        .bind(edit.id.to_string())
        .bind(signed(edit.version))
        .bind(&edit.name)
        .bind(to_json(&edit.labels)?)
        .execute(&mut *transaction)
        .await
        .map_err(taken("name"))?;
        if changed.rows_affected() == 0 {
            let id = edit.id.to_string();
            return Err(absent_or_stale(&mut transaction, "agents", &id)
                .await?
                .into());
        }
        let renamed = one(&mut transaction, edit.id).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(renamed.ok_or(Refusal::NotFound)?)
    }

    async fn delete(&self, id: AgentId, version: Option<u64>) -> Result<(), WriteError> {
        let mut transaction = self.begin().await?;
        let removed =
            sqlx::query("DELETE FROM agents WHERE id = $1 AND ($2 IS NULL OR version = $2)")
                .bind(id.to_string())
                .bind(version.map(signed))
                .execute(&mut *transaction)
                .await
                .map_err(bound(Refusal::InUse { by: "policies" }))?;
        if removed.rows_affected() == 0 {
            let refusal = absent_or_stale(&mut transaction, "agents", &id.to_string()).await?;
            return Err(refusal.into());
        }
        transaction.commit().await.map_err(failed)?;
        Ok(())
    }

    async fn offer(&self, agent: AgentId, token: &NewJoinToken) -> Result<(), WriteError> {
        let mut transaction = self.begin().await?;
        sqlx::query("DELETE FROM join_tokens WHERE agent_id = $1 AND redeemed_at IS NULL")
            .bind(agent.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        insert_token(&mut transaction, agent, token).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(())
    }

    async fn begin_session(
        &self,
        id: AgentId,
        facts: &AgentFacts,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        sqlx::query(
            "UPDATE agents SET sessions = sessions + 1, facts = $3, \
             last_seen_at = greatest(last_seen_at, $2) WHERE id = $1 RETURNING sessions",
        )
        .bind(id.to_string())
        .bind(now.as_unix_millis())
        .bind(to_json(facts)?)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?
        .map(|row| row.count("sessions"))
        .transpose()
    }

    async fn heard(&self, id: AgentId, now: Timestamp) -> Result<(), StoreError> {
        // A replica whose clock is behind moves nothing back.
        sqlx::query("UPDATE agents SET last_seen_at = greatest(last_seen_at, $2) WHERE id = $1")
            .bind(id.to_string())
            .bind(now.as_unix_millis())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }
}

async fn one(
    transaction: &mut Transaction<'_, Postgres>,
    id: AgentId,
) -> Result<Option<Agent>, StoreError> {
    sqlx::query(concat!(agent_columns!(), "WHERE a.id = $1"))
        .bind(id.to_string())
        .fetch_optional(&mut **transaction)
        .await
        .map_err(failed)?
        .map(|row| agent(&row))
        .transpose()
}

async fn insert_token(
    transaction: &mut Transaction<'_, Postgres>,
    agent: AgentId,
    token: &NewJoinToken,
) -> Result<(), WriteError> {
    sqlx::query(
        "INSERT INTO join_tokens (id, agent_id, secret_digest, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(token.id.as_hyphenated().to_string())
    .bind(agent.to_string())
    .bind(token.secret_digest.as_slice())
    .bind(token.created_at.as_unix_millis())
    .bind(token.expires_at.as_unix_millis())
    .execute(&mut **transaction)
    .await
    .map_err(bound(Refusal::NotFound))?;
    Ok(())
}

fn standing(row: &PgRow) -> Result<AgentStanding, StoreError> {
    let word = row.text("standing")?;
    AgentStanding::ALL
        .into_iter()
        .find(|standing| standing.as_str() == word)
        .ok_or_else(|| corrupt("standing"))
}

fn agent(row: &PgRow) -> Result<Agent, StoreError> {
    let serial = row.text_if("serial")?;
    let not_after = row.time_if("not_after")?;
    Ok(Agent {
        id: row.word("id")?,
        version: row.count("version")?,
        name: row.text("name")?,
        labels: row.json("labels")?,
        standing: standing(row)?,
        facts: row.json("facts")?,
        last_seen_at: row.time_if("last_seen_at")?,
        certificate: serial
            .zip(not_after)
            .map(|(serial, not_after)| AgentCertificate { serial, not_after }),
        created_at: row.time("created_at")?,
    })
}
