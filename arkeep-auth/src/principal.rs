//! Who is calling.

use std::time::Duration;

use arkeep_core::{Timestamp, UserId};

use crate::api_token::{Scope, Scopes, StoredApiToken};
use crate::id::{ApiTokenId, Epoch, SessionId, TokenId};
use crate::role::Role;
use crate::token::SignedClaims;

/// A caller whose token was checked and was honoured at that moment.
///
/// Only the [`Authenticator`](crate::Authenticator) and [`ApiTokens`](crate::ApiTokens) make one:
/// take it as an argument wherever something is allowed to known callers only.
///
/// ```compile_fail
/// # fn pretend(claims: arkeep_auth::SignedClaims) {
/// // A principal is not made from claims.
/// let caller = arkeep_auth::Principal::from(claims);
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    user: UserId,
    role: Role,
    epoch: Epoch,
    shown: Shown,
}

/// What the caller showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    AccessToken {
        session: SessionId,
        token: TokenId,
        auth_time: Timestamp,
    },
    ApiToken {
        id: ApiTokenId,
        scopes: Scopes,
    },
}

impl Principal {
    pub(crate) const fn of_session(claims: &SignedClaims) -> Self {
        Self {
            user: claims.user(),
            role: claims.role(),
            epoch: claims.epoch(),
            shown: Shown::AccessToken {
                session: claims.session(),
                token: claims.token(),
                auth_time: claims.auth_time(),
            },
        }
    }

    pub(crate) fn of_api_token(id: ApiTokenId, stored: &StoredApiToken) -> Option<Self> {
        Some(Self {
            user: stored.owner,
            role: stored.scopes.cut(stored.owner_role)?,
            epoch: stored.owner_epoch,
            shown: Shown::ApiToken {
                id,
                scopes: stored.scopes,
            },
        })
    }

    /// The user.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// What the caller may do: the user's role, cut down to the scopes of an API token.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The user's epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the caller may do what needs `scope`, as far as their role allows it.
    ///
    /// A person may; a program only with a token for it.
    #[must_use]
    pub const fn permits(&self, scope: Scope) -> bool {
        match self.shown {
            Shown::AccessToken { .. } => true,
            Shown::ApiToken { scopes, .. } => scopes.permit(scope),
        }
    }

    /// The login. A program has none: what concerns a person's own account is refused to it.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        match self.shown {
            Shown::AccessToken { session, .. } => Some(session),
            Shown::ApiToken { .. } => None,
        }
    }

    /// The access token.
    #[must_use]
    pub const fn token(&self) -> Option<TokenId> {
        match self.shown {
            Shown::AccessToken { token, .. } => Some(token),
            Shown::ApiToken { .. } => None,
        }
    }

    /// The API token.
    #[must_use]
    pub const fn api_token(&self) -> Option<ApiTokenId> {
        match self.shown {
            Shown::AccessToken { .. } => None,
            Shown::ApiToken { id, .. } => Some(id),
        }
    }

    /// Whether the user proved who they are less than `within` ago: step-up.
    ///
    /// A proof from the future is none, and a program has none to show.
    #[must_use]
    pub fn is_fresh(&self, within: Duration, now: Timestamp) -> bool {
        match self.shown {
            // Rounded down to the second, so it is later only when a clock stepped back.
            Shown::AccessToken { auth_time, .. } => {
                auth_time <= now && now < auth_time.plus(within)
            }
            Shown::ApiToken { .. } => false,
        }
    }
}
