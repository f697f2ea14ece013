use arkeep_auth::revocation::{Changes, Cursor, Revocation, RevocationStore};
use arkeep_auth::{Epoch, SignedClaims};
use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, Sqlite};

use super::SqliteStore;
use super::columns::{Columns as _, corrupt, failed};

#[async_trait]
impl RevocationStore for SqliteStore {
    async fn revoke(&self, what: &Revocation) -> Result<(), StoreError> {
        hold(&self.writer, what).await
    }

    async fn is_revoked(&self, claims: &SignedClaims) -> Result<bool, StoreError> {
        sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM revocations WHERE kind = 'token' AND id = $1) \
             OR EXISTS (SELECT 1 FROM revocations WHERE kind = 'session' AND id = $2) \
             OR NOT EXISTS (SELECT 1 FROM revocations \
                 WHERE kind = 'subject' AND id = $3 AND epoch = $4) AS revoked",
        )
        .bind(claims.token().to_string())
        .bind(claims.session().to_string())
        .bind(claims.user().to_string())
        .bind(claims.epoch().as_i64())
        .fetch_one(&self.reader)
        .await
        .map_err(failed)?
        .flag("revoked")
    }

    // SQLite lets one writer in at a time, so no lower `seq` becomes visible after a higher one.
    async fn changes(&self, after: Cursor) -> Result<Changes, StoreError> {
        let rows = sqlx::query("SELECT * FROM revocations WHERE seq > $1 ORDER BY seq")
            .bind(after.as_i64())
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
        let cursor = match rows.last() {
            Some(last) => Cursor::from_i64(last.integer("seq")?),
            None => after,
        };
        let revoked = rows.iter().map(revocation).collect::<Result<_, _>>()?;
        Ok(Changes { revoked, cursor })
    }

    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let pruned = sqlx::query("DELETE FROM revocations WHERE until <= $1")
            .bind(now.as_unix_millis())
            .execute(&self.writer)
            .await
            .map_err(failed)?;
        Ok(pruned.rows_affected())
    }
}

const REPLACE_UNTIL: &str = "INSERT OR REPLACE INTO revocations (kind, id, until) \
     VALUES ($1, $2, max($3, coalesce( \
         (SELECT until FROM revocations WHERE kind = $1 AND id = $2), 0)))";

const REPLACE_EPOCH: &str = "INSERT OR REPLACE INTO revocations (kind, id, epoch) \
     SELECT 'subject', $1, $2 WHERE NOT EXISTS \
         (SELECT 1 FROM revocations WHERE kind = 'subject' AND id = $1 AND epoch >= $2)";

/// Writes it down.
// A row is replaced, not updated: it gets a new `seq`, by which readers of the changes meet it.
pub(super) async fn hold(
    executor: impl Executor<'_, Database = Sqlite>,
    what: &Revocation,
) -> Result<(), StoreError> {
    let query = match what {
        Revocation::Token { token, until } => sqlx::query(REPLACE_UNTIL)
            .bind("token")
            .bind(token.to_string())
            .bind(until.as_unix_millis()),
        Revocation::Session { session, until } => sqlx::query(REPLACE_UNTIL)
            .bind("session")
            .bind(session.to_string())
            .bind(until.as_unix_millis()),
        Revocation::Subject { user, epoch } => sqlx::query(REPLACE_EPOCH)
            .bind(user.to_string())
            .bind(epoch.as_i64()),
    };
    query.execute(executor).await.map_err(failed)?;
    Ok(())
}

/// Counts the user's epoch up, from nothing to the first.
pub(super) async fn raise(
    executor: impl Executor<'_, Database = Sqlite>,
    user: UserId,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO revocations (kind, id, epoch) VALUES ('subject', $1, 1 + coalesce( \
         (SELECT epoch FROM revocations WHERE kind = 'subject' AND id = $1), 0))",
    )
    .bind(user.to_string())
    .execute(executor)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The user's present epoch.
pub(super) async fn epoch_of(
    executor: impl Executor<'_, Database = Sqlite>,
    user: UserId,
) -> Result<Option<Epoch>, StoreError> {
    sqlx::query("SELECT epoch FROM revocations WHERE kind = 'subject' AND id = $1")
        .bind(user.to_string())
        .fetch_optional(executor)
        .await
        .map_err(failed)?
        .map(|row| row.integer("epoch").map(Epoch::from_i64))
        .transpose()
}

fn revocation(row: &SqliteRow) -> Result<Revocation, StoreError> {
    match row.text("kind")?.as_str() {
        "token" => Ok(Revocation::Token {
            token: row.word("id")?,
            until: row.time("until")?,
        }),
        "session" => Ok(Revocation::Session {
            session: row.word("id")?,
            until: row.time("until")?,
        }),
        "subject" => Ok(Revocation::Subject {
            user: row.word("id")?,
            epoch: row.integer("epoch").map(Epoch::from_i64)?,
        }),
        _ => Err(corrupt("kind")),
    }
}
