use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{Entropy, ExposeSecret as _, StoreError, Timestamp};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::discovery::{Discovery, DiscoveryError, Metadata};
use super::guarded;
use super::id_token::{self, IdTokenError};
use super::jwks::{self, Jwks};
use super::web::{HttpWeb, WebError};
use super::{LoginSecret, LoginState, LoginStateStore, ProvenIdentity, Provider};
use crate::id::OidcProviderId;

/// Logs users in through providers.
#[derive(Debug, Clone)]
pub struct RelyingParty {
    web: HttpWeb,
    states: Arc<dyn LoginStateStore>,
    entropy: Arc<dyn Entropy>,
    redirect_uri: Arc<str>,
    discovery: Arc<Discovery>,
}

/// A login that was begun.
#[derive(Debug)]
pub struct Begun {
    /// Where to send the browser.
    pub location: String,
    /// What it must bring back. Give it [`LoginSecret::cookie`].
    pub secret: LoginSecret,
}

/// What a browser brings back from a provider, in the query.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// What we sent along.
    pub state: Option<String>,
    /// What can be exchanged for a statement.
    pub code: Option<String>,
    /// Whose answer it is (RFC 9207).
    pub iss: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
}

/// A login whose state was right, and is used up.
#[derive(Debug)]
pub struct Pending {
    provider: OidcProviderId,
    secret: LoginSecret,
    answer: Answer,
}

impl Pending {
    /// The provider that the browser was sent to.
    #[must_use]
    pub const fn provider(&self) -> OidcProviderId {
        self.provider
    }
}

impl RelyingParty {
    /// Sends browsers to providers, and has them come back to `redirect_uri`, which is this
    /// product's own address: never something that a request says.
    #[must_use]
    pub fn new(
        web: HttpWeb,
        states: Arc<dyn LoginStateStore>,
        entropy: Arc<dyn Entropy>,
        redirect_uri: &str,
    ) -> Self {
        Self {
            web,
            states,
            entropy,
            redirect_uri: redirect_uri.into(),
            discovery: Arc::default(),
        }
    }

    /// Whether `text` can be the name of a provider: an address of HTTPS without a query.
    #[must_use]
    pub fn is_issuer(text: &str) -> bool {
        text.len() <= 2_048 && guarded::parse(text).is_some_and(|url| url.query().is_none())
    }

    /// Begins a login.
    pub async fn begin(&self, provider: &Provider, now: Timestamp) -> Result<Begun, BeginError> {
        let metadata = self.describe(provider, now).await?;
        let mut location = guarded::parse(&metadata.authorization_endpoint)
            .ok_or(BeginError::Provider(WebError::Address.into()))?;
        let secret = LoginSecret::generate(self.entropy.as_ref());
        let mut scope = "openid".to_owned();
        for wanted in provider.scopes.iter().filter(|wanted| *wanted != "openid") {
            scope.push(' ');
            scope.push_str(wanted);
        }
        location
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &provider.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", &scope)
            .append_pair("state", &secret.state())
            .append_pair("nonce", &secret.nonce())
            .append_pair("code_challenge", &secret.challenge())
            .append_pair("code_challenge_method", "S256");
        let state = LoginState {
            digest: secret.digest(),
            provider: provider.id,
            expires_at: now.plus(PATIENCE),
        };
        self.states.keep(&state).await?;
        Ok(Begun {
            location: location.into(),
            secret,
        })
    }

    /// Takes a browser back. Whatever comes of it, it cannot come back with the same secret again.
    pub async fn resume(
        &self,
        secret: LoginSecret,
        answer: Answer,
        now: Timestamp,
    ) -> Result<Pending, ResumeError> {
        let shown = answer.state.as_deref().unwrap_or_default();
        // Before it is used up: who only guesses a state must not end somebody's login.
        if !bool::from(shown.as_bytes().ct_eq(secret.state().as_bytes())) {
            return Err(ResumeError::Refused);
        }
        let provider = self.states.take(&secret.digest(), now).await?;
        Ok(Pending {
            provider: provider.ok_or(ResumeError::Refused)?,
            secret,
            answer,
        })
    }

    /// Exchanges the code and checks the statement. `provider` is the one of
    /// [`Pending::provider`], as it is configured now.
    pub async fn finish(
        &self,
        pending: Pending,
        provider: &Provider,
        now: Timestamp,
    ) -> Result<ProvenIdentity, FinishError> {
        let Pending { secret, answer, .. } = &pending;
        let metadata = self.describe(provider, now).await?;
        let names_issuer = metadata.authorization_response_iss_parameter_supported;
        let right_issuer = match &answer.iss {
            Some(iss) => *iss == provider.issuer,
            None => !names_issuer,
        };
        if pending.provider != provider.id || !right_issuer {
            return Err(FinishError::Mixed);
        }
        let (Some(code), None) = (&answer.code, &answer.error) else {
            return Err(FinishError::Denied);
        };
        let granted = self.exchange(code, secret, provider, &metadata).await?;
        let token = granted_token(&granted)?;
        let keys = self.web.get(&metadata.jwks_uri).await?;
        Ok(proven(&token, &keys, provider, &secret.nonce(), now)?)
    }

    /// Forgets logins from which nobody came back in time.
    pub async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.states.prune(now).await
    }

    async fn exchange(
        &self,
        code: &str,
        secret: &LoginSecret,
        provider: &Provider,
        metadata: &Metadata,
    ) -> Result<Vec<u8>, FinishError> {
        let verifier = secret.verifier();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &*self.redirect_uri),
            ("code_verifier", verifier.as_str()),
        ];
        let basic = match &provider.client_secret {
            Some(password) if metadata.takes_basic() => Some((&*provider.client_id, password)),
            password => {
                form.push(("client_id", &provider.client_id));
                if let Some(password) = password {
                    form.push(("client_secret", password.expose_secret()));
                }
                None
            }
        };
        let body = self.web.post(&metadata.token_endpoint, &form, basic).await;
        body.map_err(|error| match error {
            // RFC 6749 §5.2: the code is not good, or not any more.
            WebError::Status(400) => FinishError::Denied,
            other => other.into(),
        })
    }

    async fn describe(
        &self,
        provider: &Provider,
        now: Timestamp,
    ) -> Result<Arc<Metadata>, DiscoveryError> {
        let issuer = &provider.issuer;
        self.discovery.describe(&self.web, issuer, now).await
    }
}

/// The statement that a code was exchanged for.
pub(super) fn granted_token(granted: &[u8]) -> Result<String, IdTokenError> {
    #[derive(Deserialize)]
    struct Granted {
        id_token: String,
    }
    let granted: Granted = jwks::read(granted).ok_or(IdTokenError::Malformed)?;
    Ok(granted.id_token)
}

/// Whom a statement names, if one of the provider's keys signed it for this login.
pub(super) fn proven(
    token: &str,
    keys: &[u8],
    provider: &Provider,
    nonce: &str,
    now: Timestamp,
) -> Result<ProvenIdentity, IdTokenError> {
    let keys: Jwks = jwks::read(keys).ok_or(IdTokenError::Key)?;
    let claims = id_token::check(token, &keys, provider, nonce, now)?;
    let role = provider
        .role_map
        .role(provider.role_claim.as_deref(), &claims.all);
    Ok(ProvenIdentity {
        provider: provider.id,
        issuer: provider.issuer.clone(),
        subject: claims.subject,
        email: claims.email,
        name: claims.name,
        role,
    })
}

/// A login did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The provider is not there, or is not what it should be. Answer 503.
    #[error("the identity provider cannot be used")]
    Provider(#[source] DiscoveryError),
    /// A store could not answer. Answer 503.
    #[error("the login could not be begun")]
    Unavailable(#[from] StoreError),
}

impl From<DiscoveryError> for BeginError {
    fn from(error: DiscoveryError) -> Self {
        Self::Provider(error)
    }
}

/// A browser came back from nowhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The state is another browser's, too old, or used up. Answer 401.
    #[error("no such login is on its way")]
    Refused,
    /// A store could not answer. Answer 503.
    #[error("the login could not be found")]
    Unavailable(#[from] StoreError),
}

/// A login did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError {
    /// The provider, or the user there, said no. Answer 401.
    #[error("the identity provider refused the login")]
    Denied,
    /// The answer is another provider's. Answer 401.
    #[error("the answer is not of the provider that was asked")]
    Mixed,
    /// The statement is not accepted. Answer 401.
    #[error("the identity provider's statement is refused")]
    Refused(#[from] IdTokenError),
    /// The provider is not there, or is not what it should be. Answer 503.
    #[error("the identity provider cannot be used")]
    Provider(#[source] DiscoveryError),
}

impl From<DiscoveryError> for FinishError {
    fn from(error: DiscoveryError) -> Self {
        Self::Provider(error)
    }
}

impl From<WebError> for FinishError {
    fn from(error: WebError) -> Self {
        Self::Provider(error.into())
    }
}

/// How long a user may take at the provider.
pub(super) const PATIENCE: Duration = Duration::from_secs(10 * 60);
