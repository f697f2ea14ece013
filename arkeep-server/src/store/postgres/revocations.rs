use arkeep_auth::revocation::{Changes, Cursor, Revocation, RevocationStore};
use arkeep_auth::{Epoch, SignedClaims};
use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Executor, Postgres};

use super::PostgresStore;
use super::columns::{Columns as _, corrupt, failed};

#[async_trait]
impl RevocationStore for PostgresStore {
    async fn revoke(&self, what: &Revocation) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        hold(&mut *transaction, what).await?;
        transaction.commit().await.map_err(failed)
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
        .fetch_one(&self.pool)
        .await
        .map_err(failed)?
        .flag("revoked")
    }

    // Whoever takes a `seq` holds the lock of all writers until it commits, so no lower one becomes
    // visible after a higher one.
    async fn changes(&self, after: Cursor) -> Result<Changes, StoreError> {
        let rows = sqlx::query("SELECT * FROM revocations WHERE seq > $1 ORDER BY seq")
            .bind(after.as_i64())
            .fetch_all(&self.pool)
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
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(pruned.rows_affected())
    }
}

const UNTIL: &str = "INSERT INTO revocations (kind, id, until) VALUES ($1, $2, $3) \
     ON CONFLICT (kind, id) DO UPDATE SET seq = nextval('revocations_seq_seq'), \
     until = greatest(revocations.until, excluded.until)";

const EPOCH: &str = "INSERT INTO revocations (kind, id, epoch) VALUES ('subject', $1, $2) \
     ON CONFLICT (kind, id) DO UPDATE SET seq = nextval('revocations_seq_seq'), \
     epoch = greatest(revocations.epoch, excluded.epoch)";

/// Writes it down. Only in a transaction that holds the lock of all writers: the new `seq` is how
/// others learn of it.
pub(super) async fn hold(
    executor: impl Executor<'_, Database = Postgres>,
    what: &Revocation,
) -> Result<(), StoreError> {
    let query = match what {
        Revocation::Token { token, until } => sqlx::query(UNTIL)
            .bind("token")
            .bind(token.to_string())
            .bind(until.as_unix_millis()),
        Revocation::Session { session, until } => sqlx::query(UNTIL)
            .bind("session")
            .bind(session.to_string())
            .bind(until.as_unix_millis()),
        Revocation::Subject { user, epoch } => sqlx::query(EPOCH)
            .bind(user.to_string())
            .bind(epoch.as_i64()),
    };
    query.execute(executor).await.map_err(failed)?;
    Ok(())
}

/// Counts the user's epoch up, from nothing to the first. The new `seq` is how others learn of it.
pub(super) async fn raise(
    executor: impl Executor<'_, Database = Postgres>,
    user: UserId,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO revocations (kind, id, epoch) VALUES ('subject', $1, 1) \
         ON CONFLICT (kind, id) DO UPDATE SET seq = nextval('revocations_seq_seq'), \
         epoch = revocations.epoch + 1",
    )
    .bind(user.to_string())
    .execute(executor)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The user's present epoch.
pub(super) async fn epoch_of(
    executor: impl Executor<'_, Database = Postgres>,
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

fn revocation(row: &PgRow) -> Result<Revocation, StoreError> {
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
