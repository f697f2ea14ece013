//! Which policies have a repository in common.

use arkeep_core::repository::{Location, RelativePath};
use arkeep_core::{PolicyId, StoreError};
use sqlx::{Sqlite, Transaction};

use super::columns::{Columns as _, failed};
use crate::store::address::address;
use crate::store::policies::{RepositoryPasswords, SealedPassword};
use crate::store::{Refusal, WriteError};

/// Gives an address to every repository that has none.
pub(super) async fn name_all(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
    let unread = sqlx::query(
        "SELECT p.policy_id, p.destination_id, p.path, d.location FROM policy_destinations p \
         JOIN destinations d ON d.id = p.destination_id WHERE p.repository IS NULL",
    )
    .fetch_all(&mut **transaction)
    .await
    .map_err(failed)?;
    for row in unread {
        let location: Location = row.json("location")?;
        let path: RelativePath = row.word("path")?;
        let repository = address(&location, &path);
        sqlx::query(
            "UPDATE policy_destinations SET repository = $3 \
             WHERE policy_id = $1 AND destination_id = $2",
        )
        .bind(row.text("policy_id")?)
        .bind(row.text("destination_id")?)
        .bind(&repository)
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
        sqlx::query(
            "UPDATE snapshots SET repository = $4 WHERE policy_id = $1 AND destination_id = $2 \
             AND path = $3 AND repository IS NULL",
        )
        .bind(row.text("policy_id")?)
        .bind(row.text("destination_id")?)
        .bind(path.as_str())
        .bind(&repository)
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
    }
    Ok(())
}

/// Refuses what would give a repository a second password. `of` is the policy or the destination
/// that was written in this transaction.
pub(super) async fn one_password_each(
    transaction: &mut Transaction<'_, Sqlite>,
    of: &str,
    passwords: &dyn RepositoryPasswords,
) -> Result<(), WriteError> {
    name_all(transaction).await?;
    let pairs = sqlx::query(
        "SELECT mine.position, mine.policy_id, a.repository_password, \
         theirs.policy_id AS other, b.repository_password AS other_password \
         FROM policy_destinations mine \
         JOIN policy_destinations theirs \
             ON theirs.repository = mine.repository AND theirs.policy_id <> mine.policy_id \
         JOIN policies a ON a.id = mine.policy_id JOIN policies b ON b.id = theirs.policy_id \
         WHERE mine.policy_id = $1 OR mine.destination_id = $1",
    )
    .bind(of)
    .fetch_all(&mut **transaction)
    .await
    .map_err(failed)?;
    for row in pairs {
        let sealed = |policy: PolicyId, blob| SealedPassword { policy, blob };
        let (one, other) = (
            sealed(row.word("policy_id")?, row.blob("repository_password")?),
            sealed(row.word("other")?, row.blob("other_password")?),
        );
        if !passwords.agree(&one, &other)? {
            let position = row.count("position")?;
            return Err(Refusal::OtherPassword { position }.into());
        }
    }
    Ok(())
}
