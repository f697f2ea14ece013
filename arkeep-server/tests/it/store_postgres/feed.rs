//! A3, A4: what one replica revokes, another refuses within a second.

use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::revocation::{Revocation, RevocationCache, RevocationStore};
use arkeep_auth::session::{Client, NewSession, OpenOutcome, RefreshToken};
use arkeep_auth::token::{
    AccessTokens, KeySet, SignedClaims, SigningKey, TokenConfig, TokenIssuer as _,
    TokenVerifier as _,
};
use arkeep_auth::{Role, SessionId, SessionStore as _};
use arkeep_core::{SystemEntropy, UserId};
use arkeep_server::store::feed::{NoNotices, RevocationNotices, keep_current};
use arkeep_server::store::postgres::PostgresStore;
use arkeep_server::store::users::{NewUser, UserDirectory as _, UserEdit};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::{NOON, Sandbox, Tested, after};

/// Another replica on the same database, with a copy of its own that is kept current.
struct Replica {
    cache: Arc<RevocationCache>,
    keeping: JoinHandle<()>,
}

impl Replica {
    async fn new(store: &PostgresStore, mut notices: Box<dyn RevocationNotices>) -> Self {
        let cache = RevocationCache::load(Arc::new(store.clone())).await;
        let cache = Arc::new(cache.expect("what is revoked"));
        let keeping = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { keep_current(&cache, notices.as_mut()).await }
        });
        Self { cache, keeping }
    }

    /// How long it takes until the copy refuses a token.
    async fn refuses(&self, claims: &SignedClaims) -> Duration {
        let begin = Instant::now();
        while !self.cache.is_revoked(claims).await.expect("an answer") {
            tokio::task::yield_now().await;
        }
        begin.elapsed()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

async fn second(sandbox: &Sandbox) -> PostgresStore {
    let opened = PostgresStore::open(sandbox.database.clone()).await;
    opened.expect("the same database")
}

/// A new user and a token of theirs.
async fn token(store: &PostgresStore) -> (arkeep_server::store::users::User, SignedClaims) {
    let id = UserId::mint(NOON, &SystemEntropy);
    let new = NewUser {
        id,
        email: format!("{id}@example.test"),
        display_name: "Bob".to_owned(),
        role: Role::Operator,
        password_hash: None,
        created_at: NOON,
    };
    let user = store.create(&new).await.expect("a new user");
    let session = NewSession {
        id: SessionId::mint(NOON, &SystemEntropy),
        user: id,
        epoch: user.epoch,
        refresh: RefreshToken::generate(&SystemEntropy).digest(),
        refresh_expires_at: after(600),
        ends_at: after(600),
        client: Client::default(),
        now: NOON,
    };
    let opened = store.open(&session).await.expect("a new session");
    let OpenOutcome::Opened(live) = opened else {
        panic!("{opened:?}");
    };
    let keys = KeySet::new(SigningKey::generate(&SystemEntropy));
    let tokens = AccessTokens::new(TokenConfig::new("t", "t"), keys, Arc::new(SystemEntropy));
    let token = tokens.issue(&live.grant, NOON).expect("a token");
    let claims = tokens.verify(token.expose(), NOON).expect("our own");
    (user, claims)
}

/// A3, A4
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_is_told_at_once() -> Tested {
    let sandbox = Sandbox::new().await;
    let other = second(&sandbox).await;
    let notices = other.revocation_notices().await?;
    let replica = Replica::new(&other, Box::new(notices)).await;

    for revoke in ["session", "role"] {
        let (user, claims) = token(&sandbox.store).await;
        assert!(!replica.cache.is_revoked(&claims).await?);
        match revoke {
            "session" => {
                let what = Revocation::session(claims.session(), NOON);
                sandbox.store.revoke(&what).await?;
            }
            _ => {
                let edit = UserEdit {
                    id: user.id,
                    version: user.version,
                    email: user.email,
                    display_name: user.display_name,
                    role: Role::Viewer,
                    enabled: true,
                    password_hash: None,
                    at: after(1),
                };
                sandbox.store.update(&edit).await?;
            }
        }

        let took = replica.refuses(&claims).await;

        assert!(took <= RevocationCache::MAX_AGE, "{revoke}: {took:?}");
    }
    Ok(())
}

/// A3: each way of revoking is told, since the table tells and not who writes to it.
#[tokio::test]
async fn every_change_of_the_table_is_told() -> Tested {
    let sandbox = Sandbox::new().await;
    let other = second(&sandbox).await;
    let mut notices = other.revocation_notices().await?;
    let (user, claims) = token(&sandbox.store).await;
    notices.next().await;
    let told = async |notices: &mut dyn RevocationNotices| {
        timeout(Duration::from_secs(10), notices.next())
            .await
            .is_ok()
    };

    sandbox
        .store
        .revoke(&Revocation::token(claims.token(), NOON))
        .await?;
    assert!(told(&mut notices).await);
    sandbox.store.end_all(user.id, NOON).await?;
    assert!(told(&mut notices).await);
    sandbox.store.delete(user.id, None).await?;
    assert!(told(&mut notices).await);
    Ok(())
}

/// A3: without any notice, within a second all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notice_delays_by_less_than_a_second() -> Tested {
    let sandbox = Sandbox::new().await;
    let other = second(&sandbox).await;
    let replica = Replica::new(&other, Box::new(NoNotices)).await;
    let (_, claims) = token(&sandbox.store).await;
    assert!(!replica.cache.is_revoked(&claims).await?);
    sandbox
        .store
        .revoke(&Revocation::session(claims.session(), NOON))
        .await?;

    let took = replica.refuses(&claims).await;

    assert!(took <= RevocationCache::MAX_AGE, "{took:?}");
    Ok(())
}

/// A3: a listener whose connection was cut hears again.
#[tokio::test]
async fn a_cut_connection_is_made_anew() -> Tested {
    let sandbox = Sandbox::new().await;
    let other = second(&sandbox).await;
    let mut notices = other.revocation_notices().await?;
    let mut admin = PgConnection::connect_with(&sandbox.database).await?;
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    )
    .execute(&mut admin)
    .await?;

    // Until the new connection listens, notices are lost; so it is told until it hears.
    let heard = async {
        loop {
            token(&sandbox.store).await;
            if timeout(Duration::from_millis(250), notices.next())
                .await
                .is_ok()
            {
                return;
            }
        }
    };

    timeout(Duration::from_secs(30), heard).await?;
    Ok(())
}
