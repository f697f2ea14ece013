//! Who may do what: the one table, and the guard that reads it.
//!
//! A route enters the router only together with what it takes to use it (`Routes::on`), so there
//! is no route without a rule and no rule without a route. The guard runs before the handler and
//! before the body is read.

use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::{Principal, Role, bearer_token};
use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, on};

use super::problem::{Code, Problem};
use super::services::Api;

/// What it takes to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing. The handler judges for itself what it is shown.
    Nothing,
    /// A login whose role includes this one.
    Role(Role),
    /// The same, and the login must be fresh.
    FreshRole(Role),
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// The method.
    pub method: Method,
    /// The pattern of the address.
    pub path: &'static str,
    /// What it takes.
    pub needs: Needs,
}

/// A router in the making, and the table that goes with it.
#[derive(Debug)]
pub(super) struct Routes {
    api: Api,
    rules: Vec<Rule>,
    router: Router<Api>,
}

impl Routes {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            rules: Vec::new(),
            router: Router::new(),
        }
    }

    /// Answers `method` on `path` with `handler`, for those who meet `needs`.
    pub(super) fn on<H, T>(
        mut self,
        method: Method,
        path: &'static str,
        needs: Needs,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        let filter = match method {
            Method::POST => MethodFilter::POST,
            Method::PATCH => MethodFilter::PATCH,
            Method::DELETE => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let guard = Guard {
            api: self.api.clone(),
            needs,
        };
        let guarded = on(filter, handler).route_layer(middleware::from_fn_with_state(guard, judge));
        self.router = self.router.route(path, guarded);
        self.rules.push(Rule {
            method,
            path,
            needs,
        });
        self
    }

    pub(super) fn finish(self) -> (Router<Api>, Vec<Rule>) {
        (self.router, self.rules)
    }
}

#[derive(Clone)]
struct Guard {
    api: Api,
    needs: Needs,
}

async fn judge(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (role, fresh) = match guard.needs {
        Needs::Nothing => return Ok(next.run(request).await),
        Needs::Role(role) => (role, false),
        Needs::FreshRole(role) => (role, true),
    };
    let caller = guard.api.identify(request.headers()).await?;
    if !caller.role().includes(role) {
        return Err(Problem::new(
            Code::Forbidden,
            format!("this takes the role {role}"),
        ));
    }
    if fresh {
        guard.api.require_fresh(&caller)?;
    }
    request.extensions_mut().insert(Caller(Arc::new(caller)));
    Ok(next.run(request).await)
}

impl Api {
    /// Says who shows the bearer token of these headers.
    pub(super) async fn identify(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(logged_out());
        };
        let token = value
            .to_str()
            .ok()
            .and_then(bearer_token)
            .ok_or_else(logged_out)?;
        Ok(self
            .authenticator
            .authenticate(token, self.clock.now())
            .await?)
    }

    /// Refuses a login that is older than [`FRESH`].
    pub(super) fn require_fresh(&self, caller: &Principal) -> Result<(), Problem> {
        if caller.is_fresh(FRESH, self.clock.now()) {
            return Ok(());
        }
        Err(Problem::new(
            Code::StepUpRequired,
            "this takes a login that is less than 5 minutes old",
        ))
    }
}

/// Whoever the guard let in.
#[derive(Debug, Clone)]
pub(super) struct Caller(Arc<Principal>);

impl std::ops::Deref for Caller {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::new(Code::Internal, "the route has no guard"))
    }
}

pub(super) fn logged_out() -> Problem {
    Problem::new(Code::Unauthorized, "log in first")
}

/// How old a login may be where a fresh one is needed.
pub(super) const FRESH: Duration = Duration::from_secs(5 * 60);
