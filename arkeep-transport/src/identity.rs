//! Who is at the other end of a connection.
//!
//! An [`AgentIdentity`] is read from a verified client certificate and from nothing else. It has no
//! public constructor and no `Deserialize`: a function that takes one cannot be called with an id
//! that a message claimed.
//!
//! ```compile_fail
//! # use arkeep_transport::identity::AgentIdentity;
//! # let agent = arkeep_core::AgentId::from_uuid(uuid::Uuid::nil());
//! let forged = AgentIdentity { agent }; // its fields are private
//! ```

use std::fmt;
use std::str::FromStr;

use arkeep_core::{AgentId, Entropy, Timestamp};

/// An agent, as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentIdentity {
    agent: AgentId,
    serial: Serial,
    not_after: Timestamp,
}

impl AgentIdentity {
    #[cfg(feature = "server")]
    pub(crate) const fn new(agent: AgentId, serial: Serial, not_after: Timestamp) -> Self {
        Self {
            agent,
            serial,
            not_after,
        }
    }

    /// The agent.
    #[must_use]
    pub const fn agent(&self) -> AgentId {
        self.agent
    }

    /// The serial number of its certificate.
    #[must_use]
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// When the certificate ends.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// An identity that no certificate stands for, to test a gateway with.
    #[cfg(feature = "testing")]
    #[must_use]
    pub const fn for_testing(agent: AgentId, serial: Serial, not_after: Timestamp) -> Self {
        Self::new(agent, serial, not_after)
    }
}

/// A certificate's serial number: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Draws a number. Two never meet, even if two servers draw them.
    #[must_use]
    pub fn random(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(bytes)
    }

    /// Takes over a number from a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The number, most significant byte first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// Whose agents these are: the authority of `spiffe://<trust domain>/agent/<uuid>`.
///
/// A server accepts certificates of its own trust domain only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The domain's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that an agent's certificate carries.
    #[must_use]
    pub fn agent_uri(&self, agent: AgentId) -> String {
        format!("spiffe://{}/agent/{agent}", self.0)
    }

    /// The agent that a certificate's name stands for, if it is one of this domain.
    #[cfg(any(feature = "server", feature = "client"))]
    pub(crate) fn agent_of(&self, uri: &str) -> Option<AgentId> {
        let agent = uri
            .strip_prefix("spiffe://")?
            .strip_prefix(self.as_str())?
            .strip_prefix("/agent/")?
            .parse()
            .ok()?;
        // One spelling for each agent: `parse` also takes upper case.
        (self.agent_uri(agent) == uri).then_some(agent)
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self("arkeep".to_owned())
    }
}

/// The text is not the name of a trust domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a trust domain: lower-case letters, digits, dots, dashes and underscores, 255 at most"
)]
pub struct ParseTrustDomainError;

impl FromStr for TrustDomain {
    type Err = ParseTrustDomainError;

    // SPIFFE-ID §2.1.
    fn from_str(text: &str) -> Result<Self, ParseTrustDomainError> {
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if (1..=255).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseTrustDomainError)
        }
    }
}

#[cfg(all(test, any(feature = "server", feature = "client")))]
mod tests {
    use super::*;

    /// T1
    #[test]
    fn a_name_of_another_domain_is_nobody() {
        let ours = TrustDomain::default();
        let agent = AgentId::from_uuid(uuid::Uuid::from_u128(0xabcd));
        let name = ours.agent_uri(agent);

        assert_eq!(ours.agent_of(&name), Some(agent));
        for other in [
            name.replace("spiffe://arkeep/", "spiffe://arkeep.example/"),
            name.replace("spiffe:", "SPIFFE:"),
            name.replace("/agent/", "/server/"),
            name.replace("abcd", "ABCD"),
            format!("{name}/"),
            format!("{name}?"),
        ] {
            assert_eq!(ours.agent_of(&other), None, "{other}");
        }
    }
}
