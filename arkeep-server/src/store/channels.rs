//! Whom to tell of what.
//!
//! A channel is an address, and the events that are told to it. What can be told is [`EVENTS`]: a
//! channel that asked for anything else would wait for it in vain.

use std::fmt;
use std::str::FromStr;

use arkeep_core::{ChannelId, StoreError, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Listed, Page, SecretChange, WriteError};

/// Everything that a channel can be told of. `security.*` stands for all that begin with it.
pub const EVENTS: &[&str] = &[
    "job.succeeded",
    "job.partial",
    "job.failed",
    "job.missed",
    "policy.overdue",
    "agent.offline",
    "agent.online",
    "security.token_reuse",
    "security.*",
];

/// Keeps channels.
#[async_trait]
pub trait ChannelStore: fmt::Debug + Send + Sync {
    /// Adds a channel. Names are unique without regard to case of ASCII letters.
    async fn create_channel(&self, new: &NewChannel) -> Result<Channel, WriteError>;

    /// The channel of this id.
    async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, StoreError>;

    /// Channels, newest first.
    async fn channels(&self, page: &Page) -> Result<Listed<Channel>, StoreError>;

    /// Changes a channel that is still of the version that the edit was made from. What waits for
    /// it is sent again at once, however often it failed before.
    async fn update_channel(&self, edit: &ChannelEdit) -> Result<Channel, WriteError>;

    /// Removes a channel, with all that waits for it.
    async fn delete_channel(&self, id: ChannelId, version: Option<u64>) -> Result<(), WriteError>;
}

/// A channel to be.
#[derive(Debug, Clone)]
pub struct NewChannel {
    /// Its id, to which the secret is sealed.
    pub id: ChannelId,
    /// What people call it.
    pub name: String,
    /// Where it leads.
    pub config: ChannelConfig,
    /// Sealed for [`sealed::channel_secret`](super::sealed::channel_secret).
    pub secret: Option<Vec<u8>>,
    /// Some of [`EVENTS`].
    pub events: Vec<String>,
    /// Whether it is told of anything.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Grows by one with each change.
    pub version: u64,
    /// What people call it.
    pub name: String,
    /// Where it leads.
    pub config: ChannelConfig,
    /// What opens it or proves that we are we, sealed.
    pub secret: Option<Vec<u8>>,
    /// What it is told of.
    pub events: Vec<String>,
    /// Whether it is told of anything.
    pub enabled: bool,
}

/// What a channel is to become. Its kind stays.
#[derive(Debug, Clone)]
pub struct ChannelEdit {
    /// Which one.
    pub id: ChannelId,
    /// The version that was read.
    pub version: u64,
    /// Its name from now on.
    pub name: String,
    /// Where it leads from now on.
    pub config: ChannelConfig,
    /// What becomes of the secret.
    pub secret: SecretChange,
    /// What it is told of from now on.
    pub events: Vec<String>,
    /// Whether it is told of anything from now on.
    pub enabled: bool,
    /// When it changes.
    pub at: Timestamp,
}

/// What kinds of channel there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ChannelKind {
    /// JSON over HTTP, signed with the secret.
    Webhook,
    /// A topic of an ntfy server; the secret is an access token.
    Ntfy,
    /// A check at Healthchecks; the secret is the last part of its address.
    Healthchecks,
    /// Mail, through a server that takes it in; the secret is the password there.
    Email,
}

impl ChannelKind {
    /// As the contract and the database write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Ntfy => "ntfy",
            Self::Healthchecks => "healthchecks",
            Self::Email => "email",
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not a kind of channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of channel")]
pub struct UnknownChannelKind;

impl FromStr for ChannelKind {
    type Err = UnknownChannelKind;

    fn from_str(text: &str) -> Result<Self, UnknownChannelKind> {
        [Self::Webhook, Self::Ntfy, Self::Healthchecks, Self::Email]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownChannelKind)
    }
}

/// Where a channel leads, as its kind needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ChannelConfig {
    /// A program of the operator's.
    Webhook(WebhookConfig),
    /// Telephones.
    Ntfy(NtfyConfig),
    /// A watchman for what should happen and does not.
    Healthchecks(HealthchecksConfig),
    /// People.
    Email(EmailConfig),
}

/// See [`ChannelKind::Webhook`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// What is called.
    pub url: String,
}

/// See [`ChannelKind::Ntfy`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NtfyConfig {
    /// The server, without the topic.
    pub url: String,
    /// The topic.
    pub topic: String,
}

/// See [`ChannelKind::Healthchecks`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthchecksConfig {
    /// The check's address, or what stands in it before the secret.
    pub url: String,
}

/// See [`ChannelKind::Email`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// The server that takes the mail in.
    pub host: String,
    /// Its port.
    #[serde(default = "submission")]
    pub port: u16,
    /// How it is spoken with.
    #[serde(default)]
    pub tls: MailTls,
    /// Who logs in there, if anybody must.
    #[serde(default)]
    pub username: Option<String>,
    /// Whom the mail is from.
    pub from: String,
    /// Whom it is for.
    pub to: Vec<String>,
}

const fn submission() -> u16 {
    587
}

/// How a mail server is spoken with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// It is asked for TLS before anything is said.
    #[default]
    Starttls,
    /// It speaks TLS from the start.
    Implicit,
    /// In the clear, to this machine alone.
    None,
}

impl ChannelConfig {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ChannelKind {
        match self {
            Self::Webhook(_) => ChannelKind::Webhook,
            Self::Ntfy(_) => ChannelKind::Ntfy,
            Self::Healthchecks(_) => ChannelKind::Healthchecks,
            Self::Email(_) => ChannelKind::Email,
        }
    }

    /// Whether whoever answers at its address is shown the secret.
    #[must_use]
    pub const fn sends_secret(&self) -> bool {
        !matches!(self, Self::Webhook(_))
    }

    /// Reads what a channel of this kind needs.
    ///
    /// # Errors
    ///
    /// When a member is missing, unknown, or of another type.
    pub fn read(kind: ChannelKind, value: serde_json::Value) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            ChannelKind::Webhook => Self::Webhook(serde_json::from_value(value)?),
            ChannelKind::Ntfy => Self::Ntfy(serde_json::from_value(value)?),
            ChannelKind::Healthchecks => Self::Healthchecks(serde_json::from_value(value)?),
            ChannelKind::Email => Self::Email(serde_json::from_value(value)?),
        })
    }
}
