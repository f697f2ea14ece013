//! Who is at the other end, when proxies stand in between.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::Cidr;

/// The socket's other end. Put into every request by the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The address that speaks, as far as we have reason to believe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl ClientAddress {
    /// Follows `X-Forwarded-For` from its end, one step for each proxy that is trusted.
    ///
    /// Whatever an untrusted peer says is not read, and of what a trusted one says only the last
    /// word is its own; the words before it are another's, and count only if that one is trusted.
    pub(crate) fn judge(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let mut believed = peer.to_canonical();
        let said: Vec<&[u8]> = headers
            .get_all("x-forwarded-for")
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .collect();
        for word in said.into_iter().rev() {
            if !is_trusted(believed) {
                break;
            }
            let word = str::from_utf8(word).ok().map(str::trim);
            match word.and_then(|word| word.parse::<IpAddr>().ok()) {
                Some(address) => believed = address.to_canonical(),
                None => break,
            }
        }
        Self(believed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(
        peer: &str,
        said: &[&str],
        trusted: &[&str],
    ) -> Result<String, Box<dyn std::error::Error>> {
        let mut headers = HeaderMap::new();
        for value in said {
            headers.append("x-forwarded-for", value.parse()?);
        }
        let trusted = trusted
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Cidr>, _>>()?;
        Ok(ClientAddress::judge(peer.parse()?, &headers, &trusted)
            .0
            .to_string())
    }

    /// S10, A9
    #[test]
    fn only_trusted_proxies_are_believed() -> Result<(), Box<dyn std::error::Error>> {
        for (peer, said, trusted, believed) in [
            ("192.0.2.1", &["10.0.0.1"][..], &[][..], "192.0.2.1"),
            ("192.0.2.1", &["10.0.0.1"], &["127.0.0.0/8"], "192.0.2.1"),
            (
                "127.0.0.1",
                &["198.51.100.7"],
                &["127.0.0.0/8"],
                "198.51.100.7",
            ),
            (
                "127.0.0.1",
                &["1.1.1.1, 198.51.100.7"],
                &["127.0.0.0/8"],
                "198.51.100.7",
            ),
            (
                "127.0.0.1",
                &["1.1.1.1", "198.51.100.7"],
                &["127.0.0.0/8"],
                "198.51.100.7",
            ),
            (
                "127.0.0.1",
                &["1.1.1.1, 127.0.0.2"],
                &["127.0.0.0/8"],
                "1.1.1.1",
            ),
            (
                "127.0.0.1",
                &["1.1.1.1, nonsense"],
                &["127.0.0.0/8"],
                "127.0.0.1",
            ),
            ("127.0.0.1", &[], &["127.0.0.0/8"], "127.0.0.1"),
            (
                "::ffff:127.0.0.1",
                &["2001:db8::1"],
                &["127.0.0.0/8"],
                "2001:db8::1",
            ),
        ] {
            assert_eq!(
                judged(peer, said, trusted)?,
                believed,
                "{peer} {said:?} {trusted:?}"
            );
        }
        Ok(())
    }
}
