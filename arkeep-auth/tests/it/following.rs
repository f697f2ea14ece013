//! Keys that another replica has made.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arkeep_auth::testing::MemoryStore;
use arkeep_auth::token::{AccessToken, Grant, KeyFollower, KeySet, TokenIssuer as _};
use arkeep_auth::token::{TokenConfig, VerifyError};
use arkeep_auth::{AccessTokens, AuthError, Authenticator, Epoch, Role, SessionId, SigningKey};
use arkeep_core::{StoreError, SystemEntropy, UserId};
use async_trait::async_trait;

use super::fixture::noon;

/// A replica that has not heard of the newest key, and a place where it can.
#[derive(Debug)]
struct Follower {
    tokens: Arc<AccessTokens>,
    /// The seed of the key that there is.
    seed: Option<[u8; 32]>,
    looks: AtomicUsize,
}

#[async_trait]
impl KeyFollower for Follower {
    async fn look_again(&self) -> Result<(), StoreError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let seed = self.seed.ok_or(StoreError::unavailable("no store"))?;
        self.tokens.replace_keys(KeySet::new(key(seed)));
        Ok(())
    }
}

fn key(seed: [u8; 32]) -> SigningKey {
    let seed = arkeep_core::SecretSlice::from(seed.to_vec());
    SigningKey::from_secret(&seed).unwrap()
}

fn signed_by(seed: [u8; 32]) -> Arc<AccessTokens> {
    let config = TokenConfig::new("https://backup.example", "https://backup.example");
    let keys = KeySet::new(key(seed));
    Arc::new(AccessTokens::new(config, keys, Arc::new(SystemEntropy)))
}

struct Stage {
    gate: Authenticator,
    follower: Arc<Follower>,
    token: AccessToken,
}

/// A token of the second key, shown to a replica that knows the first and could learn `there_is`.
fn stage(there_is: Option<[u8; 32]>) -> Stage {
    let store = Arc::new(MemoryStore::default());
    let ada = UserId::mint(noon(), &SystemEntropy);
    store.add_user(ada, "ada@example.com", None, Role::Viewer);
    let grant = Grant {
        user: ada,
        session: SessionId::mint(noon(), &SystemEntropy),
        epoch: Epoch::FIRST,
        role: Role::Viewer,
        auth_time: noon(),
    };
    let tokens = signed_by([1; 32]);
    let follower = Arc::new(Follower {
        tokens: Arc::clone(&tokens),
        seed: there_is,
        looks: AtomicUsize::new(0),
    });
    Stage {
        gate: Authenticator::new(tokens, store).following(Arc::clone(&follower) as _),
        follower,
        token: signed_by([2; 32]).issue(&grant, noon()).unwrap(),
    }
}

/// A1
#[tokio::test]
async fn a_token_of_an_unknown_key_is_tried_again_after_a_look() -> Result<(), AuthError> {
    let stage = stage(Some([2; 32]));

    stage
        .gate
        .authenticate(stage.token.expose(), noon())
        .await?;
    stage
        .gate
        .authenticate(stage.token.expose(), noon())
        .await?;

    assert_eq!(stage.follower.looks.load(Ordering::SeqCst), 1);
    Ok(())
}

/// A1
#[tokio::test]
async fn a_key_that_nobody_has_is_refused_after_one_look() {
    let stage = stage(Some([3; 32]));

    let refused = stage.gate.authenticate(stage.token.expose(), noon()).await;

    assert!(
        matches!(refused, Err(AuthError::Refused(VerifyError::UnknownKey))),
        "{refused:?}"
    );
    assert_eq!(stage.follower.looks.load(Ordering::SeqCst), 1);
}

/// A1
#[tokio::test]
async fn a_store_that_cannot_say_is_neither_a_refusal_nor_a_principal() {
    let stage = stage(None);

    let unknown = stage.gate.authenticate(stage.token.expose(), noon()).await;

    assert!(
        matches!(unknown, Err(AuthError::Unavailable(_))),
        "{unknown:?}"
    );
}

/// A2
#[tokio::test]
async fn what_is_no_token_of_a_key_is_refused_without_a_look() {
    let stage = stage(Some([2; 32]));
    let text = stage.token.expose();
    let expired = noon().plus(std::time::Duration::from_secs(24 * 60 * 60));

    for (text, now) in [("", noon()), ("a.b.c", noon()), (&text[1..], noon())] {
        assert!(stage.gate.authenticate(text, now).await.is_err());
    }
    assert_eq!(stage.follower.looks.load(Ordering::SeqCst), 0);
    stage.gate.authenticate(text, noon()).await.unwrap();
    let old = stage.gate.authenticate(text, expired).await;
    assert!(
        matches!(old, Err(AuthError::Refused(VerifyError::Expired))),
        "{old:?}"
    );
    assert_eq!(stage.follower.looks.load(Ordering::SeqCst), 1);
}
