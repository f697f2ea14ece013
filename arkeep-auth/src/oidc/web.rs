use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{ExposeSecret as _, SecretString};
use reqwest::{ClientBuilder, Method, RequestBuilder, header};
use tokio::sync::Semaphore;

use super::guarded::GuardedClient;
use super::reach::Reach;

/// Calls providers, and trusts none of them with much: no redirects, five seconds, answers of 256
/// KiB, and only addresses within [`Reach`], also when a name leads to another one after a while.
///
/// Eight calls run at once. Anybody can begin a login, and each costs a call.
#[derive(Debug, Clone)]
pub struct HttpWeb {
    client: GuardedClient,
    places: Arc<Semaphore>,
}

/// A provider was not understood, or not reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// Not an address that may be called: not HTTPS, or out of [`Reach`].
    #[error("the address may not be called")]
    Address,
    /// It cannot be reached, or does not speak HTTP.
    #[error("the provider does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// It takes longer than anybody would wait.
    #[error("the provider takes too long")]
    Slow,
    /// It says more than it could have to say.
    #[error("the provider's answer is too large")]
    Huge,
    /// It answers, and not with success.
    #[error("the provider answers with status {0}")]
    Status(u16),
    /// Too many calls are under way. Worth a retry.
    #[error("too many calls to providers at once")]
    Busy,
}

impl HttpWeb {
    /// Calls with a client that knows which certificates to trust; everything else is decided here.
    pub fn new(builder: ClientBuilder, reach: Reach) -> Result<Self, reqwest::Error> {
        Ok(Self::over(GuardedClient::new(builder, reach)?))
    }

    /// Calls with a client that others use as well.
    #[must_use]
    pub fn over(client: GuardedClient) -> Self {
        Self {
            client,
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    pub(super) async fn get(&self, url: &str) -> Result<Vec<u8>, WebError> {
        self.call(self.client.request(Method::GET, url)?).await
    }

    pub(super) async fn post(
        &self,
        url: &str,
        form: &[(&str, &str)],
        basic: Option<(&str, &SecretString)>,
    ) -> Result<Vec<u8>, WebError> {
        let body = encode(form);
        let kind = "application/x-www-form-urlencoded";
        let request = self.client.request(Method::POST, url)?;
        let mut request = request.header(header::CONTENT_TYPE, kind);
        if let Some((user, password)) = basic {
            // RFC 6749 §2.3.1: both are encoded before they are joined.
            let password = percent(password.expose_secret());
            request = request.basic_auth(percent(user), Some(password));
        }
        self.call(request.body(body)).await
    }

    async fn call(&self, request: RequestBuilder) -> Result<Vec<u8>, WebError> {
        let _place = self.places.try_acquire().map_err(|_| WebError::Busy)?;
        let request = request.header(header::ACCEPT, "application/json");
        let exchange = async {
            let mut answer = request.send().await.map_err(WebError::Unreachable)?;
            if answer.status() != reqwest::StatusCode::OK {
                return Err(WebError::Status(answer.status().as_u16()));
            }
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(WebError::Unreachable)? {
                if body.len() + chunk.len() > MOST {
                    return Err(WebError::Huge);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| WebError::Slow)?
    }
}

fn encode(form: &[(&str, &str)]) -> String {
    let pairs = form
        .iter()
        .map(|(name, value)| format!("{}={}", percent(name), percent(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn percent(text: &str) -> String {
    crate::factor::percent(text).replace('@', "%40")
}

const PATIENCE: Duration = Duration::from_secs(5);
const MOST: usize = 256 * 1024;
const PLACES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_keeps_its_seams() {
        let form = encode(&[("a", "x&b=y"), ("c", "1 + 1%"), ("d", "ü@")]);

        assert_eq!(form, "a=x%26b%3Dy&c=1%20%2B%201%25&d=%C3%BC%40");
    }
}
