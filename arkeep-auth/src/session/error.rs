use std::time::Duration;

use arkeep_core::{StoreError, UserId};

use crate::guard::Throttled;
use crate::id::SessionId;
use crate::password::PasswordError;
use crate::token::IssueError;

/// A login did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// Unknown, disabled, or the wrong password. Answer 401, the same for all.
    #[error("the login is refused")]
    Refused,
    /// The password is right, and a code is needed too. Answer 401 `mfa_required`.
    #[error("a second factor is required")]
    CodeRequired,
    /// The code is wrong, or was used before. Answer as for [`CodeRequired`](Self::CodeRequired).
    #[error("the second factor is refused")]
    CodeRefused,
    /// Too many failures before this attempt, which was not looked at. Answer 429 with
    /// `Retry-After`.
    #[error("too many failed logins")]
    Throttled {
        /// How long to wait, in whole seconds.
        retry_after: Duration,
    },
    /// Too many passwords are being hashed. Answer 503 with `Retry-After`.
    #[error("too many logins at once")]
    Busy,
    /// A store could not answer. Answer 503.
    #[error("the login could not be decided")]
    Unavailable(#[from] StoreError),
    /// Something that nobody outside can mend. Answer 500.
    #[error("the login failed inside")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Throttled> for LoginError {
    fn from(told: Throttled) -> Self {
        Self::Throttled {
            retry_after: told.retry_after,
        }
    }
}

impl From<IssueError> for LoginError {
    fn from(error: IssueError) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl From<PasswordError> for LoginError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            other => Self::Internal(Box::new(other)),
        }
    }
}

/// A refresh token was not exchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// Unknown, too old, ended, or its user is disabled. Answer 401 and clear the cookie.
    #[error("the refresh token is not accepted")]
    Refused,
    /// It was used before: somebody stole it. The session and everything of the user's are dead by
    /// now. Answer as for [`Refused`](Self::Refused); write it to the audit log and tell somebody.
    #[error("the refresh token was used before")]
    Reused {
        /// Whose it was.
        user: UserId,
        /// The session that ended.
        session: SessionId,
    },
    /// A store could not answer. Answer 503; the client may try again with the same token.
    #[error("the refresh could not be decided")]
    Unavailable(#[from] StoreError),
    /// Something that nobody outside can mend. Answer 500.
    #[error("the refresh failed inside")]
    Internal(#[from] IssueError),
}

/// A password was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangePasswordError {
    /// The current password is wrong, or one of the other reasons for which a login fails.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The new password will not do. Tell the user why.
    #[error("the new password is refused")]
    New(#[source] PasswordError),
}

impl From<PasswordError> for ChangePasswordError {
    fn from(error: PasswordError) -> Self {
        if error.is_about_the_password() {
            Self::New(error)
        } else {
            Self::Login(error.into())
        }
    }
}

impl From<StoreError> for ChangePasswordError {
    fn from(error: StoreError) -> Self {
        Self::Login(error.into())
    }
}

impl From<IssueError> for ChangePasswordError {
    fn from(error: IssueError) -> Self {
        Self::Login(error.into())
    }
}
