//! What each route does, in one word.

use axum::http::Method;

/// What is done by a route, and to what kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Action {
    /// Such as `user.change`.
    pub name: &'static str,
    /// Such as `user`.
    pub target: &'static str,
    /// Whether programs do it by themselves as long as somebody is logged in.
    pub often: bool,
}

impl Action {
    const fn new(name: &'static str, target: &'static str) -> Self {
        Self {
            name,
            target,
            often: false,
        }
    }
}

impl Action {
    /// Something on the port of the agents.
    pub(super) const fn of_agents(name: &'static str) -> Self {
        Self::new(name, "agent")
    }
}

/// The action of a route.
#[must_use]
pub fn action_of(method: &Method, path: &str) -> Option<Action> {
    let (_, _, name, target) = TABLE
        .iter()
        .find(|(of, at, ..)| method == *of && *at == path)?;
    Some(Action {
        often: *name == "auth.refresh",
        ..Action::new(name, target)
    })
}

/// A spent refresh token was shown: somebody has stolen it, or its successor.
pub(in crate::http) const TOKEN_REUSE: Action = Action::new("security.token_reuse", "user");

/// What has no route.
pub(super) const UNKNOWN: Action = Action::new("request.unknown", "server");

/// Several things that were not written down one by one.
pub(super) const FLOOD: Action = Action::new("security.flood", "server");

/// The kind of target that is the account of whoever asks.
pub(super) const ACCOUNT: &str = "account";

/// Every route: method, pattern, action, kind of its target. A route that is not here fails a test.
pub const TABLE: &[(&str, &str, &str, &str)] = &[
    ("GET", "/health/live", "health.read", "server"),
    ("GET", "/health/ready", "health.read", "server"),
    ("GET", "/metrics", "metrics.read", "server"),
    ("GET", "/.well-known/jwks.json", "jwks.read", "server"),
    ("GET", "/api/v1/setup", "setup.read", "server"),
    ("POST", "/api/v1/setup", "setup.run", "user"),
    ("POST", "/api/v1/auth/login", "auth.login", ACCOUNT),
    ("POST", "/api/v1/auth/refresh", "auth.refresh", "session"),
    ("POST", "/api/v1/auth/logout", "auth.logout", "session"),
    (
        "POST",
        "/api/v1/auth/logout-all",
        "auth.logout_all",
        ACCOUNT,
    ),
    ("POST", "/api/v1/auth/step-up", "auth.step_up", ACCOUNT),
    ("GET", "/api/v1/auth/sessions", "session.read", ACCOUNT),
    (
        "DELETE",
        "/api/v1/auth/sessions/{id}",
        "session.end",
        "session",
    ),
    ("POST", "/api/v1/auth/totp", "totp.begin", ACCOUNT),
    ("POST", "/api/v1/auth/totp/confirm", "totp.confirm", ACCOUNT),
    ("DELETE", "/api/v1/auth/totp", "totp.remove", ACCOUNT),
    (
        "POST",
        "/api/v1/auth/recovery-codes",
        "recovery_codes.create",
        ACCOUNT,
    ),
    ("GET", "/api/v1/auth/tokens", "token.read", "token"),
    ("POST", "/api/v1/auth/tokens", "token.create", "token"),
    (
        "DELETE",
        "/api/v1/auth/tokens/{id}",
        "token.revoke",
        "token",
    ),
    (
        "GET",
        "/api/v1/auth/oidc/providers",
        "oidc_provider.offer",
        "oidc_provider",
    ),
    (
        "GET",
        "/api/v1/auth/oidc/callback",
        "auth.oidc_login",
        ACCOUNT,
    ),
    (
        "GET",
        "/api/v1/auth/oidc/{id}/login",
        "auth.oidc_begin",
        "oidc_provider",
    ),
    (
        "GET",
        "/api/v1/oidc-providers",
        "oidc_provider.read",
        "oidc_provider",
    ),
    (
        "POST",
        "/api/v1/oidc-providers",
        "oidc_provider.create",
        "oidc_provider",
    ),
    (
        "GET",
        "/api/v1/oidc-providers/{id}",
        "oidc_provider.read",
        "oidc_provider",
    ),
    (
        "PATCH",
        "/api/v1/oidc-providers/{id}",
        "oidc_provider.change",
        "oidc_provider",
    ),
    (
        "DELETE",
        "/api/v1/oidc-providers/{id}",
        "oidc_provider.delete",
        "oidc_provider",
    ),
    ("GET", "/api/v1/users/me", "user.read", ACCOUNT),
    ("PATCH", "/api/v1/users/me", "user.change_self", ACCOUNT),
    ("GET", "/api/v1/users", "user.read", "user"),
    ("POST", "/api/v1/users", "user.create", "user"),
    ("GET", "/api/v1/users/{id}", "user.read", "user"),
    ("PATCH", "/api/v1/users/{id}", "user.change", "user"),
    ("DELETE", "/api/v1/users/{id}", "user.delete", "user"),
    (
        "POST",
        "/api/v1/users/{id}/revoke-sessions",
        "user.revoke_sessions",
        "user",
    ),
    ("GET", "/api/v1/agents", "agent.read", "agent"),
    ("POST", "/api/v1/agents", "agent.create", "agent"),
    ("GET", "/api/v1/agents/{id}", "agent.read", "agent"),
    ("PATCH", "/api/v1/agents/{id}", "agent.change", "agent"),
    ("DELETE", "/api/v1/agents/{id}", "agent.delete", "agent"),
    (
        "POST",
        "/api/v1/agents/{id}/join-token",
        "agent.join_token",
        "agent",
    ),
    (
        "POST",
        "/api/v1/agents/{id}/revoke",
        "agent.revoke",
        "agent",
    ),
    (
        "POST",
        "/api/v1/agents/{id}/approve",
        "agent.approve",
        "agent",
    ),
    (
        "GET",
        "/api/v1/destinations",
        "destination.read",
        "destination",
    ),
    (
        "POST",
        "/api/v1/destinations",
        "destination.create",
        "destination",
    ),
    (
        "GET",
        "/api/v1/destinations/{id}",
        "destination.read",
        "destination",
    ),
    (
        "PATCH",
        "/api/v1/destinations/{id}",
        "destination.change",
        "destination",
    ),
    (
        "DELETE",
        "/api/v1/destinations/{id}",
        "destination.delete",
        "destination",
    ),
    (
        "POST",
        "/api/v1/destinations/{id}/test",
        "destination.test",
        "destination",
    ),
    ("GET", "/api/v1/policies", "policy.read", "policy"),
    ("POST", "/api/v1/policies", "policy.create", "policy"),
    ("GET", "/api/v1/policies/{id}", "policy.read", "policy"),
    ("PATCH", "/api/v1/policies/{id}", "policy.change", "policy"),
    ("DELETE", "/api/v1/policies/{id}", "policy.delete", "policy"),
    ("POST", "/api/v1/policies/{id}/run", "policy.run", "policy"),
    (
        "POST",
        "/api/v1/policies/{id}/verify",
        "policy.verify",
        "policy",
    ),
    ("GET", "/api/v1/jobs", "job.read", "job"),
    ("GET", "/api/v1/jobs/{id}", "job.read", "job"),
    ("POST", "/api/v1/jobs/{id}/cancel", "job.cancel", "job"),
    ("GET", "/api/v1/jobs/{id}/log", "job.read", "job"),
    ("GET", "/api/v1/snapshots", "snapshot.read", "snapshot"),
    ("GET", "/api/v1/snapshots/{id}", "snapshot.read", "snapshot"),
    (
        "POST",
        "/api/v1/snapshots/{id}/restore",
        "snapshot.restore",
        "snapshot",
    ),
    ("GET", "/api/v1/vault", "vault.read", "vault"),
    ("POST", "/api/v1/vault/rotate", "vault.rotate", "vault"),
    ("GET", "/api/v1/ca", "ca.read", "ca"),
    ("POST", "/api/v1/ca/rotate", "ca.rotate", "ca"),
    ("GET", "/api/v1/channels", "channel.read", "channel"),
    ("POST", "/api/v1/channels", "channel.create", "channel"),
    ("GET", "/api/v1/channels/{id}", "channel.read", "channel"),
    (
        "PATCH",
        "/api/v1/channels/{id}",
        "channel.change",
        "channel",
    ),
    (
        "DELETE",
        "/api/v1/channels/{id}",
        "channel.delete",
        "channel",
    ),
    (
        "POST",
        "/api/v1/channels/{id}/test",
        "channel.test",
        "channel",
    ),
    ("GET", "/api/v1/deliveries", "delivery.read", "delivery"),
    ("GET", "/api/v1/audit", "audit.read", "audit"),
];
