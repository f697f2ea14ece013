//! Logins, and routes behind them, in an axum application of your own.
//!
//! ```text
//! cargo run -p arkeep-auth --features axum --example auth_in_your_axum_app
//! curl -d '{"email":"ada@example.com","password":"correct horse battery"}' \
//!      -H 'content-type: application/json' http://127.0.0.1:3000/login
//! curl -H "authorization: Bearer $token" http://127.0.0.1:3000/orders
//! ```
//!
//! [`build`] is the embedding. `MemoryStore` stands for your tables: implement `UserStore` over your
//! users, and take the other ports from `arkeep-server`'s stores or write them, too; the suites in
//! `arkeep_auth::testing::conformance` say when you are done.

use std::error::Error;
use std::sync::Arc;

use arkeep_auth::axum::Caller;
use arkeep_auth::password::{HashCost, HashPool};
use arkeep_auth::session::{Client, Lifetimes, LogOut, Login, LoginError, SessionParts};
use arkeep_auth::testing::MemoryStore;
use arkeep_auth::token::{AccessTokens, KeySet, SigningKey, TokenConfig};
use arkeep_auth::{Authenticator, LoginGuard, Passwords, RevocationCache, Role, Sessions};
use arkeep_core::{Clock, Entropy, SecretString, SystemClock, SystemEntropy, UserId};
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

#[derive(Clone, FromRef)]
struct Shop {
    authenticator: Authenticator,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
}

async fn build(store: Arc<MemoryStore>, passwords: Passwords) -> Result<Router, Box<dyn Error>> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    // Made once and kept sealed: a new key at each start would log everybody out.
    let keys = KeySet::new(SigningKey::generate(entropy.as_ref()));
    let config = TokenConfig::new("https://shop.example", "https://shop.example");
    let tokens = Arc::new(AccessTokens::new(config, keys, Arc::clone(&entropy)));
    // Loaded before anybody is let in. With several replicas, refresh it several times a second.
    let revocations = Arc::new(RevocationCache::load(store.clone()).await?);
    let sessions = Sessions::new(SessionParts {
        users: store.clone(),
        sessions: store,
        revocations: revocations.clone(),
        issuer: tokens.clone(),
        passwords,
        entropy,
        lifetimes: Lifetimes::default(),
    });
    let shop = Shop {
        authenticator: Authenticator::new(tokens, revocations),
        sessions: Arc::new(sessions.guarded(Arc::new(LoginGuard::default()))),
        clock: Arc::new(SystemClock),
    };
    Ok(Router::new()
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/orders", get(orders))
        .with_state(shop))
}

#[derive(serde::Deserialize)]
struct Form {
    email: String,
    password: SecretString,
}

async fn log_in(State(shop): State<Shop>, Json(form): Json<Form>) -> Result<String, StatusCode> {
    let login = Login {
        email: &form.email,
        password: &form.password,
        client: &Client::default(),
    };
    match shop.sessions.log_in(&login, shop.clock.now()).await {
        Ok(pair) => Ok(pair.access.expose().to_owned()),
        Err(LoginError::Refused) => Err(StatusCode::UNAUTHORIZED),
        Err(LoginError::Throttled { .. }) => Err(StatusCode::TOO_MANY_REQUESTS),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn log_out(State(shop): State<Shop>, caller: Caller) -> Result<StatusCode, StatusCode> {
    let shown = LogOut {
        principal: Some(&caller),
        refresh: None,
    };
    let ended = shop.sessions.log_out(&shown, shop.clock.now()).await;
    ended.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reached by known callers only, since it takes one.
async fn orders(caller: Caller) -> Result<String, StatusCode> {
    match caller.role().includes(Role::Operator) {
        true => Ok(format!("the orders, for {}", caller.user())),
        false => Err(StatusCode::FORBIDDEN),
    }
}

/// A store with Ada in it, who may see the orders.
async fn ada(cost: HashCost) -> Result<(Arc<MemoryStore>, Passwords), Box<dyn Error>> {
    let pool = HashPool::start(HashPool::default_threads(), 64)?;
    let passwords = Passwords::new(cost, pool, Arc::new(SystemEntropy));
    let hash = passwords.hash(&SecretString::from(PASSWORD)).await?;
    let store = Arc::new(MemoryStore::default());
    let id = UserId::mint(SystemClock.now(), &SystemEntropy);
    store.add_user(id, "ada@example.com", Some(hash), Role::Operator);
    Ok((store, passwords))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (store, passwords) = ada(HashCost::default()).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, build(store, passwords).await?).await?)
}

const PASSWORD: &str = "correct horse battery";

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request};
    use tower::ServiceExt as _;

    use super::*;

    async fn send(
        router: &Router,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: &str,
    ) -> Result<(u16, String), Box<dyn Error>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let request = request.body(Body::from(body.to_owned()))?;
        let answer = router.clone().oneshot(request).await?;
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 16).await?;
        Ok((status, String::from_utf8(bytes.to_vec())?))
    }

    /// A3, A9
    #[tokio::test]
    async fn a_login_opens_what_is_behind_it_until_it_is_taken_back() -> Result<(), Box<dyn Error>>
    {
        let (store, passwords) = ada(HashCost::for_testing()).await?;
        let router = build(store, passwords).await?;
        let form = |password: &str| {
            serde_json::json!({"email": "ada@example.com", "password": password}).to_string()
        };

        let wrong = send(&router, Method::POST, "/login", None, &form("wrong")).await?;
        let stranger = send(&router, Method::GET, "/orders", None, "").await?;
        let (status, token) = send(&router, Method::POST, "/login", None, &form(PASSWORD)).await?;
        let inside = send(&router, Method::GET, "/orders", Some(&token), "").await?;
        let out = send(&router, Method::POST, "/logout", Some(&token), "").await?;
        let after = send(&router, Method::GET, "/orders", Some(&token), "").await?;

        assert_eq!((wrong.0, stranger.0, status), (401, 401, 200));
        assert!(inside.1.starts_with("the orders, for "), "{inside:?}");
        assert_eq!((inside.0, out.0, after.0), (200, 204, 401));
        Ok(())
    }
}
