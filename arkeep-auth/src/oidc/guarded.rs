use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Url, redirect};

use tokio::net::TcpStream;

use super::{Reach, WebError};

/// An HTTP client that is told by others whom to call: it follows no redirects, uses no proxy, and
/// connects only to addresses within [`Reach`], also when a name leads to another one after a while.
///
/// How long an exchange may take and how much of an answer is read, is for whoever calls to bound.
#[derive(Debug, Clone)]
pub struct GuardedClient {
    client: Client,
    reach: Reach,
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name leads to no address that may be called.
    #[error("the address may not be called")]
    Address,
    /// Nobody takes it, or the name leads nowhere.
    #[error("nobody takes the connection")]
    Unreachable(#[source] io::Error),
}

impl GuardedClient {
    /// Calls with a client that knows which certificates to trust; whom it may call is decided here.
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
        Ok(Self { client, reach })
    }

    /// Begins a request to an address for which [`is_callable`](Self::is_callable) holds and which is
    /// within reach; [`WebError::Address`] otherwise. A name is looked up when the request is sent.
    pub fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, WebError> {
        Ok(self.client.request(method, self.check(url)?))
    }

    /// A bare connection to the first address within reach that takes one, for what is not HTTP.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let found = tokio::net::lookup_host((bare(host), port)).await;
        let found = found.map_err(ConnectError::Unreachable)?;
        let mut failed = ConnectError::Address;
        for address in found.filter(|address| self.reach.covers(address.ip())) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = ConnectError::Unreachable(error),
            }
        }
        Err(failed)
    }

    /// Whether an address has the form of one that may be called: HTTPS; on this machine, where nobody
    /// listens in, plain HTTP will do. No password and no fragment is in it.
    #[must_use]
    pub fn is_callable(url: &str) -> bool {
        parse(url).is_some()
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
}
