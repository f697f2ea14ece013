//! Where a server listens for agents.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A host name or address, and a port: `backup.example:9090`, `[2001:db8::1]:9090`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// The host, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The text is not a host and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a host and a port such as backup.example:9090")]
pub struct ParseAddressError;

impl FromStr for ServerAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(ParseAddressError)?;
        let plain_number = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
        let port = port.parse().map_err(|_| ParseAddressError)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(literal) => literal
                .parse::<Ipv6Addr>()
                .map_err(|_| ParseAddressError)?
                .to_string(),
            None if is_host_name(host) => host.to_owned(),
            None => return Err(ParseAddressError),
        };
        if plain_number {
            Ok(Self { host, port })
        } else {
            Err(ParseAddressError)
        }
    }
}

// RFC 1123 §2.1, and underscores, which people use. IPv4 addresses look the same.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in [
            "a:1",
            "backup.example:9090",
            "10.0.0.1:65535",
            "[2001:db8::1]:9090",
        ] {
            let address = text.parse::<ServerAddress>();
            assert_eq!(address.map(|a| a.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_is_not_a_host_and_a_port() {
        for text in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "a:01",
            "a b:1",
            "::1:1",
            "[a]:1",
            "-a:1",
            "a..b:1",
            "a:1\n",
            "http://a:1",
            "a/b:1",
            "a@b:1",
        ] {
            assert_eq!(
                text.parse::<ServerAddress>(),
                Err(ParseAddressError),
                "{text}"
            );
        }
    }
}
