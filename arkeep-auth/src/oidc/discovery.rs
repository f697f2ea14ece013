use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arkeep_core::Timestamp;
use serde::Deserialize;

use super::guarded;
use super::web::{HttpWeb, WebError};

/// What a provider says of itself (OpenID Connect Discovery 1.0 §3), as far as a login needs it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    code_challenge_methods_supported: Option<Vec<String>>,
    /// RFC 9207 §3: whether its answers always say whose they are.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

/// A provider does not say of itself what a login needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// It cannot be had.
    #[error(transparent)]
    Web(#[from] WebError),
    /// It is not the description of this provider.
    #[error("the provider does not describe itself as it should: {0}")]
    Description(&'static str),
}

impl Metadata {
    /// OpenID Connect Core 1.0 §9: a password goes into a header unless only the body will do.
    pub(super) fn takes_basic(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_deref();
        methods.is_none_or(|methods| {
            let has = |name: &str| methods.iter().any(|method| method == name);
            has("client_secret_basic") || !has("client_secret_post")
        })
    }

    /// Reads what is to be the description of this issuer.
    pub(super) fn read(body: &[u8], issuer: &str) -> Result<Self, DiscoveryError> {
        let metadata: Self =
            super::jwks::read(body).ok_or(DiscoveryError::Description("it is no such document"))?;
        metadata.check(issuer)?;
        Ok(metadata)
    }

    fn check(&self, issuer: &str) -> Result<(), DiscoveryError> {
        if self.issuer != issuer {
            return Err(DiscoveryError::Description("it is another issuer"));
        }
        let addresses = [
            &self.authorization_endpoint,
            &self.token_endpoint,
            &self.jwks_uri,
        ];
        if addresses.iter().any(|text| guarded::parse(text).is_none()) {
            return Err(DiscoveryError::Description("an address is not HTTPS"));
        }
        let methods = self.code_challenge_methods_supported.as_deref();
        if methods.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            return Err(DiscoveryError::Description("it knows no S256"));
        }
        Ok(())
    }
}

/// Descriptions that were read a short while ago: one for each issuer that is configured.
#[derive(Debug, Default)]
pub(super) struct Discovery(Mutex<HashMap<String, (Timestamp, Arc<Metadata>)>>);

impl Discovery {
    pub(super) async fn describe(
        &self,
        web: &HttpWeb,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Arc<Metadata>, DiscoveryError> {
        let known = self.change(|known| known.get(issuer).cloned());
        if let Some((at, metadata)) = known
            && at <= now
            && now < at.plus(FRESH)
        {
            return Ok(metadata);
        }
        // Discovery 1.0 §4.1: a slash at the end is taken off first.
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let body = web
            .get(&format!("{base}/.well-known/openid-configuration"))
            .await?;
        let metadata = Arc::new(Metadata::read(&body, issuer)?);
        self.change(|known| known.insert(issuer.to_owned(), (now, Arc::clone(&metadata))));
        Ok(metadata)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut HashMap<String, (Timestamp, Arc<Metadata>)>) -> T,
    ) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const FRESH: Duration = Duration::from_secs(5 * 60);
