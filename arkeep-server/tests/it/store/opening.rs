use std::os::unix::fs::PermissionsExt as _;

use arkeep_server::store::InstanceStore as _;
use arkeep_server::store::sqlite::{OpenStoreError, SqliteStore};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::{Sandbox, Tested, after};

/// V6
#[tokio::test]
async fn open_makes_no_database() -> Tested {
    let directory = tempfile::tempdir()?;

    let opened = SqliteStore::open(&directory.path().join("arkeep.db")).await;

    assert!(matches!(opened, Err(OpenStoreError::Database(_))));
    assert_eq!(directory.path().read_dir()?.count(), 0);
    Ok(())
}

/// V6
#[tokio::test]
async fn create_takes_no_database_over() -> Tested {
    let sandbox = Sandbox::new().await;

    let created = SqliteStore::create(&sandbox.path()).await;

    assert!(matches!(created, Err(OpenStoreError::File(_))));
    Ok(())
}

/// V4
#[tokio::test]
async fn the_file_is_its_owners_alone() -> Tested {
    let sandbox = Sandbox::new().await;

    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", sandbox.path().display());
        let mode = std::fs::metadata(&file)?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    Ok(())
}

/// S1
#[tokio::test]
async fn a_newer_schema_is_refused() -> Tested {
    let sandbox = Sandbox::new().await;
    sandbox.store.close().await;
    let mut raw = raw(&sandbox).await?;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of tomorrow', TRUE, x'00', 0)",
    )
    .execute(&mut raw)
    .await?;
    raw.close().await?;

    let opened = SqliteStore::open(&sandbox.path()).await;

    assert!(matches!(
        opened,
        Err(OpenStoreError::Newer { version: 9999 })
    ));
    Ok(())
}

/// S1
#[tokio::test]
async fn two_programs_that_start_at_once_migrate_once() -> Tested {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("arkeep.db");
    std::fs::write(&path, [])?;

    let (one, other) = tokio::join!(SqliteStore::open(&path), SqliteStore::open(&path));

    one?.ping().await?;
    other?.ping().await?;
    Ok(())
}

/// S1
#[tokio::test]
async fn what_was_answered_is_there_after_reopening() -> Tested {
    let sandbox = Sandbox::new().await;
    sandbox.store.offer_setup(&[1; 32]).await?;
    let agent = sandbox.agent().await;
    // Not closed: as after a kill, the WAL is all there is.

    let reopened = SqliteStore::open(&sandbox.path()).await?;

    let found = arkeep_server::store::AgentStore::find(&reopened, agent.id).await?;
    assert_eq!(found, Some(agent));
    Ok(())
}

/// S1
#[tokio::test]
async fn foreign_keys_are_enforced_on_the_connections_that_write() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await;
    sandbox.policy(agent.id, &[]).await;

    let deleted = arkeep_server::store::AgentStore::delete(&sandbox.store, agent.id, None).await;

    assert!(deleted.is_err());
    Ok(())
}

/// S1
#[tokio::test]
async fn sizes_have_sixty_four_bits() -> Tested {
    let sandbox = Sandbox::new().await;
    let snapshot = super::snapshots::snapshot(&sandbox).await;
    let huge = arkeep_server::store::snapshots::Snapshot {
        bytes_processed: i64::MAX as u64,
        bytes_added: 1 << 40,
        taken_at: after(1 << 33),
        ..snapshot
    };

    let id = arkeep_server::store::SnapshotStore::record(&sandbox.store, &huge).await?;

    let id = id.ok_or("it was not recorded")?;
    let found = arkeep_server::store::SnapshotStore::find(&sandbox.store, id).await?;
    assert_eq!(found, Some(huge));
    Ok(())
}

pub(super) async fn raw(sandbox: &Sandbox) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(sandbox.path());
    SqliteConnection::connect_with(&options).await
}
