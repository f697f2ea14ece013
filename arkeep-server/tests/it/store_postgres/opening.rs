use arkeep_server::store::postgres::PostgresStore;
use arkeep_server::store::{AgentStore, OpenStoreError};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::{Sandbox, Tested, cluster};

/// S1
#[tokio::test]
async fn a_newer_schema_is_refused() -> Tested {
    let sandbox = Sandbox::new().await;
    let mut raw = PgConnection::connect_with(&sandbox.database).await?;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of tomorrow', TRUE, '', 0)",
    )
    .execute(&mut raw)
    .await?;

    let opened = PostgresStore::open(sandbox.database.clone()).await;

    assert!(matches!(
        opened,
        Err(OpenStoreError::Newer { version: 9999 })
    ));
    Ok(())
}

/// S1
#[tokio::test]
async fn replicas_that_start_at_once_migrate_once_and_share_what_they_know() -> Tested {
    let database = cluster::new_database().await;

    let (one, other) = tokio::join!(
        PostgresStore::open(database.clone()),
        PostgresStore::open(database.clone())
    );
    let (one, other) = (one?, other?);

    let agent = crate::store::new_agent(&one).await;
    assert_eq!(AgentStore::find(&other, agent.id).await?, Some(agent));
    Ok(())
}

/// S1: a commit is on the disk when it is answered, whatever the database was told.
#[tokio::test]
async fn a_database_that_does_not_wait_for_its_disk_is_overruled() -> Tested {
    let database = cluster::new_database().await;
    let mut raw = PgConnection::connect_with(&database).await?;
    let name = database.get_database().unwrap_or_default();
    let careless = format!("ALTER DATABASE {name} SET synchronous_commit TO off");
    sqlx::query(AssertSqlSafe(careless))
        .execute(&mut raw)
        .await?;
    let store = PostgresStore::open(database.clone()).await?;
    // What was in force when an agent was written.
    sqlx::raw_sql(
        "CREATE TABLE seen (setting TEXT); \
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; \
         END $$; \
         CREATE TRIGGER seen AFTER INSERT ON agents FOR EACH ROW EXECUTE FUNCTION see();",
    )
    .execute(&mut raw)
    .await?;

    crate::store::new_agent(&store).await;

    let seen: Vec<String> = sqlx::query_scalar("SELECT setting FROM seen")
        .fetch_all(&mut raw)
        .await?;
    assert_eq!(seen, ["on"]);
    Ok(())
}
