//! Callers as arguments of axum handlers.
//!
//! A handler that takes a [`Caller`] is reached by known callers only. The state of the router gives
//! the [`Authenticator`] and the clock.
//!
//! ```
//! use std::sync::Arc;
//! use arkeep_auth::axum::Caller;
//! use arkeep_auth::{Authenticator, Role};
//! use arkeep_core::Clock;
//! use axum::Router;
//! use axum::extract::FromRef;
//! use axum::http::StatusCode;
//! use axum::routing::get;
//!
//! #[derive(Clone, FromRef)]
//! struct Shop {
//!     authenticator: Authenticator,
//!     clock: Arc<dyn Clock>,
//! }
//!
//! async fn greet(caller: Caller) -> Result<String, StatusCode> {
//!     if !caller.role().includes(Role::Operator) {
//!         return Err(StatusCode::FORBIDDEN);
//!     }
//!     Ok(format!("good day, {}", caller.user()))
//! }
//!
//! let router: Router<Shop> = Router::new().route("/greeting", get(greet));
//! ```

use std::ops::Deref;
use std::sync::Arc;

use ::axum::extract::{FromRef, FromRequestParts};
use ::axum::http::request::Parts;
use ::axum::http::{HeaderValue, StatusCode, header};
use ::axum::response::{IntoResponse, Response};
use arkeep_core::Clock;

use crate::authenticator::{AuthError, Authenticator, bearer_token};
use crate::principal::Principal;

/// Whoever shows a token in `Authorization: Bearer` that is honoured.
#[derive(Debug, Clone)]
pub struct Caller(Principal);

impl Deref for Caller {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.0
    }
}

impl<S> FromRequestParts<S> for Caller
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
    Arc<dyn Clock>: FromRef<S>,
{
    type Rejection = Stranger;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Stranger> {
        let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
        // Of two headers a proxy may have judged the other one.
        let (Some(header), None) = (headers.next(), headers.next()) else {
            return Err(Stranger::NoToken);
        };
        let token = header.to_str().ok().and_then(bearer_token);
        let token = token.ok_or(Stranger::NoToken)?;
        let now = <Arc<dyn Clock>>::from_ref(state).now();
        let caller = Authenticator::from_ref(state)
            .authenticate(token, now)
            .await?;
        Ok(Self(caller))
    }
}

/// Nobody known is calling: 401, or 503 when that cannot be told.
///
/// The answer has no body. A product that has a form for its errors maps this into it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Stranger {
    /// There is no bearer token, or more than one.
    #[error("no bearer token")]
    NoToken,
    /// There is one, and it does not let anybody in.
    #[error(transparent)]
    Token(#[from] AuthError),
}

impl IntoResponse for Stranger {
    fn into_response(self) -> Response {
        let (status, name, value) = match self {
            Self::Token(AuthError::Unavailable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, header::RETRY_AFTER, "1")
            }
            // RFC 6750 §3: no more is said to who shows nothing, and RFC 9110 asks for the header.
            Self::NoToken => (StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE, "Bearer"),
            Self::Token(_) => (
                StatusCode::UNAUTHORIZED,
                header::WWW_AUTHENTICATE,
                r#"Bearer error="invalid_token""#,
            ),
        };
        (status, [(name, HeaderValue::from_static(value))]).into_response()
    }
}
