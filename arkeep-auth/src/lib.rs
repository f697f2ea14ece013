#![doc = include_str!("../README.md")]

pub mod api_token;
mod authenticator;
#[cfg(feature = "axum")]
pub mod axum;
pub mod cookie;
pub mod factor;
pub mod guard;
pub mod id;
#[cfg(feature = "oidc")]
pub mod oidc;
pub mod password;
pub mod principal;
pub mod revocation;
pub mod role;
pub mod session;
pub mod setup;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token;
pub mod user;

pub use api_token::{ApiTokenStore, ApiTokens, Scope, Scopes};
pub use authenticator::{AuthError, Authenticator, bearer_token};
pub use factor::{FactorStore, SecondFactors};
pub use guard::LoginGuard;
pub use id::{ApiTokenId, Epoch, OidcProviderId, SessionId, TokenId};
pub use password::{HashCost, PasswordHash, Passwords};
pub use principal::Principal;
pub use revocation::{Revocation, RevocationCache, RevocationStore};
pub use role::Role;
pub use session::{RefreshToken, SessionStore, Sessions};
pub use setup::{SetupDigest, SetupToken};
pub use token::{AccessTokens, SignedClaims, SigningKey, TokenIssuer, TokenVerifier};
pub use user::UserStore;
