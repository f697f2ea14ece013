//! Who is told of what happens.

use std::net::IpAddr;

use arkeep_auth::oidc::GuardedClient;
use arkeep_core::{ChannelId, DeliveryId, ExposeSecret, SecretString};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::audit;
use super::super::body::{Json, MergePatch, NoBody};
use super::super::checks::{Checks, is_plain};
use super::super::params::{Id, Params};
use super::super::patch::{self, IfMatch, Tagged};
use super::super::problem::Problem;
use super::super::services::Api;
use super::{PageBody, created, page};
use crate::store::channels::{
    Channel, ChannelConfig, ChannelEdit, ChannelKind, EVENTS, EmailConfig, MailTls, NewChannel,
};
use crate::store::{SecretChange, sealed};

#[derive(Serialize)]
pub(super) struct ChannelBody {
    id: ChannelId,
    version: u64,
    secret_set: bool,
    #[serde(flatten)]
    written: Writable,
}

impl From<Channel> for ChannelBody {
    fn from(channel: Channel) -> Self {
        Self {
            id: channel.id,
            version: channel.version,
            secret_set: channel.secret.is_some(),
            written: channel.into(),
        }
    }
}

/// What of a channel can be written and read.
#[derive(Serialize)]
struct Writable {
    name: String,
    kind: &'static str,
    config: ChannelConfig,
    events: Vec<String>,
    enabled: bool,
}

impl From<Channel> for Writable {
    fn from(channel: Channel) -> Self {
        Self {
            name: channel.name,
            kind: channel.config.kind().as_str(),
            config: channel.config,
            events: channel.events,
            enabled: channel.enabled,
        }
    }
}

/// A channel as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    name: String,
    kind: String,
    config: Value,
    #[serde(default)]
    secret: Option<SecretString>,
    events: Vec<String>,
    #[serde(default = "yes")]
    enabled: bool,
}

const FIELDS: [&str; 6] = ["name", "kind", "config", "secret", "events", "enabled"];

const fn yes() -> bool {
    true
}

pub(super) async fn create(
    State(api): State<Api>,
    Json(sent): Json<Sent>,
) -> Result<Response, Problem> {
    let config = check(&sent)?;
    let now = api.clock.now();
    let id = ChannelId::mint(now, api.entropy.as_ref());
    let new = NewChannel {
        id,
        name: sent.name,
        config,
        secret: match &sent.secret {
            Some(secret) => Some(api.sealed_channel_secret(id, secret)?),
            None => None,
        },
        events: sent.events,
        enabled: sent.enabled,
        created_at: now,
    };
    let channel = api.stores.channels.create_channel(&new).await?;
    audit::added(&audited(channel.clone()));
    if channel.secret.is_some() {
        audit::secret("secret");
    }
    let location = format!("/api/v1/channels/{id}");
    Ok(created(location, tagged(channel)))
}

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<ChannelBody>>, Problem> {
    let wanted = params.page()?;
    params.finish()?;
    let listed = api.stores.channels.channels(&wanted).await?;
    Ok(page(listed, ChannelBody::from))
}

pub(super) async fn find(
    State(api): State<Api>,
    Id(id): Id<ChannelId>,
) -> Result<Tagged<ChannelBody>, Problem> {
    Ok(tagged(api.channel(id).await?))
}

pub(super) async fn change(
    State(api): State<Api>,
    Id(id): Id<ChannelId>,
    if_match: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<ChannelBody>, Problem> {
    let before = api.channel(id).await?;
    if_match.check(before.version)?;
    let cleared = patch.0.get("secret") == Some(&Value::Null);
    let sent: Sent = patch::merge(Writable::from(before.clone()), patch, &FIELDS)?;
    if sent.kind != before.config.kind().as_str() {
        return Err(Problem::invalid(
            "kind",
            "cannot change: make a new channel",
        ));
    }
    let config = check(&sent)?;
    let secret = match &sent.secret {
        Some(secret) => SecretChange::Set(api.sealed_channel_secret(id, secret)?),
        None if cleared => SecretChange::Clear,
        // Whoever may write an address but was never told the secret must not have it sent there.
        None if before.secret.is_some() && config.sends_secret() && config != before.config => {
            return Err(Problem::invalid(
                "secret",
                "must be given again, or null, when config changes",
            ));
        }
        None => SecretChange::Keep,
    };
    let edit = ChannelEdit {
        id,
        version: before.version,
        name: sent.name,
        config,
        secret,
        events: sent.events,
        enabled: sent.enabled,
        at: api.clock.now(),
    };
    let after = api.stores.channels.update_channel(&edit).await?;
    if url_of(&before.config) != url_of(&after.config) {
        audit::secret("config.url");
    }
    audit::changed(&audited(before), &audited(after.clone()));
    if edit.secret != SecretChange::Keep {
        audit::secret("secret");
    }
    Ok(tagged(after))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id<ChannelId>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let channel = api.channel(id).await?;
    if_match.check(channel.version)?;
    let version = if_match.version(channel.version);
    api.stores.channels.delete_channel(id, version).await?;
    audit::removed(&audited(channel));
    Ok(StatusCode::NO_CONTENT)
}

/// How a test went.
#[derive(Serialize)]
pub(super) struct Tested {
    delivered: bool,
    error: Option<String>,
}

/// Sends at once, past what waits, also when the channel is disabled: it is tried before it is used.
pub(super) async fn test(
    State(api): State<Api>,
    Id(id): Id<ChannelId>,
    _: NoBody,
) -> Result<axum::Json<Tested>, Problem> {
    let channel = api.channel(id).await?;
    let now = api.clock.now();
    let message = channel
        .config
        .greeting(DeliveryId::mint(now, api.entropy.as_ref()), now);
    let sent = api.messenger.try_out(&channel, &message).await;
    let error = sent.err().map(|error| error.to_string());
    audit::fact("delivered", error.is_none());
    Ok(axum::Json(Tested {
        delivered: error.is_none(),
        error,
    }))
}

impl Api {
    async fn channel(&self, id: ChannelId) -> Result<Channel, Problem> {
        self.stores
            .channels
            .channel(id)
            .await?
            .ok_or_else(Problem::not_found)
    }

    fn sealed_channel_secret(
        &self,
        id: ChannelId,
        secret: &SecretString,
    ) -> Result<Vec<u8>, Problem> {
        let binding = sealed::channel_secret(id);
        Ok(self.sealer.seal_str(secret, &binding)?.into_bytes())
    }
}

const fn url_of(config: &ChannelConfig) -> Option<&String> {
    match config {
        ChannelConfig::Webhook(config) => Some(&config.url),
        ChannelConfig::Ntfy(config) => Some(&config.url),
        ChannelConfig::Healthchecks(config) => Some(&config.url),
        ChannelConfig::Email(_) => None,
    }
}

/// The path of an address is what many receivers know their senders by, and the audit log keeps what
/// it was told for good: it is told where the address leads, and that it changed.
fn audited(channel: Channel) -> Writable {
    let mut written = Writable::from(channel);
    let url = match &mut written.config {
        ChannelConfig::Webhook(config) => &mut config.url,
        ChannelConfig::Ntfy(config) => &mut config.url,
        ChannelConfig::Healthchecks(config) => &mut config.url,
        ChannelConfig::Email(_) => return written,
    };
    let origin = Url::parse(url).map(|url| url.origin().ascii_serialization());
    *url = origin.unwrap_or_default();
    written
}

fn check(sent: &Sent) -> Result<ChannelConfig, Problem> {
    let mut checks = Checks::default();
    checks.title(&sent.name, "name");
    let kind: Option<ChannelKind> = sent.kind.parse().ok();
    checks.that(
        kind.is_some(),
        "kind",
        "must be webhook, email, ntfy or healthchecks",
    );
    let config = kind.and_then(|kind| ChannelConfig::read(kind, sent.config.clone()).ok());
    checks.that(
        config.is_some() || kind.is_none(),
        "config",
        "must have what the kind needs, and nothing else: url; topic for ntfy; host, from and to for email",
    );
    if let Some(config) = &config {
        addressed(config, &mut checks);
    }
    if let (Some(kind), Some(secret)) = (kind, &sent.secret) {
        checks.that(
            fits(kind, secret.expose_secret()),
            "secret",
            "must have 1 to 1024 bytes; letters, digits, - _ and / for healthchecks",
        );
    }
    if let Some(ChannelConfig::Email(config)) = &config {
        checks.that(
            config.username.is_some() || sent.secret.is_none(),
            "config.username",
            "must say who logs in with the secret",
        );
    }
    checks.that(
        !sent.events.is_empty() && sent.events.len() <= EVENTS.len(),
        "events",
        "must name at least one event, and none twice",
    );
    for (index, event) in sent.events.iter().enumerate() {
        let known = EVENTS.contains(&event.as_str());
        let again = sent.events.iter().take(index).any(|other| other == event);
        let field = format!("events[{index}]");
        checks.that(
            known && !again,
            field,
            "is no event of this server, or a second time the same",
        );
    }
    checks.finish()?;
    config.ok_or_else(|| Problem::invalid("config", "cannot be read"))
}

fn addressed(config: &ChannelConfig, checks: &mut Checks) {
    let (url, bare) = match config {
        ChannelConfig::Email(config) => return mailed(config, checks),
        ChannelConfig::Webhook(config) => (&config.url, false),
        ChannelConfig::Ntfy(config) => {
            // What ntfy takes for a topic.
            let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            let fine = (1..=64).contains(&config.topic.len()) && config.topic.chars().all(letter);
            let detail = "must have 1 to 64 letters, digits, - and _";
            checks.that(fine, "config.topic", detail);
            (&config.url, true)
        }
        ChannelConfig::Healthchecks(config) => (&config.url, true),
    };
    // What is stored is what is called: a parser of addresses drops line ends and spaces.
    let written_out = url
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let fine = url.len() <= 2_048
        && written_out
        && GuardedClient::is_callable(url)
        && !(bare && url.contains('?'));
    checks.that(
        fine,
        "config.url",
        "must be an address such as https://hooks.example.org/arkeep, without a password",
    );
}

fn mailed(config: &EmailConfig, checks: &mut Checks) {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    let fine = (1..=255).contains(&config.host.len()) && config.host.chars().all(letter);
    checks.that(fine, "config.host", "must be a name or an address");
    checks.that(config.port != 0, "config.port", "must be 1 to 65535");
    let here = config.host == "localhost"
        || config
            .host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    checks.that(
        config.tls != MailTls::None || here,
        "config.tls",
        "must be starttls or implicit; none is for this machine alone",
    );
    if let Some(user) = &config.username {
        let fine = (1..=255).contains(&user.len()) && is_plain(user);
        checks.that(fine, "config.username", "must have 1 to 255 bytes");
    }
    checks.that(
        is_mailbox(&config.from),
        "config.from",
        "must be an address such as arkeep@example.org",
    );
    checks.that(
        (1..=20).contains(&config.to.len()),
        "config.to",
        "must have 1 to 20 entries",
    );
    for (index, to) in config.to.iter().enumerate() {
        let field = format!("config.to[{index}]");
        checks.that(
            is_mailbox(to),
            field,
            "must be an address such as ada@example.org",
        );
    }
}

/// As much of RFC 5321 §4.1.2 as needs no quotes: nothing in it ends a command or a header.
fn is_mailbox(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    text.len() <= 254
        && text.split_once('@').is_some_and(|(name, host)| {
            let host_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            !name.is_empty()
                && name.chars().all(letter)
                && !host.is_empty()
                && host.chars().all(host_letter)
        })
}

fn fits(kind: ChannelKind, secret: &str) -> bool {
    let length = (1..=1_024).contains(&secret.len()) && is_plain(secret);
    match kind {
        ChannelKind::Healthchecks => {
            length
                && secret
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/'))
        }
        ChannelKind::Ntfy => length && secret.bytes().all(|byte| byte.is_ascii_graphic()),
        _ => length,
    }
}

fn tagged(channel: Channel) -> Tagged<ChannelBody> {
    Tagged(channel.version, ChannelBody::from(channel))
}
