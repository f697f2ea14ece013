//! The stores on real SQLite files.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

mod agents;
mod audit;
mod auth;
mod channels;
mod deliveries;
mod destinations;
mod enrollments;
mod full_disk;
mod growth;
mod identity;
mod instance;
mod jobs;
mod keys;
mod logs;
mod opening;
mod policies;
mod queue;
mod rotation;
mod schema;
mod sealed;
mod snapshots;
mod users;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arkeep_core::policy::Source;
use arkeep_core::repository::{LocalLocation, Location};
use arkeep_core::{AgentId, DestinationId, PolicyId, StoreError, SystemEntropy, Timestamp};
use arkeep_server::store::agents::{Agent, AgentStore, NewAgent, NewJoinToken};
use arkeep_server::store::destinations::{Destination, DestinationStore, NewDestination};
use arkeep_server::store::policies::{
    NewPolicy, Policy, PolicyDestination, PolicySettings, PolicyStore, RepositoryPasswords,
    SealedPassword,
};
use arkeep_server::store::sqlite::SqliteStore;
use arkeep_vault::{Keyring, Sealer, Vault};
use tempfile::TempDir;

pub(crate) type Tested = Result<(), Box<dyn std::error::Error>>;

pub(crate) const NOON: Timestamp = Timestamp::UNIX_EPOCH;

/// What these tests run on; those of PostgreSQL take the same files and another store.
pub(crate) type Store = SqliteStore;

/// A store in a directory of its own.
pub(crate) struct Sandbox {
    pub(crate) store: SqliteStore,
    directory: TempDir,
}

impl Sandbox {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = SqliteStore::create(&directory.path().join("arkeep.db"))
            .await
            .expect("an empty directory takes a database");
        Self { store, directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("arkeep.db")
    }

    /// Does to the database what no store would.
    pub(crate) async fn tamper(&self, statements: &str) -> Result<(), sqlx::Error> {
        let mut raw = opening::raw(self).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&mut raw)
            .await?;
        sqlx::Connection::close(raw).await
    }

    pub(crate) const UNLOCK_AUDIT: &str =
        "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_removed;";

    pub(crate) async fn agent(&self) -> Agent {
        new_agent(&self.store).await
    }

    pub(crate) async fn destination(&self) -> Destination {
        new_destination(&self.store).await
    }

    pub(crate) async fn policy(&self, agent: AgentId, destinations: &[DestinationId]) -> Policy {
        PolicyStore::create(&self.store, &new_policy(agent, destinations), &SameBytes)
            .await
            .expect("a new policy")
    }
}

pub(crate) async fn new_agent(store: &dyn AgentStore) -> Agent {
    let id = AgentId::mint(NOON, &SystemEntropy);
    let new = NewAgent {
        id,
        name: format!("agent {id}"),
        labels: BTreeMap::new(),
        created_at: NOON,
    };
    let made = store.create(&new, &join_token()).await;
    made.expect("a new agent")
}

pub(crate) async fn new_destination(store: &dyn DestinationStore) -> Destination {
    let id = DestinationId::mint(NOON, &SystemEntropy);
    let new = NewDestination {
        id,
        name: format!("destination {id}"),
        location: local("/srv/backup"),
        credentials: None,
        enabled: true,
        created_at: NOON,
    };
    let made = store.create(&new).await;
    made.expect("a new destination")
}

pub(crate) fn new_policy(agent: AgentId, destinations: &[DestinationId]) -> NewPolicy {
    let id = PolicyId::mint(NOON, &SystemEntropy);
    NewPolicy {
        id,
        agent,
        name: format!("policy {id}"),
        enabled: true,
        destinations: destinations
            .iter()
            .map(|destination| PolicyDestination {
                destination_id: *destination,
                path: id.to_string().parse().expect("an id is a plain component"),
                retention: None,
            })
            .collect(),
        repository_password: b"sealed".to_vec(),
        settings: PolicySettings {
            sources: vec![Source::Path("/etc".to_owned())],
            ..PolicySettings::default()
        },
        created_at: NOON,
    }
}

/// For policies whose passwords were never sealed.
#[derive(Debug)]
pub(crate) struct SameBytes;

impl RepositoryPasswords for SameBytes {
    fn agree(&self, one: &SealedPassword, other: &SealedPassword) -> Result<bool, StoreError> {
        Ok(one.blob == other.blob)
    }
}

pub(crate) fn local(path: &str) -> Location {
    Location::Local(LocalLocation {
        path: path.to_owned(),
        must_be_mounted: false,
    })
}

pub(crate) fn join_token() -> NewJoinToken {
    NewJoinToken {
        id: arkeep_core::id::uuid_v7(NOON, &SystemEntropy),
        secret_digest: [7; 32],
        created_at: NOON,
        expires_at: NOON.plus(std::time::Duration::from_secs(3_600)),
    }
}

/// A vault with a key of its own.
pub(crate) fn sealer() -> Arc<dyn Sealer> {
    Arc::new(Vault::new(Keyring::generate(0).expect("a key")))
}

pub(crate) fn after(seconds: u64) -> Timestamp {
    NOON.plus(std::time::Duration::from_secs(seconds))
}
