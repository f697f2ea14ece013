//! Logins through an identity provider: OpenID Connect, as a relying party.
//!
//! The browser is sent to the provider and comes back with a code, which this process exchanges for
//! a signed statement of who that was. Four things tie the two halves of such a login together: a
//! *state* (the answer is to our question), a *nonce* (the statement is for this login), a
//! *verifier* (the code is worth nothing to who overheard it, RFC 7636), and the *issuer* (the
//! answer is that provider's, RFC 9207). All of them come out of one random [`LoginSecret`], which
//! lies in a cookie of the browser and nowhere else: the store knows its digest, for one use within
//! ten minutes.
//!
//! ```
//! use std::sync::Arc;
//! use arkeep_auth::oidc::{HttpWeb, Reach, RelyingParty};
//! use arkeep_auth::testing::MemoryStore;
//! use arkeep_core::SystemEntropy;
//!
//! # fn build(builder: reqwest::ClientBuilder) -> Result<RelyingParty, Box<dyn std::error::Error>> {
//! let web = HttpWeb::new(builder, Reach::default())?;
//! let redirect_uri = "https://shop.example/oidc/callback";
//! let states = Arc::new(MemoryStore::default());
//! Ok(RelyingParty::new(web, states, Arc::new(SystemEntropy), redirect_uri))
//! # }
//! ```
//!
//! [`RelyingParty::begin`] gives the address to send the browser to, [`RelyingParty::resume`] uses
//! the state up, and [`RelyingParty::finish`] gives the [`ProvenIdentity`]. An identity is the pair
//! of issuer and subject. It is never joined to an account by its e-mail address, which a provider
//! may hand to somebody else tomorrow, and another provider to anybody today.

mod discovery;
mod guarded;
mod id_token;
mod jwks;
mod login;
mod reach;
mod roles;
mod secret;
#[cfg(feature = "testing")]
pub mod testing;
mod web;

use std::fmt;

use arkeep_core::{SecretString, StoreError, Timestamp};
use async_trait::async_trait;

pub use discovery::DiscoveryError;
pub use guarded::{ConnectError, GuardedClient};
pub use id_token::IdTokenError;
pub use login::{Answer, BeginError, Begun, FinishError, Pending, RelyingParty, ResumeError};
pub use reach::Reach;
pub use roles::RoleMap;
pub use secret::{LoginDigest, LoginSecret, ParseLoginSecretError};
pub use web::{HttpWeb, WebError};

use crate::id::OidcProviderId;
use crate::role::Role;

/// A provider, as its administrator described it.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Our name for it.
    pub id: OidcProviderId,
    /// Its own name, an address. Compared byte by byte.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// Our password there. None for a public client.
    pub client_secret: Option<SecretString>,
    /// What to ask for besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that says which groups a user is in.
    pub role_claim: Option<String>,
    /// Which role each group gives.
    pub role_map: RoleMap,
}

/// Who came back from a provider. Only [`RelyingParty::finish`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenIdentity {
    provider: OidcProviderId,
    issuer: String,
    subject: String,
    email: Option<String>,
    name: Option<String>,
    role: Option<Role>,
}

impl ProvenIdentity {
    /// The provider.
    #[must_use]
    pub const fn provider(&self) -> OidcProviderId {
        self.provider
    }

    /// The provider's own name: half of the identity.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The provider's name for the user: the other half.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// An e-mail address, to be shown. It identifies nobody.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// What people call the user.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The strongest role of the user's groups. None: the user has no business here.
    #[must_use]
    pub const fn role(&self) -> Option<Role> {
        self.role
    }
}

/// A login on its way through a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginState {
    /// What is kept in place of the secret in the browser.
    pub digest: LoginDigest,
    /// Where the browser was sent.
    pub provider: OidcProviderId,
    /// When it is too late to come back.
    pub expires_at: Timestamp,
}

/// Remembers which logins are on their way.
///
/// `testing::MemoryStore` is one in this process; `arkeep-server` keeps them in its database.
///
/// # Security
///
/// A store never sees the secret, only its SHA-256. [`take`](Self::take) is one conditional
/// statement: of two callers with one digest, one is told the provider.
///
/// # Cost
///
/// Anybody can begin a login, so [`keep`](Self::keep) should cost little, and [`prune`](Self::prune)
/// be called every few minutes.
#[async_trait]
pub trait LoginStateStore: fmt::Debug + Send + Sync {
    /// Keeps a login.
    async fn keep(&self, state: &LoginState) -> Result<(), StoreError>;

    /// Forgets a login and returns its provider, unless it has expired or there is none.
    async fn take(
        &self,
        digest: &LoginDigest,
        now: Timestamp,
    ) -> Result<Option<OidcProviderId>, StoreError>;

    /// Forgets logins that have expired. Returns how many.
    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError>;
}
