//! Identity providers, and which of our users their users are.

use std::fmt;

use arkeep_auth::oidc::RoleMap;
use arkeep_auth::{Epoch, OidcProviderId};
use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;

use super::users::{NewUser, User};
use super::{Listed, Page, SecretChange, WriteError};

/// Keeps identity providers and identities.
///
/// # Security
///
/// An identity is the pair of issuer and subject, and leads to one user. Whoever loses one, because
/// its provider is disabled or removed, has their epoch raised, their sessions ended and the tokens of
/// their programs removed in the same transaction: a dead provider's users are out at once, and leave
/// nobody behind.
#[async_trait]
pub trait IdentityStore: fmt::Debug + Send + Sync {
    /// Adds a provider. Names are unique without regard to case of ASCII letters, issuers are
    /// unique.
    async fn create_provider(&self, new: &NewProvider) -> Result<StoredProvider, WriteError>;

    /// The provider of this id.
    async fn provider(&self, id: OidcProviderId) -> Result<Option<StoredProvider>, StoreError>;

    /// Providers, newest first.
    async fn providers(&self, page: &Page) -> Result<Listed<StoredProvider>, StoreError>;

    /// Changes a provider that is still of the version that the edit was made from.
    async fn update_provider(&self, edit: &ProviderEdit) -> Result<StoredProvider, WriteError>;

    /// Removes a provider with its identities. Their users stay.
    async fn delete_provider(
        &self,
        id: OidcProviderId,
        version: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError>;

    /// The user that an identity leads to.
    async fn user_of(&self, issuer: &str, subject: &str) -> Result<Option<User>, StoreError>;

    /// Adds a user together with an identity that leads to them. Refuses when the identity leads to
    /// somebody, or the address is another user's: they are never joined.
    async fn admit(&self, user: &NewUser, identity: &NewIdentity) -> Result<User, WriteError>;

    /// Takes back everything of a user to whom their provider gives no role any more, as if the
    /// identity had been lost. The user and the identity stay. Returns the new epoch, or `None` when
    /// there is no such user.
    async fn shut_out(&self, user: UserId, now: Timestamp) -> Result<Option<Epoch>, StoreError>;
}

/// A provider to be.
#[derive(Debug, Clone)]
pub struct NewProvider {
    /// Its id, to which the client secret is sealed.
    pub id: OidcProviderId,
    /// What people call it.
    pub name: String,
    /// Its own name.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// Sealed for [`sealed::oidc_client_secret`](super::sealed::oidc_client_secret).
    pub client_secret: Option<Vec<u8>>,
    /// What to ask for besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that says which groups a user is in.
    pub role_claim: Option<String>,
    /// Which role each group gives.
    pub role_map: RoleMap,
    /// Whether anybody may log in through it.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProvider {
    /// Its id.
    pub id: OidcProviderId,
    /// Grows by one with each change.
    pub version: u64,
    /// What people call it.
    pub name: String,
    /// Its own name. It never changes, since identities are named by it.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// Our password there, sealed.
    pub client_secret: Option<Vec<u8>>,
    /// What to ask for besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that says which groups a user is in.
    pub role_claim: Option<String>,
    /// Which role each group gives.
    pub role_map: RoleMap,
    /// Whether anybody may log in through it.
    pub enabled: bool,
}

/// What a provider is to become.
#[derive(Debug, Clone)]
pub struct ProviderEdit {
    /// Which one.
    pub id: OidcProviderId,
    /// The version that was read.
    pub version: u64,
    /// Its name from now on.
    pub name: String,
    /// Our name there from now on.
    pub client_id: String,
    /// What becomes of the client secret.
    pub client_secret: SecretChange,
    /// What to ask for from now on.
    pub scopes: Vec<String>,
    /// The claim from now on.
    pub role_claim: Option<String>,
    /// The roles from now on.
    pub role_map: RoleMap,
    /// Whether anybody may log in through it from now on.
    pub enabled: bool,
    /// When it changes.
    pub at: Timestamp,
}

/// A login elsewhere that leads to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIdentity {
    /// Where.
    pub provider: OidcProviderId,
    /// The provider's own name.
    pub issuer: String,
    /// The provider's name for the user.
    pub subject: String,
}
