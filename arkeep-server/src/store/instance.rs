//! What there is once for each server.

use std::fmt;

use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;

/// Knows whether the database answers, and whether the server has been set up.
///
/// The first administrator is made by [`UserDirectory::set_up`](super::UserDirectory::set_up), in the same
/// transaction that spends the setup token.
#[async_trait]
pub trait InstanceStore: fmt::Debug + Send + Sync {
    /// Answers if the database can be read and a change of it can begin.
    async fn ping(&self) -> Result<(), StoreError>;

    /// When the server was set up.
    async fn set_up_at(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Lets the token of this SHA-256 digest, and no other, set the server up. Returns `false` when
    /// it is set up already.
    async fn offer_setup(&self, token_digest: &[u8; 32]) -> Result<bool, StoreError>;

    /// The same, for one of several replicas: a token that another has offered stays.
    async fn offer_setup_once(&self, token_digest: &[u8; 32]) -> Result<SetupOffer, StoreError>;
}

/// What became of an offer among replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupOffer {
    /// The token sets the server up.
    Offered,
    /// Another one does.
    OfferedByAnother,
    /// None does: the server is set up.
    SetUp,
}
