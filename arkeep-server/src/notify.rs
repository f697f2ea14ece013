//! Telling people and programs what happened.
//!
//! What happened is in the database before anybody is told of it: each event was written with the
//! change that it tells of, and with it a delivery for each channel that asked for it
//! (`store::deliveries`). A [`Messenger`] takes the oldest delivery of each channel, sends it, and
//! notes how that went.
//!
//! | promise                          | how it is kept                                              |
//! |----------------------------------|-------------------------------------------------------------|
//! | at least once, through a crash   | a delivery waits until somebody has taken it, or given up  |
//! | in order for each channel        | the oldest first, and nothing before it has ended           |
//! | a dead channel harms no other    | each is sent to by itself, and rests longer and longer      |
//! | one sender for each channel      | a turn, which runs out if its holder dies                   |
//!
//! A receiver can see a delivery twice, with the same `id`: it took it, and the answer was lost.
//!
//! Addresses come from administrators, and are called by this process: through the client that identity
//! providers are called with, which follows nothing and does not reach its own machine.

mod mail;
mod message;
pub mod signature;
mod smtp;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{Clock, SecretString, StoreError, Timestamp};
use arkeep_vault::{Sealed, Sealer};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::failpoint;
use crate::http::metrics::Metrics;
use crate::store::channels::{Channel, ChannelConfig};
use crate::store::deliveries::{Claimed, DeliveryStore, Outcome, Settlement};
use crate::store::sealed;

pub use message::Message;
pub use smtp::MailError;
pub use wire::{SendError, Wires};

/// What a [`Messenger`] stands on.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named for what it is")]
pub struct MessengerParts {
    pub deliveries: Arc<dyn DeliveryStore>,
    pub sealer: Arc<dyn Sealer>,
    pub wires: Wires,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

/// Sends what waits. Clones share everything.
#[derive(Debug, Clone)]
pub struct Messenger(Arc<MessengerParts>);

impl Messenger {
    /// Stands on these.
    #[must_use]
    pub fn new(parts: MessengerParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Sends whatever is due now, to all channels at once, until nothing is. Returns how many attempts
    /// that took.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store does not answer. What was sent may be sent again.
    pub async fn round(&self) -> Result<usize, StoreError> {
        let (mut under_way, mut attempts) = (JoinSet::new(), 0);
        loop {
            while under_way.len() < AT_ONCE {
                let Some(claimed) = self.claim().await? else {
                    break;
                };
                let own = self.clone();
                under_way.spawn(async move { own.attempt(claimed).await });
            }
            match under_way.join_next().await {
                None => return Ok(attempts),
                Some(Ok(settled)) => settled?,
                Some(Err(error)) => tracing::error!(%error, "an attempt to send was cut off"),
            }
            attempts += 1;
        }
    }

    /// Goes on sending until `stop`. What is under way then is waited for.
    pub async fn work(&self, stop: CancellationToken) {
        if let Err(error) = self.0.deliveries.forget_turns().await {
            tracing::warn!(%error, "channels that were sent to at the last end rest for a minute");
        }
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // A channel has something left more often than not.
                Some(_) = under_way.join_next() => {}
                _ = ticks.tick() => {}
            }
            while under_way.len() < AT_ONCE {
                match self.claim().await {
                    Ok(None) => break,
                    Ok(Some(claimed)) => {
                        let own = self.clone();
                        under_way.spawn(async move {
                            if let Err(error) = own.attempt(claimed).await {
                                tracing::warn!(%error, "it is not known how a delivery went; it is made again");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "deliveries cannot be read");
                        break;
                    }
                }
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Sends a message to a channel now, whatever waits for it.
    ///
    /// # Errors
    ///
    /// [`SendError`]: it did not take it.
    pub async fn try_out(&self, channel: &Channel, message: &Message) -> Result<(), SendError> {
        let secret = self.secret(channel)?;
        let now = self.0.clock.now();
        let config = &channel.config;
        self.0
            .wires
            .send(config, secret.as_ref(), message, now)
            .await
    }

    async fn claim(&self) -> Result<Option<Claimed>, StoreError> {
        let now = self.0.clock.now();
        let claimed = self.0.deliveries.claim_delivery(now, now.plus(TURN));
        claimed.await
    }

    async fn attempt(&self, claimed: Claimed) -> Result<(), StoreError> {
        failpoint::hit("notify.claimed");
        let message = Message::of(claimed.id, claimed.event);
        let sent = self.try_out(&claimed.channel, &message).await;
        failpoint::hit("notify.sent");
        let now = self.0.clock.now();
        let kind = claimed.channel.config.kind().as_str();
        let outcome = match sent {
            Ok(()) => Outcome::Delivered,
            Err(error) => {
                let channel = claimed.channel.id;
                tracing::warn!(%channel, delivery = %claimed.id, %error, "a channel does not take a delivery");
                Outcome::Failed {
                    reason: error.to_string(),
                    retry_at: now.plus(pause(claimed.failures)),
                }
            }
        };
        let result = match outcome {
            Outcome::Delivered => "delivered",
            Outcome::Failed { .. } => "failed",
        };
        self.0.metrics.delivery(kind, result, 1);
        let done = Settlement {
            channel: claimed.channel.id,
            turn: claimed.turn,
            seq: claimed.seq,
            outcome,
            now,
        };
        match self.0.deliveries.settle_delivery(&done).await? {
            Some(settled) if settled.given_up > 0 => {
                let count = settled.given_up;
                tracing::error!(channel = %done.channel, count, "deliveries are given up");
                self.0.metrics.delivery(kind, "given_up", count);
            }
            _ => {}
        }
        Ok(())
    }

    fn secret(&self, channel: &Channel) -> Result<Option<SecretString>, SendError> {
        let Some(blob) = &channel.secret else {
            return Ok(None);
        };
        let sealed = Sealed::parse(blob).map_err(|error| SendError::Secret(Box::new(error)))?;
        let binding = sealed::channel_secret(channel.id);
        let opened = self.0.sealer.open_str(&sealed, &binding);
        opened
            .map(Some)
            .map_err(|error| SendError::Secret(Box::new(error)))
    }
}

impl ChannelConfig {
    /// A message that only shows that the channel works.
    pub(crate) fn greeting(&self, id: arkeep_core::DeliveryId, now: Timestamp) -> Message {
        Message {
            kind: "test".to_owned(),
            id,
            title: "Arkeep can reach you here".to_owned(),
            text: format!("This is a test of a {} channel.", self.kind()),
            occurred_at: now,
            data: serde_json::json!({}),
        }
    }
}

/// How long a channel rests after a failure: a second, doubled with each further one, an hour at most.
fn pause(failures_before: u32) -> Duration {
    let doubled = 1_u64.checked_shl(failures_before).unwrap_or(u64::MAX);
    Duration::from_secs(doubled).min(LONGEST_PAUSE)
}

/// How often it is looked whether something waits.
const PACE: Duration = Duration::from_millis(500);
/// How long whoever has a turn may take: much longer than an attempt.
const TURN: Duration = Duration::from_secs(60);
/// How many channels are sent to at the same time, so that many dead ones take no descriptors from
/// those who ask this server for something.
const AT_ONCE: usize = 64;
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    /// S13
    #[test]
    fn pauses_grow_to_an_hour_and_no_further() {
        let pauses: Vec<_> = [0, 1, 2, 3, 11, 12, 63, 64, u32::MAX].map(pause).to_vec();

        let seconds: Vec<_> = pauses.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 2_048, 3_600, 3_600, 3_600, 3_600]);
    }
}
