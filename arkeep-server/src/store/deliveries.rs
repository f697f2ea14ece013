//! What happened, on its way to whoever wants to know.
//!
//! An event is written by the transaction that makes it happen, and with it one delivery for each
//! channel that asked for it: the tables do that themselves, so that neither can be without the
//! other. A delivery waits here until it is sent, or given up. Nothing is sent from here; whoever
//! sends takes the turn of a channel, and says afterwards how it went.

use std::fmt;
use std::time::Duration;

use arkeep_auth::SessionId;
use arkeep_core::{ChannelId, DeliveryId, StoreError, Timestamp, UserId};
use async_trait::async_trait;

use super::channels::Channel;
use super::{Listed, Page};

/// Keeps deliveries.
///
/// # Security
///
/// At least once, and in order: a delivery that was not settled as delivered must be claimed again,
/// and none that was written later before it, for the same channel. Of several senders one at a time
/// has the turn of a channel; one whose turn has run out settles nothing.
#[async_trait]
pub trait DeliveryStore: fmt::Debug + Send + Sync {
    /// Takes the turn of a channel for which something waits and which may be tried now, and gives the
    /// oldest that waits. The turn runs out at `until`, [`LONGEST_REST`] from now at the latest.
    /// Channels that took the last one come first, then those that have rested longest.
    async fn claim_delivery(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Claimed>, StoreError>;

    /// Notes how it went, and gives the turn back. None when the turn had run out: nothing was
    /// written then.
    async fn settle_delivery(&self, done: &Settlement) -> Result<Option<Settled>, StoreError>;

    /// Gives back the turns that a process had which is no more, where there can be no other one. Every
    /// channel may then be tried at once, and begins to fail anew: nobody tried it meanwhile.
    async fn forget_turns(&self) -> Result<(), StoreError>;

    /// Deliveries that match, newest first.
    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Listed<Delivery>, StoreError>;

    /// Forgets deliveries that ended, and events that happened, up to `before`. Returns how many
    /// deliveries those were.
    async fn prune_deliveries(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// A channel's turn, and what to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Where to.
    pub channel: Channel,
    /// Which turn it is.
    pub turn: u64,
    /// How often the channel failed in a row.
    pub failures: u32,
    /// Its place in the order of all.
    pub seq: u64,
    /// The delivery.
    pub id: DeliveryId,
    /// What happened.
    pub event: Event,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One of [`EVENTS`](super::channels::EVENTS).
    pub kind: String,
    /// When.
    pub occurred_at: Timestamp,
    /// What a program wants to know of it: an object.
    pub data: serde_json::Value,
}

impl Event {
    /// Somebody showed a refresh token that was spent.
    #[must_use]
    pub fn token_reuse(at: Timestamp, of: &TokenReuse) -> Self {
        Self {
            kind: "security.token_reuse".to_owned(),
            occurred_at: at,
            data: serde_json::json!({
                "user_id": of.user_id,
                "email": of.email,
                "session_id": of.session_id,
                "address": of.address,
                "user_agent": of.user_agent,
            }),
        }
    }
}

/// Whose token was shown a second time. Address and program are those of whoever used the session
/// last before that.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named for what it is")]
pub struct TokenReuse {
    pub user_id: UserId,
    pub email: String,
    pub session_id: SessionId,
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// How sending went.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Where to.
    pub channel: ChannelId,
    /// The turn that was claimed.
    pub turn: u64,
    /// What was sent.
    pub seq: u64,
    /// How it went.
    pub outcome: Outcome,
    /// When.
    pub now: Timestamp,
}

/// How one attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took it.
    Delivered,
    /// It did not.
    Failed {
        /// Why, in words for the administrator.
        reason: String,
        /// When to try the channel again.
        retry_at: Timestamp,
    },
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// How many deliveries are not tried any more, with this one.
    pub given_up: u64,
}

/// The longest that a channel may rest. A rest or a turn that ends later than that was noted while the
/// clock was ahead, and counts as ended.
pub const LONGEST_REST: Duration = Duration::from_secs(2 * 60 * 60);

/// How long a channel is tried in vain before what has waited as long is given up.
pub const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Which deliveries are wanted. An absent field matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// To this channel.
    pub channel: Option<ChannelId>,
    /// In this state.
    pub state: Option<DeliveryState>,
}

/// A delivery, and how it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its place in the order of all.
    pub seq: u64,
    /// Its id.
    pub id: DeliveryId,
    /// Where to.
    pub channel: ChannelId,
    /// What happened.
    pub event: Event,
    /// How it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was last tried.
    pub tried_at: Option<Timestamp>,
    /// When the channel is tried again, while it waits and has failed.
    pub retry_at: Option<Timestamp>,
    /// When it was delivered or given up.
    pub ended_at: Option<Timestamp>,
}

impl Delivery {
    /// Its place as an id, for a [`Cursor`](super::Cursor).
    #[must_use]
    pub fn as_id(&self) -> uuid::Uuid {
        uuid::Uuid::from_u128(self.seq.into())
    }
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryState {
    /// It will be tried.
    Pending,
    /// The receiver took it.
    Delivered,
    /// It will not be tried any more.
    GivenUp,
}

impl DeliveryState {
    /// As the contract and the database write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }
}

/// Not a state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be pending, delivered or given_up")]
pub struct UnknownDeliveryState;

impl std::str::FromStr for DeliveryState {
    type Err = UnknownDeliveryState;

    fn from_str(text: &str) -> Result<Self, UnknownDeliveryState> {
        [Self::Pending, Self::Delivered, Self::GivenUp]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(UnknownDeliveryState)
    }
}
