//! Staying connected.
//!
//! The agent dials its server, holds a [`Conversation`] for as long as the stream lasts, and dials
//! again after a pause that grows. It renews its certificate when two thirds of its life are over,
//! beside the stream, which goes on. A certificate that ran out while the machine slept is asked
//! for again until an administrator has approved; the agent waits for that and does not give up.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arkeep_core::{Clock, Entropy, Timestamp};
use arkeep_transport::client::{
    Backoff, ConnectError, Connector, LinkError, LinkReceiver, LinkSender, RenewError, Renewal,
};
use arkeep_transport::session::{AgentSaying, EngineStatus, Hello, ServerSaying};
use arkeep_transport::trust::{TrustBundle, TrustDigest};
use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::conversation::{Conversation, Ear, Ended, Mouth, TrustKeeper};
use crate::identity::IdentityDir;
use crate::outbox::Outbox;

/// What the agent says of itself and its machine, apart from what changes.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The machine's name.
    pub hostname: String,
    /// The operating system, as people call it.
    pub os: String,
    /// The owner's hook policy: `off`, `allow-list`, `signed` or `any`.
    pub hook_policy: String,
    /// What confines a hook on this machine.
    pub sandbox: String,
}

/// The agent's side of being connected.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Dials.
    pub connector: Arc<Connector>,
    /// Keeps what is renewed.
    pub identity: IdentityDir,
    /// Hears that the server wants a renewal; the same that [`KeptTrust`] has.
    pub renewals: Arc<Renewals>,
    /// Speaks and listens.
    pub conversation: Conversation,
    /// How the agent introduces itself.
    pub facts: Facts,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Spreads agents over time.
    pub entropy: Arc<dyn Entropy>,
    /// How often to look at the clock for a certificate that is due: a machine that slept does not
    /// sleep on by the old count. A minute is fine.
    pub look_every: Duration,
}

impl Attachment {
    /// Connects, and connects again, and renews; never ends by itself.
    pub async fn stay(&self) {
        tokio::join!(self.keep_connected(), self.keep_renewed());
    }

    async fn keep_connected(&self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            match self.connect_once().await {
                Err(ConnectError::CertificateExpired) => self.renew_late().await,
                Err(error) => {
                    let refused = matches!(
                        error,
                        ConnectError::Link(LinkError::Refused)
                            | ConnectError::Dial(
                                arkeep_transport::client::DialError::CertificateRefused
                            )
                    );
                    tracing::warn!(error = chain(&error), "not connected to the server");
                    if refused {
                        // By the server's clock the certificate may be over; it will say so.
                        self.renew_late().await;
                    }
                }
                Ok(ended) => tracing::warn!(why = %ended, "the session has ended"),
            }
            backoff.was_up_for(began.elapsed());
            tokio::time::sleep(backoff.next(&*self.entropy)).await;
        }
    }

    /// One session, from its greeting to its end.
    async fn connect_once(&self) -> Result<Ended, ConnectError> {
        let link = self.connector.connect(&self.hello().await).await?;
        let welcome = *link.welcome();
        let (now, server) = (self.clock.now(), welcome.server_time);
        tracing::info!(generation = %welcome.generation, "connected to the server");
        let off = now.since(server).max(server.since(now));
        if off > CLOCK_TOLERANCE {
            tracing::warn!(
                seconds = off.as_secs(),
                "this machine's clock and the server's differ; set the one that is wrong"
            );
        }
        let (mut sender, mut receiver) = link.split();
        tokio::select! {
            held = self.conversation.hold(&mut sender, &mut receiver) => {
                Ok(held.err().unwrap_or_else(|| Ended(String::new())))
            }
            // Only a session with the new certificate tells the server that it has arrived.
            () = self.renewals.done.notified() => {
                Ok(Ended("the certificate was renewed because the server asked".to_owned()))
            }
        }
    }

    async fn hello(&self) -> Hello {
        let engine = match self.conversation.engine.probe().await {
            Ok(info) => EngineStatus::Found(info),
            Err(error) => {
                tracing::warn!(%error, "restic cannot be used");
                EngineStatus::Unusable(error.to_string())
            }
        };
        let outbox = Arc::clone(&self.conversation.outbox);
        let held = tokio::task::spawn_blocking(move || Outbox::held(&outbox)).await;
        let mut held = held.unwrap_or_default();
        // The server assigns those of them again that it wants; the others it cancels when it
        // finds them in a heartbeat.
        let kept_back = self.conversation.executor.kept_back();
        held.retain(|held| !kept_back.contains(&held.job));
        Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.facts.hostname.clone(),
            os: self.facts.os.clone(),
            arch: std::env::consts::ARCH.to_owned(),
            engine,
            hook_policy: self.facts.hook_policy.clone(),
            sandbox: self.facts.sandbox.clone(),
            // The agent does not speak to Docker.
            docker: false,
            held,
            trust: self.connector.trust().digest(),
        }
    }

    async fn keep_renewed(&self) {
        let mut backoff = Backoff::default();
        loop {
            let due = self.connector.credential().renew_at(&*self.entropy);
            let asked = tokio::select! {
                () = self.until(due) => false,
                () = self.renewals.asked.notified() => true,
            };
            match self.renew().await {
                Ok(()) => {
                    backoff = Backoff::default();
                    if asked {
                        self.renewals.done.notify_waiters();
                    }
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the certificate was not renewed");
                    tokio::time::sleep(backoff.next(&*self.entropy)).await;
                    if asked {
                        self.renewals.asked.notify_one();
                    }
                }
            }
        }
    }

    async fn until(&self, due: Timestamp) {
        while self.clock.now() < due {
            let left = due.since(self.clock.now());
            tokio::time::sleep(left.min(self.look_every)).await;
        }
    }

    async fn renew_late(&self) {
        match self.renew().await {
            Ok(()) => {}
            Err(RenewError::AwaitingApproval) => {
                tracing::warn!("{}", RenewError::AwaitingApproval);
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "the certificate was not renewed");
            }
        }
    }

    async fn renew(&self) -> Result<(), RenewError> {
        tokio::time::sleep_until(self.renewals.not_before()).await;
        let renewal = self.connector.renew().await;
        if let Err(RenewError::TooOften(wait)) = renewal {
            self.renewals.hold_off(wait);
        }
        let renewal = renewal?;
        let until = renewal.credential.not_after();
        let this = self.clone();
        let kept = tokio::task::spawn_blocking(move || this.keep(renewal)).await;
        kept.map_err(|error| RenewError::Lost(Box::new(error)))??;
        tracing::info!(%until, "the certificate was renewed");
        Ok(())
    }

    fn keep(&self, renewal: Renewal) -> Result<(), RenewError> {
        let _one_at_a_time = self.renewals.keeping();
        // No root goes before the stream says so: the server counts on what the agent has said
        // there that it trusts, and the answer may be older, or of a replica that lags.
        let known = self.connector.trust();
        let both = known.roots().chain(renewal.trust.roots());
        let trust = TrustBundle::new(both.map(<[u8]>::to_vec)).unwrap_or(renewal.trust);
        self.identity
            .renew(&renewal.credential, &trust)
            .map_err(|error| RenewError::Lost(Box::new(error)))?;
        Ok(self.connector.replace(renewal.credential, trust)?)
    }
}

/// What the server wants of the agent's certificate, on its way from the stream to whoever renews.
#[derive(Debug, Default)]
pub struct Renewals {
    asked: Notify,
    done: Notify,
    keeping: Mutex<()>,
    not_before: Mutex<Option<Instant>>,
}

impl Renewals {
    /// Held while credential or roots change, so that neither puts an old one of the other back.
    fn keeping(&self) -> std::sync::MutexGuard<'_, ()> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server said that it is asked too often.
    fn hold_off(&self, wait: Duration) {
        let until = Instant::now() + wait.min(LONGEST_WAIT);
        let not_before = self.not_before.lock();
        *not_before.unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn not_before(&self) -> Instant {
        let not_before = self.not_before.lock();
        let not_before = *not_before.unwrap_or_else(PoisonError::into_inner);
        not_before.unwrap_or_else(Instant::now)
    }
}

/// Keeps the roots on the disk and in the connector.
pub struct KeptTrust {
    /// Uses them.
    pub connector: Arc<Connector>,
    /// Keeps them.
    pub identity: IdentityDir,
    /// Passes on what the server wants.
    pub renewals: Arc<Renewals>,
}

impl fmt::Debug for KeptTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptTrust").finish_non_exhaustive()
    }
}

impl TrustKeeper for KeptTrust {
    fn digest(&self) -> TrustDigest {
        self.connector.trust().digest()
    }

    fn replace(&self, bundle: &TrustBundle) -> std::io::Result<()> {
        let _one_at_a_time = self.renewals.keeping();
        self.identity.trust(bundle).map_err(std::io::Error::other)?;
        self.connector
            .replace(self.connector.credential(), bundle.clone())
            .map_err(std::io::Error::other)
    }

    fn renew_soon(&self) {
        self.renewals.asked.notify_one();
    }
}

#[async_trait]
impl Mouth for LinkSender {
    async fn say(&mut self, saying: AgentSaying) -> Result<(), Ended> {
        self.send(&saying)
            .await
            .map_err(|error| Ended(chain(&error)))
    }
}

#[async_trait]
impl Ear for LinkReceiver {
    async fn hear(&mut self) -> Result<ServerSaying, Ended> {
        self.next().await.map_err(|error| Ended(chain(&error)))
    }
}

/// An error with all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // A transparent error says the same as its cause.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The longest that a server may put a renewal off. Certificates live for days.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
