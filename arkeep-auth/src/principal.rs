//! Who is calling.

use std::time::Duration;

use arkeep_core::{Timestamp, UserId};

use crate::id::{Epoch, SessionId, TokenId};
use crate::role::Role;
use crate::token::SignedClaims;

/// A caller whose token was checked and was honoured at that moment.
///
/// Only the [`Authenticator`](crate::Authenticator) makes one: take it as an argument wherever
/// something is allowed to known callers only.
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
    session: SessionId,
    token: TokenId,
    auth_time: Timestamp,
}

impl Principal {
    pub(crate) const fn of_session(claims: &SignedClaims) -> Self {
        Self {
            user: claims.user(),
            role: claims.role(),
            epoch: claims.epoch(),
            session: claims.session(),
            token: claims.token(),
            auth_time: claims.auth_time(),
        }
    }

    /// The user.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// What the user may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The user's epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The login.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The access token.
    #[must_use]
    pub const fn token(&self) -> TokenId {
        self.token
    }

    /// When the user last proved who they are, to the second.
    #[must_use]
    pub const fn auth_time(&self) -> Timestamp {
        self.auth_time
    }

    /// Whether the user proved who they are less than `within` ago: step-up.
    ///
    /// A proof from the future is none.
    #[must_use]
    pub fn is_fresh(&self, within: Duration, now: Timestamp) -> bool {
        // auth_time is rounded down to the second, so it is later only when a clock stepped back.
        self.auth_time <= now && now < self.auth_time.plus(within)
    }
}
