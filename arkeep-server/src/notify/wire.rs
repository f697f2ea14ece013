use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::oidc::{ConnectError, GuardedClient, WebError};
use arkeep_core::{ExposeSecret as _, SecretString, Timestamp};
use reqwest::{Method, RequestBuilder, header};
use rustls::ClientConfig;
use serde_json::json;

use super::signature::{self, sign};
use super::{MailError, Message, mail, smtp};
use crate::store::channels::{
    ChannelConfig, EmailConfig, HealthchecksConfig, NtfyConfig, WebhookConfig,
};

/// The ways out of this process.
#[derive(Debug, Clone)]
pub struct Wires {
    web: GuardedClient,
    tls: Arc<ClientConfig>,
}

/// A message was not taken. No address and no secret is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Out of reach: this machine, its network, or a cloud's inside.
    #[error("the address may not be called")]
    Address,
    /// Nobody is there, or no HTTP is spoken.
    #[error("the receiver does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// It takes longer than anybody would wait.
    #[error("the receiver takes too long")]
    Slow,
    /// It answers, and not with success.
    #[error("the receiver answers with status {0}")]
    Status(u16),
    /// The mail server did not take it.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The channel's secret does not open.
    #[error("the channel's secret cannot be opened")]
    Secret(#[source] Box<dyn Error + Send + Sync>),
    /// The message cannot be written, which is a fault of this program.
    #[error("the message cannot be written")]
    Unwritten(#[source] serde_json::Error),
}

impl Wires {
    /// HTTP goes through this client, mail through connections of its, with these certificates.
    #[must_use]
    pub const fn new(web: GuardedClient, tls: Arc<ClientConfig>) -> Self {
        Self { web, tls }
    }

    /// Sends a message, and waits until it is taken: for ten seconds at most, and thirty for mail.
    ///
    /// # Errors
    ///
    /// [`SendError`]: it was not taken, or nobody knows.
    pub async fn send(
        &self,
        config: &ChannelConfig,
        secret: Option<&SecretString>,
        message: &Message,
        now: Timestamp,
    ) -> Result<(), SendError> {
        let request = match config {
            ChannelConfig::Webhook(config) => self.webhook(config, secret, message, now)?,
            ChannelConfig::Ntfy(config) => self.ntfy(config, secret, message)?,
            ChannelConfig::Healthchecks(config) => self.healthchecks(config, secret, message)?,
            ChannelConfig::Email(config) => {
                let sent = self.email(config, secret, message, now);
                let sent = tokio::time::timeout(MAIL_PATIENCE, sent).await;
                return sent.map_err(|_| SendError::Slow)?;
            }
        };
        let request = request.header(header::USER_AGENT, "arkeep-server");
        let answer = tokio::time::timeout(PATIENCE, request.send())
            .await
            .map_err(|_| SendError::Slow)?
            .map_err(unreachable)?;
        // What it says besides is not read.
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(SendError::Status(answer.status().as_u16())),
        }
    }

    fn webhook(
        &self,
        config: &WebhookConfig,
        secret: Option<&SecretString>,
        message: &Message,
        now: Timestamp,
    ) -> Result<RequestBuilder, SendError> {
        let body = serde_json::to_vec(message).map_err(SendError::Unwritten)?;
        let mut request = self.post(&config.url)?;
        if let Some(secret) = secret {
            request = request.header(signature::HEADER, sign(secret, now, &body));
        }
        Ok(request
            .header(header::CONTENT_TYPE, "application/json")
            .body(body))
    }

    // As JSON to the server's root: headers have no place for every letter.
    fn ntfy(
        &self,
        config: &NtfyConfig,
        secret: Option<&SecretString>,
        message: &Message,
    ) -> Result<RequestBuilder, SendError> {
        let body = json!({
            "topic": config.topic,
            "title": message.title,
            "message": message.text,
            "priority": if is_bad(&message.kind) { 4 } else { 3 },
        });
        let mut request = self.post(&config.url)?;
        if let Some(secret) = secret {
            request = request.bearer_auth(secret.expose_secret());
        }
        Ok(request.json(&body))
    }

    fn healthchecks(
        &self,
        config: &HealthchecksConfig,
        secret: Option<&SecretString>,
        message: &Message,
    ) -> Result<RequestBuilder, SendError> {
        let mut url = config.url.trim_end_matches('/').to_owned();
        if let Some(secret) = secret {
            url.push('/');
            url.push_str(secret.expose_secret());
        }
        url.push_str(match message.kind.as_str() {
            "job.succeeded" => "",
            kind if is_bad(kind) => "/fail",
            _ => "/log",
        });
        let text = format!("{}\n{}", message.title, message.text);
        Ok(self.post(&url)?.body(text))
    }

    async fn email(
        &self,
        config: &EmailConfig,
        secret: Option<&SecretString>,
        message: &Message,
        now: Timestamp,
    ) -> Result<(), SendError> {
        let stream = self.web.connect(&config.host, config.port).await;
        let stream = stream.map_err(|error| match error {
            ConnectError::Unreachable(error) => SendError::Mail(MailError::Gone(error)),
            _ => SendError::Address,
        })?;
        let mail = mail::compose(config, message, now);
        smtp::hand_over(stream, &self.tls, config, secret, &mail).await?;
        Ok(())
    }

    fn post(&self, url: &str) -> Result<RequestBuilder, SendError> {
        self.web
            .request(Method::POST, url)
            .map_err(|_| SendError::Address)
    }
}

/// Whether somebody should do something about it.
fn is_bad(kind: &str) -> bool {
    !matches!(kind, "job.succeeded" | "agent.online" | "test")
}

/// Its address may be as good as a secret.
fn unreachable(error: reqwest::Error) -> SendError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(deeper) = cause {
        if deeper.is::<WebError>() {
            return SendError::Address;
        }
        cause = deeper.source();
    }
    SendError::Unreachable(error.without_url())
}

const PATIENCE: Duration = Duration::from_secs(10);
const MAIL_PATIENCE: Duration = Duration::from_secs(30);
