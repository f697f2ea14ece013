//! What the routes stand on: ports, and a few facts of this server.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use arkeep_auth::oidc::RelyingParty;
use arkeep_auth::{
    AccessTokens, ApiTokens, Authenticator, Passwords, RevocationCache, SecondFactors, Sessions,
};
use arkeep_core::job::{Fence, Progress};
use arkeep_core::queue::JobQueue;
use arkeep_core::{AgentId, Clock, Entropy, JobId, SecretString};
use arkeep_transport::address::ServerAddress;
use arkeep_transport::enrollment::EnrollmentStore;
use arkeep_vault::Sealer;
use tokio_util::sync::CancellationToken;

use super::audit::AuditLog;
use super::metrics::Metrics;
use super::pulse::Pulse;
use crate::authority::Authority;
use crate::config::Cidr;
use crate::keeper::Keeper;
use crate::notify::Messenger;
use crate::store::{
    AgentStore, AuditStore, ChannelStore, Database, DeliveryStore, DestinationStore, IdentityStore,
    InstanceStore, JobLogStore, JobStore, PolicyStore, SnapshotStore, UserDirectory, WatchStore,
};

/// What whoever holds the agents' streams does for the HTTP API.
///
/// The dispatcher of this server implements it.
///
/// # Security
///
/// [`hang_up`](Self::hang_up) is how a revocation reaches open streams. It must not return before
/// nothing more is taken in from the agent on this replica.
pub trait Fleet: fmt::Debug + Send + Sync {
    /// There may be a job for this agent.
    fn wake(&self, agent: AgentId);

    /// Asks for the end of a job that runs.
    fn cancel(&self, agent: AgentId, job: JobId, fence: Fence);

    /// Ends the agent's streams.
    fn hang_up(&self, agent: AgentId);

    /// How far a job has come, as its agent last said.
    fn progress(&self, job: JobId) -> Option<Progress>;
}

/// The stores that routes read and write.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named for the port that it is")]
pub struct Stores {
    pub agents: Arc<dyn AgentStore>,
    pub audit: Arc<dyn AuditStore>,
    pub channels: Arc<dyn ChannelStore>,
    pub deliveries: Arc<dyn DeliveryStore>,
    pub destinations: Arc<dyn DestinationStore>,
    pub enrollments: Arc<dyn EnrollmentStore>,
    pub identities: Arc<dyn IdentityStore>,
    pub instance: Arc<dyn InstanceStore>,
    pub jobs: Arc<dyn JobStore>,
    pub logs: Arc<dyn JobLogStore>,
    pub policies: Arc<dyn PolicyStore>,
    pub queue: Arc<dyn JobQueue>,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub users: Arc<dyn UserDirectory>,
    pub watch: Arc<dyn WatchStore>,
}

impl Stores {
    /// All of them on one database.
    #[must_use]
    pub fn on(store: Arc<dyn Database>) -> Self {
        Self {
            agents: store.clone(),
            audit: store.clone(),
            channels: store.clone(),
            deliveries: store.clone(),
            destinations: store.clone(),
            enrollments: store.clone(),
            identities: store.clone(),
            instance: store.clone(),
            jobs: store.clone(),
            logs: store.clone(),
            policies: store.clone(),
            queue: store.clone(),
            snapshots: store.clone(),
            users: store.clone(),
            watch: store,
        }
    }
}

/// Everything that the routes stand on.
#[derive(Debug)]
pub struct Services {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes ids, passwords and tokens.
    pub entropy: Arc<dyn Entropy>,
    /// Seals credentials.
    pub sealer: Arc<dyn Sealer>,
    /// Keeps the keys that the sealer uses.
    pub keeper: Arc<Keeper>,
    /// Vouches for agents.
    pub authority: Arc<Authority>,
    /// Keeps everything.
    pub stores: Stores,
    /// Writes down who did what.
    pub audit: Arc<AuditLog>,
    /// Reaches agents.
    pub fleet: Arc<dyn Fleet>,
    /// Says who calls.
    pub authenticator: Authenticator,
    /// Logs in and out.
    pub sessions: Sessions,
    /// Sets second factors up.
    pub factors: SecondFactors,
    /// Makes tokens for programs; the same that the authenticator asks.
    pub api_tokens: ApiTokens,
    /// Logs in through identity providers, if this server knows its own address.
    pub relying_party: Option<RelyingParty>,
    /// Sends what happened to whoever wants to know.
    pub messenger: Messenger,
    /// Publishes the keys of access tokens.
    pub tokens: Arc<AccessTokens>,
    /// Hashes passwords.
    pub passwords: Passwords,
    /// Takes back what was issued; the same that the authenticator asks.
    pub revocations: Arc<RevocationCache>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Says whether the background work goes on.
    pub pulse: Arc<Pulse>,
    /// Facts of this server.
    pub facts: Facts,
    /// Ends answers that would go on for ever.
    pub stop: CancellationToken,
}

/// Facts of this server.
#[derive(Debug)]
pub struct Facts {
    /// The origin of the browser's pages, when the operator said so.
    pub public_url: Option<String>,
    /// Whether browsers see HTTPS.
    pub https: bool,
    /// Networks whose forwarded addresses are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Networks that may read the metrics.
    pub metrics_allow: Vec<Cidr>,
    /// The token that opens the metrics to others.
    pub metrics_token: Option<SecretString>,
    /// Where agents dial.
    pub agent_address: ServerAddress,
    /// The file that goes when the server is set up.
    pub setup_token_file: PathBuf,
}

/// The services, shared by all requests.
#[derive(Debug, Clone)]
pub struct Api(Arc<Services>);

impl Api {
    /// Shares the services.
    #[must_use]
    pub fn new(services: Services) -> Self {
        Self(Arc::new(services))
    }
}

impl Deref for Api {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0
    }
}
