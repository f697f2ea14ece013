//! The stores on a real PostgreSQL server: the tests of SQLite, word for word.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

pub(crate) mod cluster;
mod feed;
mod opening;

#[path = "../store/agents.rs"]
mod agents;
#[path = "../store/audit.rs"]
mod audit;
#[path = "../store/auth.rs"]
mod auth;
#[path = "../store/channels.rs"]
mod channels;
#[path = "../store/deliveries.rs"]
mod deliveries;
#[path = "../store/destinations.rs"]
mod destinations;
#[path = "../store/enrollments.rs"]
mod enrollments;
#[path = "../store/identity.rs"]
mod identity;
#[path = "../store/instance.rs"]
mod instance;
#[path = "../store/jobs.rs"]
mod jobs;
#[path = "../store/keys.rs"]
mod keys;
#[path = "../store/logs.rs"]
mod logs;
#[path = "../store/policies.rs"]
mod policies;
#[path = "../store/queue.rs"]
mod queue;
#[path = "../store/rotation.rs"]
mod rotation;
#[path = "../store/sealed.rs"]
mod sealed;
#[path = "../store/snapshots.rs"]
mod snapshots;
#[path = "../store/users.rs"]
mod users;
#[path = "../store/watch.rs"]
mod watch;

use arkeep_core::{AgentId, DestinationId};
use arkeep_server::store::agents::Agent;
use arkeep_server::store::destinations::Destination;
use arkeep_server::store::policies::{Policy, PolicyStore};
use arkeep_server::store::postgres::PostgresStore;
use sqlx::postgres::PgConnectOptions;

pub(crate) use crate::store::{
    NOON, SameBytes, Tested, after, join_token, local, new_policy, sealer,
};
use crate::store::{new_agent, new_destination};

type Store = PostgresStore;

/// A store in a database of its own.
struct Sandbox {
    store: Store,
    database: PgConnectOptions,
}

impl Sandbox {
    async fn new() -> Self {
        let database = cluster::new_database().await;
        let store = PostgresStore::open(database.clone())
            .await
            .expect("an empty database takes a schema");
        Self { store, database }
    }

    /// Does to the database what no store would.
    async fn tamper(&self, statements: &str) -> Result<(), sqlx::Error> {
        let mut raw =
            <sqlx::postgres::PgConnection as sqlx::Connection>::connect_with(&self.database)
                .await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&mut raw)
            .await?;
        sqlx::Connection::close(raw).await
    }

    const UNLOCK_AUDIT: &str = "DROP TRIGGER audit_only_grows ON audit;";

    async fn agent(&self) -> Agent {
        new_agent(&self.store).await
    }

    async fn destination(&self) -> Destination {
        new_destination(&self.store).await
    }

    async fn policy(&self, agent: AgentId, destinations: &[DestinationId]) -> Policy {
        PolicyStore::create(&self.store, &new_policy(agent, destinations), &SameBytes)
            .await
            .expect("a new policy")
    }
}
