//! Which error becomes which answer. The one file that knows.

use arkeep_auth::AuthError;
use arkeep_auth::api_token::CreateError;
use arkeep_auth::cookie::CookieError;
use arkeep_auth::factor::EnrolError;
use arkeep_auth::oidc::{BeginError, FinishError, ResumeError};
use arkeep_auth::password::PasswordError;
use arkeep_auth::session::{ChangePasswordError, LoginError, RefreshError};
use arkeep_core::StoreError;
use arkeep_transport::ca::rotation::NotYet;
use arkeep_transport::token::MintTokenError;
use arkeep_vault::{KeyError, OpenError, RingError, SealError};
use tokio::task::JoinError;

use super::access::logged_out;
use super::patch::stale;
use super::problem::{Code, Problem};
use crate::app::keys::KeysError;
use crate::authority::RotateError;
use crate::keeper;
use crate::reseal::ResealError;
use crate::store::{Refusal, WriteError};

/// Store trouble is "come back later", never "not there" and never "allowed".
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(_) => {
                Self::new(Code::Internal, "a fault of this server; the log knows more")
            }
            _ => Self::new(Code::Unavailable, "the database does not answer; try again"),
        }
        .because(error)
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::not_found(),
            Refusal::Stale => stale(),
            Refusal::Taken { field } => {
                Self::new(Code::Conflict, "it would be the second of its kind")
                    .at(field, "is taken")
            }
            Refusal::OtherPassword { position } => Self::invalid(
                format!("destinations[{position}].path"),
                "is the repository of another policy, with another password: give that one's \
                 repository_password, or another path",
            ),
            Refusal::Dangling { field } => Self::invalid(field, "names nothing that exists"),
            other => Self::new(Code::Conflict, other.to_string()),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unavailable(error) => error.into(),
            other => logged_out().because(other),
        }
    }
}

impl From<CookieError> for Problem {
    fn from(error: CookieError) -> Self {
        logged_out().because(error)
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused => Self::new(Code::Unauthorized, "wrong address or password"),
            LoginError::CodeRequired => Self::new(
                Code::MfaRequired,
                "a code of the second factor is needed too",
            ),
            LoginError::CodeRefused => Self::new(
                Code::MfaRequired,
                "the code is not right, or was used before",
            ),
            LoginError::Throttled { retry_after } => {
                Self::new(Code::RateLimited, "too many failed logins; wait")
                    .retry_after(retry_after)
            }
            LoginError::Busy => Self::new(Code::Unavailable, "too many logins at once; try again"),
            LoginError::Unavailable(error) => error.into(),
            other => fault(other),
        }
    }
}

impl From<RefreshError> for Problem {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Refused | RefreshError::Reused { .. } => logged_out().because(error),
            RefreshError::Unavailable(error) => error.into(),
            other => fault(other),
        }
    }
}

impl From<ChangePasswordError> for Problem {
    fn from(error: ChangePasswordError) -> Self {
        match error {
            ChangePasswordError::Login(LoginError::Refused) => {
                Self::invalid("current_password", "is not the current password")
            }
            ChangePasswordError::Login(error) => error.into(),
            ChangePasswordError::New(error) => Self::invalid("password", error.to_string()),
            other => fault(other),
        }
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => {
                Self::new(Code::Unavailable, "too many logins at once; try again")
            }
            error if error.is_about_the_password() => Self::invalid("password", error.to_string()),
            error => fault(error),
        }
    }
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Unavailable(error) => error.into(),
            other => Self::new(Code::Conflict, other.to_string()),
        }
    }
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        let field = match &error {
            CreateError::Name => "name",
            CreateError::Scopes => "scopes",
            CreateError::Expiry => "expires_at",
            // Between the guard and the store the owner was disabled.
            CreateError::Owner => return logged_out().because(error),
            _ => {
                return match error {
                    CreateError::Unavailable(error) => error.into(),
                    other => fault(other),
                };
            }
        };
        Self::invalid(field, error.to_string())
    }
}

impl From<BeginError> for Problem {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Unavailable(error) => error.into(),
            other => no_provider().because(other),
        }
    }
}

impl From<ResumeError> for Problem {
    fn from(error: ResumeError) -> Self {
        match error {
            ResumeError::Unavailable(error) => error.into(),
            other => logged_out().because(other),
        }
    }
}

impl From<FinishError> for Problem {
    fn from(error: FinishError) -> Self {
        match error {
            FinishError::Provider(_) => no_provider().because(error),
            other => Self::new(
                Code::Unauthorized,
                "the identity provider did not let you in",
            )
            .because(other),
        }
    }
}

fn no_provider() -> Problem {
    Problem::new(
        Code::Unavailable,
        "the identity provider cannot be used; try again",
    )
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Key(error) => {
                Self::new(Code::Unavailable, "the vault does not answer; try again").because(error)
            }
            other => fault(other),
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Key(error @ KeyError::Disabled { .. }) => Self::new(
                Code::Unavailable,
                "the vault key that this needs is disabled; an operator enables it by `vault enable`",
            )
            .because(error),
            OpenError::Key(error) => {
                Self::new(Code::Unavailable, "the vault does not answer; try again").because(error)
            }
            other => fault(other),
        }
    }
}

impl From<RingError> for Problem {
    fn from(error: RingError) -> Self {
        match error {
            RingError::Refused(refused) => Self::new(Code::Conflict, refused.to_string()),
            error => {
                Self::new(Code::Unavailable, "the vault does not answer; try again").because(error)
            }
        }
    }
}

impl From<keeper::RotateError> for Problem {
    fn from(error: keeper::RotateError) -> Self {
        match error {
            keeper::RotateError::Reseal(error) => error.into(),
            keeper::RotateError::Ring(error) => error.into(),
            keeper::RotateError::Lost(error) => error.into(),
            missing @ keeper::RotateError::KeysMissing { .. } => {
                Self::new(Code::Conflict, missing.to_string())
            }
        }
    }
}

impl From<ResealError> for Problem {
    fn from(error: ResealError) -> Self {
        match error {
            ResealError::Store(error) => error.into(),
            ResealError::Ring(error) => error.into(),
            error => {
                Self::new(Code::Unavailable, "the vault does not answer; try again").because(error)
            }
        }
    }
}

impl From<RotateError> for Problem {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::NotYet(NotYet::Behind(agents)) => Self::new(
                Code::Conflict,
                format!(
                    "a rotation is under way and waits for {} agents, which GET /ca names; it goes \
                     on by itself, or without them when `force` is true",
                    agents.len()
                ),
            ),
            RotateError::NotYet(too_soon) => Self::new(Code::Conflict, too_soon.to_string()),
            RotateError::Moved => Self::new(Code::Conflict, RotateError::Moved.to_string()),
            RotateError::Store(error) => error.into(),
            RotateError::Keys(error) => error.into(),
        }
    }
}

impl From<KeysError> for Problem {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => error.into(),
            KeysError::Open(error) => error.into(),
            KeysError::Seal(error) => error.into(),
            other => fault(other),
        }
    }
}

impl From<JoinError> for Problem {
    fn from(error: JoinError) -> Self {
        fault(error)
    }
}

impl From<MintTokenError> for Problem {
    fn from(error: MintTokenError) -> Self {
        fault(error)
    }
}

fn fault(error: impl std::error::Error + Send + Sync + 'static) -> Problem {
    Problem::new(Code::Internal, "a fault of this server; the log knows more").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_down_is_neither_absence_nor_permission() {
        let down = || StoreError::unavailable("down");

        for problem in [
            Problem::from(down()),
            Problem::from(WriteError::Store(down())),
            Problem::from(AuthError::Unavailable(down())),
            Problem::from(LoginError::Unavailable(down())),
            Problem::from(RefreshError::Unavailable(down())),
        ] {
            assert_eq!(problem.code(), Code::Unavailable);
        }
    }

    /// A8
    #[test]
    fn a_full_queue_says_when_to_come_back() {
        for problem in [
            Problem::from(LoginError::Busy),
            Problem::from(PasswordError::Busy),
            Problem::from(ChangePasswordError::Login(LoginError::Busy)),
        ] {
            let answer = problem.document("id");
            assert_eq!(answer.status().as_u16(), 503);
            assert!(answer.headers().contains_key("retry-after"));
        }
    }

    /// A9
    #[test]
    fn a_refused_token_says_nothing_of_why() {
        let revoked = Problem::from(AuthError::Revoked);
        let missing = Problem::from(CookieError::Missing);

        assert_eq!(revoked.detail(), missing.detail());
        assert_eq!(revoked.code(), Code::Unauthorized);
    }
}
