//! The keys of a server that serves.
//!
//! Other processes may change the ring while the server runs: an operator rotates or rekeys it.
//! [`Keeper`] follows. It seals with the newest key there is, it opens with a key that appeared a
//! moment ago, and it sees to it that every secret moves to the newest key, whoever made it and
//! whether or not the server was killed in the middle of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arkeep_core::{Clock, SecretSlice, Timestamp};
use arkeep_vault::{
    Binding, Census, KeyId, KeyInfo, KeyState, OpenError, RingError, RingFile, SealError, Sealed,
    Sealer, Vault,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::http::metrics::Metrics;
use crate::reseal::{self, Progress, ResealError};
use crate::store::SealedValues;

/// Keeps the ring of a running server.
#[derive(Debug)]
pub struct Keeper {
    ring: Arc<RingFile>,
    vault: Vault,
    values: Arc<dyn SealedValues>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    due: Notify,
}

/// What a keeper stands on.
#[derive(Debug)]
pub struct KeeperParts {
    /// The keys.
    pub ring: Arc<RingFile>,
    /// What they sealed.
    pub values: Arc<dyn SealedValues>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    /// The key to which every secret was moved.
    moved_to: Option<KeyId>,
    walking: Option<Progress>,
    last: Option<Last>,
}

/// How the last walk over all secrets ended.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Last {
    /// When.
    pub ended_at: Timestamp,
    /// Where it had come.
    pub progress: Progress,
    /// Whether it came to its end.
    pub complete: bool,
}

/// What may be known of the ring and of the secrets that it opens.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// Every key, oldest first.
    pub keys: Vec<KeyInfo>,
    /// How many secrets each key is needed for.
    pub needed: Census,
    /// The kinds of keys that unwrap the ring: two while it is being rekeyed.
    pub guards: Vec<String>,
    /// How far the walk has come that is under way.
    pub resealing: Option<Progress>,
    /// How the last one ended.
    pub last: Option<Last>,
}

/// No new key was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The secrets cannot be counted.
    #[error(transparent)]
    Reseal(#[from] ResealError),

    /// Secrets were sealed with keys that the ring does not have. It is older than they are, and
    /// what a key of its own seals is lost when the newer one is put back.
    #[error(
        "the key ring misses the keys of {values} sealed values: put back the newest ring; \
         `vault status` shows which are missing, and `vault verify` names the values"
    )]
    KeysMissing {
        /// How many secrets it cannot open.
        values: u64,
    },

    /// The ring cannot be written.
    #[error(transparent)]
    Ring(#[from] RingError),

    /// The task was lost. Look whether there is a new key.
    #[error("the task was lost")]
    Lost(#[from] tokio::task::JoinError),
}

impl Keeper {
    /// Keeps this ring, and moves these secrets.
    #[must_use]
    pub fn new(parts: KeeperParts) -> Self {
        Self {
            vault: Vault::shared(Arc::clone(&parts.ring) as Arc<_>),
            ring: parts.ring,
            values: parts.values,
            clock: parts.clock,
            metrics: parts.metrics,
            state: Mutex::default(),
            due: Notify::new(),
        }
    }

    /// Makes a new key, which seals from now on; [`work`](Self::work) moves every secret to it.
    ///
    /// # Errors
    ///
    /// [`RotateError`]. The ring is then as it was, unless the task was lost.
    pub async fn rotate(self: &Arc<Self>) -> Result<KeyId, RotateError> {
        match reseal::missing(self.values.as_ref(), &self.ring).await? {
            0 => {}
            values => return Err(RotateError::KeysMissing { values }),
        }
        let keeper = Arc::clone(self);
        // Written to the disk, under a lock that another process may hold.
        let rotated = tokio::task::spawn_blocking(move || keeper.make_key()).await;
        Ok(rotated??)
    }

    fn make_key(&self) -> Result<KeyId, RingError> {
        let key = self.ring.rotate(self.clock.now().as_unix_millis())?;
        tracing::info!(%key, "a new key seals; every sealed value moves to it");
        self.due.notify_one();
        Ok(key)
    }

    /// Looks whether another process has changed the ring.
    pub fn follow(&self) {
        match self.ring.refresh() {
            Ok(_) if self.is_done() => {}
            Ok(_) => self.due.notify_one(),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "nothing is sealed until the key ring can be read");
            }
        }
    }

    /// Says how things stand.
    ///
    /// # Errors
    ///
    /// [`ResealError`] when the secrets cannot be counted.
    pub async fn status(&self) -> Result<Status, ResealError> {
        let needed = reseal::census(self.values.as_ref()).await?;
        let waiting = (!self.is_done()).then(Progress::default);
        let state = self.state();
        Ok(Status {
            keys: self.ring.keys(),
            needed,
            guards: self.ring.guards(),
            resealing: state.walking.or(waiting),
            last: state.last,
        })
    }

    /// Moves every secret to the newest key: at once, because the last walk may have been cut off;
    /// whenever the ring was rotated; and now and then, for whatever was sealed by somebody who had
    /// not noticed.
    pub async fn work(&self, stop: CancellationToken) {
        loop {
            // What is cut off between two rows is taken up at the next start.
            let complete = tokio::select! {
                () = stop.cancelled() => return,
                complete = self.walk() => complete,
            };
            let pause = if complete { EVERY } else { AGAIN };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.due.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn walk(&self) -> bool {
        // One that is made while the walk goes on asks for another walk.
        let (key, asked) = (self.ring.primary(), !self.is_done());
        let mut at = Progress::default();
        let walked = reseal::reseal(self.values.as_ref(), &self.ring, |progress| {
            for (result, more) in [
                ("ok", progress.resealed > at.resealed),
                ("failed", progress.unopened > at.unopened),
            ] {
                if more {
                    self.metrics.vault_operation("reseal", result);
                }
            }
            at = *progress;
            // A walk that has nothing to do is nothing to show.
            if asked || progress.resealed > 0 {
                self.state().walking = Some(*progress);
            }
        })
        .await;
        let complete = match walked {
            Ok(outcome) => {
                at = outcome.progress;
                for unopened in outcome.unopened {
                    tracing::error!(value = %unopened, "a sealed value does not open and was left as it is");
                }
                if at.resealed > 0 {
                    tracing::info!(
                        resealed = at.resealed,
                        "sealed values moved to the newest key"
                    );
                }
                true
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "sealed values wait to be moved to the newest key");
                false
            }
        };
        let mut state = self.state();
        state.walking = None;
        if complete {
            state.moved_to = Some(key);
        }
        state.last = Some(Last {
            ended_at: self.clock.now(),
            progress: at,
            complete,
        });
        complete
    }

    fn is_done(&self) -> bool {
        let primary = self.ring.primary();
        self.state().moved_to == Some(primary)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sealer for Keeper {
    fn seal(&self, secret: &SecretSlice<u8>, binding: &Binding) -> Result<Sealed, SealError> {
        // A look at the file's date. What is sealed with a key that was replaced would have to be
        // moved, and what is sealed with a key that is not in the file would be lost with this
        // process.
        self.ring
            .refresh()
            .map_err(|error| SealError::Key(error.into()))?;
        self.vault.seal(secret, binding)
    }

    fn open(&self, sealed: &Sealed, binding: &Binding) -> Result<SecretSlice<u8>, OpenError> {
        self.vault.open(sealed, binding)
    }
}

/// What a state is called, over HTTP and on the command line.
pub(crate) fn word(state: KeyState) -> &'static str {
    match state {
        KeyState::Primary => "primary",
        KeyState::Decrypt => "decrypt",
        KeyState::Disabled => "disabled",
        _ => "unknown",
    }
}

/// How long nobody looks when nothing was rotated.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How soon a walk that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);
