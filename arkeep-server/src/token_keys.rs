//! The keys that sign access tokens, and how each is followed by the next.
//!
//! | moment                                     | what happens                                    |
//! |--------------------------------------------|-------------------------------------------------|
//! | an [overlap](KeyLife::overlap) before the end of its life | the next key is made, sealed, stored with the moment at which it will sign, and published |
//! | that moment                                | each replica signs with it, by its own clock    |
//! | when the last token of the old one expired | the old one is no longer honoured or published  |
//! | a minute later                             | it is removed                                   |
//!
//! The first and the last are one conditional statement each; the two between them write nothing. So
//! there is no step that a crash could leave half done, and of many replicas that see that the time
//! has come one makes a key. All read what there is every few seconds, hours before it signs, and once
//! more when they are shown a token of a key that they do not know.

use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::token::{KeyFollower, KeyLife, KeySet, TokenConfig, VerificationKey};
use arkeep_auth::{AccessTokens, SigningKey};
use arkeep_core::{Clock, Entropy, StoreError, Timestamp};
use arkeep_vault::{Sealed, Sealer};
use async_trait::async_trait;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::keys::KeysError;
use crate::failpoint;
use crate::store::keys::StoredTokenKey;
use crate::store::{KeyStore, sealed};

/// Keeps an [`AccessTokens`] on the keys that are stored, and has each followed in time.
#[derive(Debug)]
pub struct TokenKeys {
    parts: TokenKeysParts,
    tokens: Arc<AccessTokens>,
    outlived_by: Duration,
    seen: Mutex<Seen>,
}

/// What a [`TokenKeys`] stands on.
#[derive(Debug, Clone)]
pub struct TokenKeysParts {
    /// Keeps them.
    pub keys: Arc<dyn KeyStore>,
    /// Seals them.
    pub sealer: Arc<dyn Sealer>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes them.
    pub entropy: Arc<dyn Entropy>,
    /// How long each signs.
    pub life: KeyLife,
}

/// What was stored when this process last looked.
#[derive(Debug)]
struct Seen {
    keys: Vec<StoredTokenKey>,
    /// When it last looked, and whether it was answered.
    at: Instant,
    answered: bool,
}

impl TokenKeys {
    /// Takes up what is stored. The first server of all makes the first key.
    ///
    /// # Errors
    ///
    /// [`KeysError`]
    pub async fn open(parts: TokenKeysParts, config: TokenConfig) -> Result<Self, KeysError> {
        let mut keys = parts.keys.token_keys().await?;
        if !keys.iter().any(|key| key.retired_at.is_none()) {
            let first = parts.make()?;
            // Another replica may be first; its key is everybody's then.
            parts.keys.establish_token_key(&first).await?;
            keys = parts.keys.token_keys().await?;
        }
        let outlived_by = config.outlived_by();
        let set = parts.set(&keys, outlived_by)?;
        let tokens = AccessTokens::new(config, set, Arc::clone(&parts.entropy));
        Ok(Self {
            parts,
            tokens: Arc::new(tokens),
            outlived_by,
            seen: Mutex::new(Seen {
                keys,
                at: Instant::now(),
                answered: true,
            }),
        })
    }

    /// What issues and verifies with them.
    #[must_use]
    pub fn tokens(&self) -> Arc<AccessTokens> {
        Arc::clone(&self.tokens)
    }

    /// Looks what is stored, makes the next key when that is due, and removes what nobody needs.
    ///
    /// # Errors
    ///
    /// [`KeysError`]. Whatever was done before it stays done.
    pub async fn proceed(&self) -> Result<(), KeysError> {
        let mut seen = self.seen.lock().await;
        self.look(&mut seen).await?;
        let now = self.parts.clock.now();
        let last = seen.keys.iter().find(|key| key.retired_at.is_none());
        if let Some(last) = last.filter(|last| self.parts.life.is_due(last.created_at, now)) {
            let (next, from) = (self.parts.make()?, now.plus(self.parts.life.overlap()));
            failpoint::hit("token-keys.decided");
            let keys = &self.parts.keys;
            let won = keys.follow_token_key(&last.id, &next, from).await?;
            failpoint::hit("token-keys.stored");
            if won {
                tracing::info!(kid = %next.id, %from, "a new key was published and will sign access tokens");
            }
            self.look(&mut seen).await?;
        }
        let needless = now.minus(self.outlived_by.saturating_add(REMOVED_AFTER));
        if seen.keys.iter().any(|key| is_retired(key, needless)) {
            self.parts.keys.remove_token_keys(needless).await?;
            failpoint::hit("token-keys.removed");
            self.look(&mut seen).await?;
        }
        Ok(())
    }

    /// Proceeds every few seconds until `stop`.
    pub async fn work(&self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.proceed().await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the keys of access tokens cannot be looked at");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn look(&self, seen: &mut MutexGuard<'_, Seen>) -> Result<(), KeysError> {
        // Also when the caller hangs up, or nothing comes of it.
        (seen.at, seen.answered) = (Instant::now(), false);
        let keys = self.parts.keys.token_keys().await?;
        // A key that was sealed again is the same key.
        let name = |key: &StoredTokenKey| (key.id.clone(), key.retired_at);
        if !keys.iter().map(name).eq(seen.keys.iter().map(name)) {
            let set = self.parts.set(&keys, self.outlived_by)?;
            self.tokens.replace_keys(set);
            tracing::info!(count = keys.len(), "the keys of access tokens have changed");
        }
        seen.keys = keys;
        (seen.at, seen.answered) = (Instant::now(), true);
        Ok(())
    }
}

#[async_trait]
impl KeyFollower for TokenKeys {
    async fn look_again(&self) -> Result<(), StoreError> {
        let mut seen = self.seen.lock().await;
        if seen.at.elapsed() < AT_MOST_EVERY {
            // A key is stored long before it signs, so that what was read then holds every one.
            return match seen.answered {
                true => Ok(()),
                false => Err(StoreError::unavailable(
                    "the keys could not be read just now",
                )),
            };
        }
        match self.look(&mut seen).await {
            Ok(()) => Ok(()),
            Err(KeysError::Store(error)) => Err(error),
            Err(other) => Err(StoreError::unavailable(other)),
        }
    }
}

impl TokenKeysParts {
    fn make(&self) -> Result<StoredTokenKey, KeysError> {
        let new = SigningKey::generate(self.entropy.as_ref());
        let public = new.verification_key();
        let id = public.kid().to_owned();
        let binding = sealed::token_key_private_key(&id);
        Ok(StoredTokenKey {
            public_key: public.as_bytes().to_vec(),
            private_key: self.sealer.seal(&new.to_secret(), &binding)?.into_bytes(),
            id,
            created_at: self.clock.now(),
            retired_at: None,
        })
    }

    /// The keys as they are used: those that signed, those that sign until their moment, the last.
    fn set(&self, stored: &[StoredTokenKey], outlived_by: Duration) -> Result<KeySet, KeysError> {
        let now = self.clock.now();
        let (old, mut signing): (Vec<_>, Vec<_>) =
            stored.iter().partition(|key| is_retired(key, now));
        // The last one, which nothing retires, comes last.
        signing.sort_by_key(|key| (key.retired_at.is_none(), key.retired_at, key.created_at));
        let mut set: Option<(KeySet, Option<Timestamp>)> = None;
        for key in signing {
            let binding = sealed::token_key_private_key(&key.id);
            let seed = self
                .sealer
                .open(&Sealed::parse(&key.private_key)?, &binding)?;
            let signing = SigningKey::from_secret(&seed)?;
            set = Some(match set {
                Some((set, Some(from))) => {
                    let until = from.plus(outlived_by);
                    (set.followed_by(signing, from, until), key.retired_at)
                }
                _ => (KeySet::new(signing), key.retired_at),
            });
        }
        let Some((mut set, None)) = set else {
            return Err(StoreError::Corrupt("no token key is in force".to_owned()).into());
        };
        for key in old {
            let public = VerificationKey::from_bytes(&key.public_key)?;
            let until = key.retired_at.unwrap_or(now).plus(outlived_by);
            set = set.honour(public.until(until));
        }
        Ok(set)
    }
}

fn is_retired(key: &StoredTokenKey, now: Timestamp) -> bool {
    key.retired_at.is_some_and(|at| at <= now)
}

/// How often to look what is stored.
const EVERY: Duration = Duration::from_secs(5);

/// How often strangers can make this process look.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// How long a key that is no longer honoured stays, for replicas whose clocks are behind.
const REMOVED_AFTER: Duration = Duration::from_secs(60);
