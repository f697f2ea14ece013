use arkeep_auth::session::{
    Client, Ending, LiveSession, NewSession, OpenOutcome, RefreshDigest, Renewal, RotateOutcome,
    Rotation, SealedSuccessor, SessionInfo, SessionStore,
};
use arkeep_auth::token::Grant;
use arkeep_auth::{Epoch, Revocation, SessionId};
use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite, Transaction};

use super::SqliteStore;
use super::columns::{Columns as _, corrupt, failed};
use super::deliveries::happened;
use super::revocations::{epoch_of, hold, raise};
use crate::failpoint;
use crate::store::deliveries::{Event, TokenReuse};

type Within<'a> = Transaction<'a, Sqlite>;

#[async_trait]
impl SessionStore for SqliteStore {
    async fn open(&self, new: &NewSession) -> Result<OpenOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        let user = sqlx::query("SELECT enabled FROM users WHERE id = $1")
            .bind(new.user.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        match user.map(|row| row.flag("enabled")).transpose()? {
            Some(true) => {}
            _ => return Ok(OpenOutcome::Refused),
        }
        if epoch_of(&mut *transaction, new.user).await? != Some(new.epoch) {
            return Ok(OpenOutcome::EpochMoved);
        }
        sqlx::query(
            "INSERT INTO sessions (id, user_id, auth_time, created_at, last_used_at, ends_at, \
             address, user_agent) VALUES ($1, $2, $3, $3, $3, $4, $5, $6)",
        )
        .bind(new.id.to_string())
        .bind(new.user.to_string())
        .bind(new.now.as_unix_millis())
        .bind(new.ends_at.as_unix_millis())
        .bind(new.client.address.map(|address| address.to_string()))
        .bind(new.client.user_agent())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        let expires_at = new.refresh_expires_at.min(new.ends_at);
        insert_token(&mut transaction, new.id, &new.refresh, None, expires_at).await?;
        let opened = live(&mut transaction, new.id)
            .await?
            .map_or(OpenOutcome::Refused, OpenOutcome::Opened);
        transaction.commit().await.map_err(failed)?;
        Ok(opened)
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<RotateOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        let outcome = match spend(&mut transaction, rotation).await? {
            Some(session) => {
                succeed(&mut transaction, session, rotation).await?;
                live(&mut transaction, session)
                    .await?
                    .map_or(RotateOutcome::UserDisabled, RotateOutcome::Rotated)
            }
            None => refuse(&mut transaction, rotation).await?,
        };
        transaction.commit().await.map_err(failed)?;
        if matches!(outcome, RotateOutcome::Reused { .. }) {
            failpoint::hit("theft.committed");
        }
        Ok(outcome)
    }

    async fn renew(&self, renewal: &Renewal) -> Result<Option<LiveSession>, StoreError> {
        let mut transaction = self.begin().await?;
        let renewed = sqlx::query(
            "UPDATE sessions SET auth_time = $4, \
             last_used_at = CASE WHEN $5 THEN $4 ELSE last_used_at END \
             WHERE id = $1 AND user_id = $2 AND ended_at IS NULL AND ends_at > $4 \
             AND EXISTS (SELECT 1 FROM users WHERE id = $2 AND enabled = 1) \
             AND EXISTS (SELECT 1 FROM revocations \
                 WHERE kind = 'subject' AND id = $2 AND epoch = $3) \
             RETURNING ends_at",
        )
        .bind(renewal.session.to_string())
        .bind(renewal.user.to_string())
        .bind(renewal.epoch.as_i64())
        .bind(renewal.now.as_unix_millis())
        .bind(renewal.refresh.is_some())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(renewed) = renewed else {
            return Ok(None);
        };
        if let Some((digest, expires_at)) = renewal.refresh {
            sqlx::query("DELETE FROM refresh_tokens WHERE session_id = $1")
                .bind(renewal.session.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            let expires_at = expires_at.min(renewed.time("ends_at")?);
            insert_token(&mut transaction, renewal.session, &digest, None, expires_at).await?;
        }
        let session = live(&mut transaction, renewal.session).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(session)
    }

    async fn end(
        &self,
        which: &Ending,
        now: Timestamp,
    ) -> Result<Option<(UserId, SessionId)>, StoreError> {
        let query = match which {
            Ending::Session { user, session } => sqlx::query(
                "UPDATE sessions SET ended_at = coalesce(ended_at, $1) \
                 WHERE id = $2 AND user_id = $3 RETURNING id, user_id",
            )
            .bind(now.as_unix_millis())
            .bind(session.to_string())
            .bind(user.to_string()),
            Ending::Token(digest) => sqlx::query(
                "UPDATE sessions SET ended_at = coalesce(ended_at, $1) \
                 WHERE id = (SELECT session_id FROM refresh_tokens WHERE digest = $2) \
                 RETURNING id, user_id",
            )
            .bind(now.as_unix_millis())
            .bind(digest.as_bytes().to_vec()),
        };
        let mut transaction = self.begin().await?;
        let row = query
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let session = row.word("id")?;
        failpoint::hit("logout.ended");
        hold(&mut *transaction, &Revocation::session(session, now)).await?;
        failpoint::hit("logout.taken-back");
        transaction.commit().await.map_err(failed)?;
        failpoint::hit("logout.committed");
        Ok(Some((row.word("user_id")?, session)))
    }

    async fn end_all(&self, user: UserId, now: Timestamp) -> Result<Option<Epoch>, StoreError> {
        let mut transaction = self.begin().await?;
        let known = sqlx::query("SELECT 1 FROM users WHERE id = $1")
            .bind(user.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
        if known.is_none() {
            return Ok(None);
        }
        end_sessions(&mut transaction, user, None, now).await?;
        raise(&mut *transaction, user).await?;
        let epoch = epoch_of(&mut *transaction, user).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(epoch)
    }

    async fn list(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionInfo>, StoreError> {
        sqlx::query(
            "SELECT s.* FROM sessions s JOIN users u ON u.id = s.user_id AND u.enabled = 1 \
             WHERE s.user_id = $1 AND s.ended_at IS NULL AND s.ends_at > $2 \
             ORDER BY s.created_at DESC, s.id DESC",
        )
        .bind(user.to_string())
        .bind(now.as_unix_millis())
        .fetch_all(&self.reader)
        .await
        .map_err(failed)?
        .iter()
        .map(info)
        .collect()
    }

    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let pruned = sqlx::query("DELETE FROM sessions WHERE ends_at <= $1 OR ended_at <= $2")
            .bind(now.as_unix_millis())
            .bind(now.minus(Revocation::HOLD).as_unix_millis())
            .execute(&self.writer)
            .await
            .map_err(failed)?;
        Ok(pruned.rows_affected())
    }
}

/// Ends a user's sessions but one.
pub(super) async fn end_sessions(
    transaction: &mut Within<'_>,
    user: UserId,
    keep: Option<SessionId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sessions SET ended_at = $3 \
         WHERE user_id = $1 AND ended_at IS NULL AND id IS NOT $2",
    )
    .bind(user.to_string())
    .bind(keep.map(|session| session.to_string()))
    .bind(now.as_unix_millis())
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The one conditional statement: of many callers with one token, one spends it.
async fn spend(
    transaction: &mut Within<'_>,
    rotation: &Rotation,
) -> Result<Option<SessionId>, StoreError> {
    sqlx::query(
        "UPDATE refresh_tokens SET spent = 1, sealed_successor = $2, grace_until = $3 \
         WHERE digest = $1 AND spent = 0 AND expires_at > $4 \
         AND EXISTS (SELECT 1 FROM sessions s JOIN users u ON u.id = s.user_id \
             WHERE s.id = session_id AND s.ended_at IS NULL AND s.ends_at > $4 AND u.enabled = 1) \
         RETURNING session_id",
    )
    .bind(rotation.presented.as_bytes().to_vec())
    .bind(rotation.sealed_successor.as_bytes())
    .bind(rotation.grace_until.as_unix_millis())
    .bind(rotation.now.as_unix_millis())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed)?
    .map(|row| row.word("session_id"))
    .transpose()
}

/// Puts the successor in place, and ends the grace of the token before the one that was spent.
async fn succeed(
    transaction: &mut Within<'_>,
    session: SessionId,
    rotation: &Rotation,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE refresh_tokens SET sealed_successor = NULL WHERE digest = \
         (SELECT predecessor FROM refresh_tokens WHERE digest = $1)",
    )
    .bind(rotation.presented.as_bytes().to_vec())
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    let row = sqlx::query(
        "UPDATE sessions SET last_used_at = $2, address = $3, user_agent = $4 WHERE id = $1 \
         RETURNING ends_at",
    )
    .bind(session.to_string())
    .bind(rotation.now.as_unix_millis())
    .bind(rotation.client.address.map(|address| address.to_string()))
    .bind(rotation.client.user_agent())
    .fetch_one(&mut **transaction)
    .await
    .map_err(failed)?;
    insert_token(
        transaction,
        session,
        &rotation.successor,
        Some(&rotation.presented),
        rotation.successor_expires_at.min(row.time("ends_at")?),
    )
    .await
}

/// Why a token could not be spent; if it was spent before, with what follows from that.
async fn refuse(
    transaction: &mut Within<'_>,
    rotation: &Rotation,
) -> Result<RotateOutcome, StoreError> {
    let row = sqlx::query(
        "SELECT t.spent, t.sealed_successor, t.grace_until, s.id, s.user_id, s.ended_at, \
         s.ends_at FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id \
         WHERE t.digest = $1",
    )
    .bind(rotation.presented.as_bytes().to_vec())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed)?;
    let Some(row) = row else {
        return Ok(RotateOutcome::Unknown);
    };
    if row.time_if("ended_at")?.is_some() {
        return Ok(RotateOutcome::Ended);
    }
    if row.time("ends_at")? <= rotation.now {
        return Ok(RotateOutcome::Expired);
    }
    let session: SessionId = row.word("id")?;
    let Some(live) = live(transaction, session).await? else {
        return Ok(RotateOutcome::UserDisabled);
    };
    if !row.flag("spent")? {
        return Ok(RotateOutcome::Expired);
    }
    let in_grace = row
        .time_if("grace_until")?
        .is_some_and(|until| rotation.now < until);
    match row.blob_if("sealed_successor")? {
        Some(sealed) if in_grace => Ok(RotateOutcome::Retried {
            session: live,
            sealed_successor: SealedSuccessor::from_bytes(sealed),
        }),
        _ => punish(transaction, live.grant.user, session, rotation.now).await,
    }
}

/// Two hold one token, and nobody can say which of them is the thief: both lose it.
async fn punish(
    transaction: &mut Within<'_>,
    user: UserId,
    session: SessionId,
    now: Timestamp,
) -> Result<RotateOutcome, StoreError> {
    sqlx::query("UPDATE sessions SET ended_at = $2 WHERE id = $1")
        .bind(session.to_string())
        .bind(now.as_unix_millis())
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
    failpoint::hit("theft.ended");
    raise(&mut **transaction, user).await?;
    failpoint::hit("theft.taken-back");
    let epoch = epoch_of(&mut **transaction, user)
        .await?
        .ok_or_else(|| corrupt("epoch"))?;
    let event = theft(transaction, user, session, now).await?;
    happened(transaction, &event).await?;
    Ok(RotateOutcome::Reused {
        user,
        session,
        epoch,
    })
}

async fn theft(
    transaction: &mut Within<'_>,
    user: UserId,
    session: SessionId,
    now: Timestamp,
) -> Result<Event, StoreError> {
    let row = sqlx::query(
        "SELECT u.email, s.address, s.user_agent FROM sessions s JOIN users u ON u.id = s.user_id \
         WHERE s.id = $1",
    )
    .bind(session.to_string())
    .fetch_one(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(Event::token_reuse(
        now,
        &TokenReuse {
            user_id: user,
            email: row.text("email")?,
            session_id: session,
            address: row.text_if("address")?,
            user_agent: row.text_if("user_agent")?,
        },
    ))
}

async fn insert_token(
    transaction: &mut Within<'_>,
    session: SessionId,
    digest: &RefreshDigest,
    predecessor: Option<&RefreshDigest>,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refresh_tokens (digest, session_id, expires_at, predecessor) \
         VALUES ($1, $2, $3, $4)",
    )
    .bind(digest.as_bytes().to_vec())
    .bind(session.to_string())
    .bind(expires_at.as_unix_millis())
    .bind(predecessor.map(|digest| digest.as_bytes().to_vec()))
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The session, its user's role and epoch, as this transaction sees them; none if the user is
/// disabled.
async fn live(
    transaction: &mut Within<'_>,
    session: SessionId,
) -> Result<Option<LiveSession>, StoreError> {
    sqlx::query(
        "SELECT s.user_id, s.auth_time, s.ends_at, u.role, r.epoch FROM sessions s \
         JOIN users u ON u.id = s.user_id AND u.enabled = 1 \
         JOIN revocations r ON r.kind = 'subject' AND r.id = s.user_id WHERE s.id = $1",
    )
    .bind(session.to_string())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed)?
    .map(|row| {
        Ok(LiveSession {
            grant: Grant {
                user: row.word("user_id")?,
                session,
                epoch: row.integer("epoch").map(Epoch::from_i64)?,
                role: row.word("role")?,
                auth_time: row.time("auth_time")?,
            },
            ends_at: row.time("ends_at")?,
        })
    })
    .transpose()
}

fn info(row: &SqliteRow) -> Result<SessionInfo, StoreError> {
    let address = row.word_if("address")?;
    let user_agent = row.text_if("user_agent")?;
    Ok(SessionInfo {
        id: row.word("id")?,
        created_at: row.time("created_at")?,
        last_used_at: row.time("last_used_at")?,
        ends_at: row.time("ends_at")?,
        client: Client::new(address, user_agent.as_deref()),
    })
}
