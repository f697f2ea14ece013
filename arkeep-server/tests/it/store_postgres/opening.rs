use arkeep_server::store::postgres::PostgresStore;
use arkeep_server::store::{AgentStore, OpenStoreError};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

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
