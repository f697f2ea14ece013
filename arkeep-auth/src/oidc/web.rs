use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{ExposeSecret as _, SecretString};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, RequestBuilder, Url, header, redirect};
use tokio::sync::Semaphore;

use super::Reach;

/// Calls providers, and trusts none of them with much: no redirects, five seconds, answers of 256
/// KiB, and only addresses within [`Reach`], also when a name leads to another one after a while.
///
/// Eight calls run at once. Anybody can begin a login, and each costs a call.
#[derive(Debug, Clone)]
pub struct HttpWeb {
    client: Client,
    reach: Reach,
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
        let resolver = Within {
            reach: reach.clone(),
        };
        let client = builder
            .redirect(redirect::Policy::none())
            // A proxy would look the name up itself, and call whom it likes.
            .no_proxy()
            .dns_resolver(Arc::new(resolver))
            .build()?;
        Ok(Self {
            client,
            reach,
            places: Arc::new(Semaphore::new(PLACES)),
        })
    }

    pub(super) async fn get(&self, url: &str) -> Result<Vec<u8>, WebError> {
        let url = self.check(url)?;
        self.call(self.client.get(url)).await
    }

    pub(super) async fn post(
        &self,
        url: &str,
        form: &[(&str, &str)],
        basic: Option<(&str, &SecretString)>,
    ) -> Result<Vec<u8>, WebError> {
        let url = self.check(url)?;
        let body = encode(form);
        let kind = "application/x-www-form-urlencoded";
        let mut request = self.client.post(url).header(header::CONTENT_TYPE, kind);
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

    // The resolver is not asked about a host that is an address already.
    fn check(&self, text: &str) -> Result<Url, WebError> {
        let url = parse(text).ok_or(WebError::Address)?;
        let host = url.host_str().ok_or(WebError::Address)?;
        match bare(host).parse::<IpAddr>() {
            Ok(address) if !self.reach.covers(address) => Err(WebError::Address),
            _ => Ok(url),
        }
    }
}

/// An address of a provider: HTTPS; on this machine, where nobody listens in, plain HTTP will do.
pub(super) fn parse(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let here = host == "localhost"
        || bare(host)
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let safe = url.scheme() == "https" || (url.scheme() == "http" && here);
    (plain && safe).then_some(url)
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Looks names up and forgets addresses that may not be called.
struct Within {
    reach: Reach,
}

impl Resolve for Within {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let within: Vec<SocketAddr> =
                found.filter(|address| reach.covers(address.ip())).collect();
            match within.is_empty() {
                true => Err(Box::new(WebError::Address) as Box<_>),
                false => Ok(Box::new(within.into_iter()) as Addrs),
            }
        })
    }
}

impl fmt::Debug for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Within")
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
    fn only_https_leaves_this_machine() {
        for text in [
            "https://id.example",
            "https://id.example:8443/realm?x=y",
            "http://127.0.0.1:9400",
            "http://localhost:9400",
            "http://[::1]:9400",
        ] {
            assert!(parse(text).is_some(), "{text}");
        }
        for text in [
            "http://id.example",
            "http://127.0.0.1.example",
            "http://localhost.example",
            "ftp://id.example",
            "file:///etc/passwd",
            "https://user@id.example",
            "https://:pass@id.example",
            "https://id.example/#x",
            "id.example",
            "",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_form_keeps_its_seams() {
        let form = encode(&[("a", "x&b=y"), ("c", "1 + 1%"), ("d", "ü@")]);

        assert_eq!(form, "a=x%26b%3Dy&c=1%20%2B%201%25&d=%C3%BC%40");
    }
}
