//! Who may do what: the one table, and the guard that reads it.
//!
//! A route enters the router only together with what it takes to use it (`Routes::on`), so there
//! is no route without a rule and no rule without a route. The guard runs before the handler and
//! before the body is read.

use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::api_token::ApiToken;
use arkeep_auth::{Principal, Role, Scope, bearer_token};
use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, on};

use super::audit;
use super::problem::{Code, Problem};
use super::services::Api;

/// What it takes to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing. The handler judges for itself what it is shown.
    Nothing,
    /// A login whose role includes this one, or a program's token that has the scope besides.
    Role(Role, Scope),
    /// A person's login whose role includes this one, and which is fresh. No program has that.
    FreshRole(Role),
    /// A person of any role: their own account is not for programs.
    Person,
    /// The same, and the login must be fresh.
    FreshPerson,
}

impl Needs {
    /// The weakest role that will do; none where anybody may come.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Nothing => None,
            Self::Role(role, _) | Self::FreshRole(role) => Some(role),
            Self::Person | Self::FreshPerson => Some(Role::Viewer),
        }
    }

    /// The scope that opens it to a program; none where no scope does.
    #[must_use]
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Role(_, scope) => Some(scope),
            Self::Nothing | Self::FreshRole(_) | Self::Person | Self::FreshPerson => None,
        }
    }

    /// Whether the login must be fresh.
    #[must_use]
    pub const fn fresh(self) -> bool {
        matches!(self, Self::FreshRole(_) | Self::FreshPerson)
    }
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
    let Some(role) = guard.needs.role() else {
        return Ok(next.run(request).await);
    };
    let caller = guard.api.identify(request.headers()).await?;
    if caller.api_token().is_some() {
        match guard.needs.scope() {
            None => return Err(for_people()),
            Some(scope) if !caller.permits(scope) => {
                return Err(Problem::new(
                    Code::Forbidden,
                    format!("this takes a token with the scope {scope}"),
                ));
            }
            Some(_) => {}
        }
    }
    if !caller.role().includes(role) {
        return Err(Problem::new(
            Code::Forbidden,
            format!("this takes the role {role}"),
        ));
    }
    if guard.needs.fresh() {
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
        let now = self.clock.now();
        match self.authenticator.authenticate(token, now).await {
            Ok(caller) => {
                audit::seen_caller(&caller);
                Ok(caller)
            }
            Err(refused) => {
                if let Ok(token) = token.parse::<ApiToken>() {
                    audit::tried_token(token.id());
                }
                Err(refused.into())
            }
        }
    }

    /// Refuses a login that is older than [`FRESH`], and every program.
    pub(super) fn require_fresh(&self, caller: &Principal) -> Result<(), Problem> {
        if caller.api_token().is_some() {
            return Err(for_people());
        }
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

fn for_people() -> Problem {
    Problem::new(Code::Forbidden, "this takes a person's login, not a token")
}

pub(super) fn logged_out() -> Problem {
    Problem::new(Code::Unauthorized, "log in first")
}

/// How old a login may be where a fresh one is needed.
pub(super) const FRESH: Duration = Duration::from_secs(5 * 60);
