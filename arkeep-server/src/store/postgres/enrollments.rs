use arkeep_core::{AgentId, StoreError, Timestamp};
use arkeep_transport::enrollment::{
    EnrollmentStore, Issuance, Lapse, Occasion, OfferError, RecordError, RedeemError, Standing,
    TokenClaim,
};
use arkeep_transport::identity::Serial;
use arkeep_transport::token::{JoinDigest, OfferedToken};
use async_trait::async_trait;
use sqlx::{Executor, Postgres};

use super::PostgresStore;
use super::columns::{Columns as _, corrupt, failed};

#[async_trait]
impl EnrollmentStore for PostgresStore {
    async fn offer(&self, token: &OfferedToken) -> Result<(), OfferError> {
        let mut transaction = self.begin().await?;
        let agent = sqlx::query("SELECT standing FROM agents WHERE id = $1")
            .bind(token.agent.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?
            .ok_or(OfferError::UnknownAgent)?;
        if agent.text("standing")? == "revoked" {
            return Err(OfferError::Withdrawn);
        }
        sqlx::query("DELETE FROM join_tokens WHERE agent_id = $1 AND redeemed_at IS NULL")
            .bind(token.agent.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO join_tokens (id, agent_id, secret_digest, expires_at) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(token.id.as_uuid().as_hyphenated().to_string())
        .bind(token.agent.to_string())
        .bind(token.digest.as_bytes().to_vec())
        .bind(token.expires_at.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(())
    }

    async fn redeem(&self, claim: &TokenClaim, now: Timestamp) -> Result<AgentId, RedeemError> {
        let id = claim.id.as_uuid().as_hyphenated().to_string();
        let mut transaction = self.begin().await?;
        let token = sqlx::query(
            "SELECT t.agent_id, t.secret_digest, t.expires_at FROM join_tokens t \
             JOIN agents a ON a.id = t.agent_id AND a.standing <> 'revoked' WHERE t.id = $1",
        )
        .bind(&id)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?
        .ok_or(RedeemError::Refused)?;
        let digest = token
            .blob("secret_digest")?
            .try_into()
            .map(JoinDigest::from_bytes)
            .map_err(|_| corrupt("secret_digest"))?;
        // Compared here and not in SQL: `JoinDigest` takes constant time.
        if digest != claim.digest {
            return Err(RedeemError::Refused);
        }
        let spent = sqlx::query(
            "UPDATE join_tokens SET redeemed_at = $2 \
             WHERE id = $1 AND redeemed_at IS NULL AND expires_at > $2",
        )
        .bind(&id)
        .bind(now.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if spent.rows_affected() == 0 {
            let used =
                sqlx::query("SELECT 1 FROM join_tokens WHERE id = $1 AND redeemed_at IS NOT NULL")
                    .bind(&id)
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(failed)?;
            return Err(match used {
                Some(_) => RedeemError::Used,
                None => RedeemError::Expired,
            });
        }
        transaction.commit().await.map_err(failed)?;
        Ok(token.word("agent_id")?)
    }

    async fn record(&self, issuance: &Issuance) -> Result<(), RecordError> {
        let agent = issuance.agent.to_string();
        let mut transaction = self.begin().await?;
        if let Occasion::Renewed { with } = issuance.occasion
            && !stands(&mut *transaction, issuance.agent, with).await?
        {
            return Err(RecordError::Withdrawn);
        }
        let trusted = sqlx::query(
            "UPDATE agents SET standing = 'trusted', approved = FALSE, version = version + 1 \
             WHERE id = $1 AND standing <> 'revoked'",
        )
        .bind(&agent)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if trusted.rows_affected() == 0 {
            return Err(RecordError::Withdrawn);
        }
        if issuance.occasion == Occasion::Enrolled {
            sqlx::query("UPDATE certificates SET superseded = TRUE WHERE agent_id = $1")
                .bind(&agent)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            sqlx::query("UPDATE agents SET trust = NULL WHERE id = $1")
                .bind(&agent)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        sqlx::query(
            "INSERT INTO certificates (serial, agent_id, not_before, not_after, issued_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(issuance.serial.to_string())
        .bind(&agent)
        .bind(issuance.not_before.as_unix_millis())
        .bind(issuance.not_after.as_unix_millis())
        .bind(issuance.issued_at.as_unix_millis())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(())
    }

    async fn standing(&self, agent: AgentId, serial: Serial) -> Result<Standing, StoreError> {
        Ok(if stands(&self.pool, agent, serial).await? {
            Standing::Good
        } else {
            Standing::Refused
        })
    }

    async fn confirm(&self, agent: AgentId, serial: Serial) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE certificates SET superseded = TRUE \
             WHERE agent_id = $1 AND NOT superseded AND serial <> $2 AND issued_at <= \
             (SELECT issued_at FROM certificates mine \
              WHERE serial = $2 AND agent_id = $1 AND NOT mine.superseded)",
        )
        .bind(agent.to_string())
        .bind(serial.to_string())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn lapse(
        &self,
        agent: AgentId,
        serial: Serial,
        _now: Timestamp,
    ) -> Result<Lapse, StoreError> {
        let mut transaction = self.begin().await?;
        if !stands(&mut *transaction, agent, serial).await? {
            return Ok(Lapse::Refused);
        }
        let waiting = sqlx::query(
            "UPDATE agents SET version = version + CASE standing WHEN 'awaiting_approval' THEN 0 ELSE 1 END, \
             standing = 'awaiting_approval' WHERE id = $1 AND NOT approved",
        )
        .bind(agent.to_string())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(match waiting.rows_affected() {
            0 => Lapse::Approved,
            _ => Lapse::Waiting,
        })
    }

    async fn approve(&self, agent: AgentId, _now: Timestamp) -> Result<bool, StoreError> {
        let approved = sqlx::query(
            "UPDATE agents SET standing = 'trusted', approved = TRUE, version = version + 1 \
             WHERE id = $1 AND standing = 'awaiting_approval'",
        )
        .bind(agent.to_string())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(approved.rows_affected() == 1)
    }

    async fn withdraw(&self, agent: AgentId, _now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE agents SET standing = 'revoked', version = version + 1 \
             WHERE id = $1 AND standing <> 'revoked'",
        )
        .bind(agent.to_string())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }
}

async fn stands(
    executor: impl Executor<'_, Database = Postgres>,
    agent: AgentId,
    serial: Serial,
) -> Result<bool, StoreError> {
    let found = sqlx::query(
        "SELECT 1 FROM certificates c JOIN agents a ON a.id = c.agent_id \
         WHERE c.serial = $1 AND c.agent_id = $2 AND NOT c.superseded AND a.standing <> 'revoked'",
    )
    .bind(serial.to_string())
    .bind(agent.to_string())
    .fetch_optional(executor)
    .await
    .map_err(failed)?;
    Ok(found.is_some())
}
