use std::io;
use std::time::Duration;

use arkeep_core::Timestamp;

use crate::address::ServerAddress;

use super::CredentialError;

/// No trusted connection to the server came about.
///
/// Each text is meant for the owner of the machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody answers there. Worth a retry.
    #[error(
        "the server {server} cannot be reached; check its name, its port and the firewalls in between"
    )]
    Unreachable {
        /// Where the agent dialled.
        server: ServerAddress,
        /// What the network said.
        #[source]
        source: io::Error,
    },

    /// Somebody accepted the connection and fell silent. Worth a retry.
    #[error("the server {server} does not answer in time")]
    TimedOut {
        /// Where the agent dialled.
        server: ServerAddress,
    },

    /// Somebody accepted the connection and closed it. Worth a retry: the server may be overloaded,
    /// and one that does not accept this agent says so the next time.
    #[error(
        "the server {server} closed the connection before anything was said; it may be overloaded, or something in between cuts connections to the agent port"
    )]
    Dropped {
        /// Where the agent dialled.
        server: ServerAddress,
    },

    /// What answers is no Arkeep server: most likely a proxy that ends TLS itself.
    #[error(
        "what answers at {server} is not the Arkeep agent port; if a proxy or load balancer stands in between, it must pass TLS through untouched (TCP or SNI passthrough to port 9090)"
    )]
    Intercepted {
        /// Where the agent dialled.
        server: ServerAddress,
    },

    /// An Arkeep server answers, but of another installation.
    #[error(
        "the Arkeep server at {server} proves itself by another CA than the one this agent trusts; the token or enrolment is of another server, its CA was replaced since (then ask an administrator for a new join token and enrol anew), or somebody impersonates it"
    )]
    WrongServer {
        /// Where the agent dialled.
        server: ServerAddress,
    },

    /// The server's certificate is good, but not at the time that this machine's clock shows.
    #[error(
        "this machine's clock shows {now}, but the server's certificate is valid from {not_before} to {not_after}; set the clock and try again"
    )]
    ClockOff {
        /// What the clock shows.
        now: Timestamp,
        /// From when on the server's certificate is valid.
        not_before: Timestamp,
        /// Until when.
        not_after: Timestamp,
    },

    /// The server does not accept this agent's certificate. Retrying does not help.
    #[error(
        "the server refused this agent's certificate; the agent was revoked or enrolled anew elsewhere, the server's CA was replaced while it was away (then ask an administrator for a new join token and enrol anew), or the server's clock is off"
    )]
    CertificateRefused,

    /// The roots that the agent trusts, or its own key, cannot be used. Enrol again.
    #[error("the agent's own key or trusted roots cannot be used")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A machine did not become an agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrollError {
    /// There was no connection. The token was not shown to anybody, and can still be used.
    #[error(transparent)]
    Dial(#[from] DialError),

    /// The token's time is over. Make a new one.
    #[error("the join token has expired; ask an administrator for a new one")]
    TokenExpired,

    /// The token was used before. If not by you, somebody has read it: look at the server's audit
    /// log.
    #[error(
        "the join token was used before; ask an administrator for a new one, and to look at who used it if it was not you"
    )]
    TokenUsed,

    /// The server does not know the token.
    #[error("the server does not accept the join token; it may have been replaced by a newer one")]
    TokenRefused,

    /// Too many machines enrol from this address. Try again after so long, with the same token: it
    /// was not looked at.
    #[error(
        "the server enrols no more machines from this address now; try again in {} seconds with the same token",
        .0.as_secs()
    )]
    TooOften(Duration),

    /// The server cannot issue certificates now. Try again with the same token; if it is then called
    /// used, ask for a new one.
    #[error("the server cannot enrol agents now; try again later")]
    Unavailable,

    /// The connection broke after the token was shown. It may have been spent.
    #[error(
        "the connection broke while enrolling; try again, and ask for a new token if this one is called used"
    )]
    Interrupted(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// What the server answered is not what was asked for. Its version may be another.
    #[error("the server's answer was not understood; update the agent")]
    Answer,

    /// No key could be made.
    #[error("no key could be made")]
    Key,
}

/// A session did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There was no connection.
    #[error(transparent)]
    Dial(#[from] DialError),

    /// The agent's certificate has expired. Renew it; an administrator may have to approve that.
    #[error("this agent's certificate has expired")]
    CertificateExpired,

    /// The connection came about, and the session ended before it began.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// A session has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The server closed it. Come back.
    #[error("the server closed the session")]
    Closed,

    /// The server is stopping, or cannot store anything now. Come back later.
    #[error("the server cannot serve now")]
    Unavailable,

    /// The same agent has begun a newer session. If that was not this process, two machines share
    /// one identity.
    #[error(
        "another session of this agent has begun; if this machine did not open it, its identity was copied"
    )]
    Superseded,

    /// The agent is not, or no longer, welcome. Retrying does not help.
    #[error("the server refuses this agent; it was revoked, or its certificate has expired")]
    Refused,

    /// One side does not understand the other. Update the older one.
    #[error("the server and this agent do not understand one another: {0}")]
    Misunderstood(&'static str),

    /// The connection broke. Come back.
    #[error("the connection to the server broke")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The next certificate was not issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// There was no connection.
    #[error(transparent)]
    Dial(#[from] DialError),

    /// The certificate has expired. Ask again later: an administrator has to approve it.
    #[error(
        "this agent's certificate has expired, for instance because the machine slept; an administrator must approve the agent before it can go on"
    )]
    AwaitingApproval,

    /// The agent is not, or no longer, welcome. Retrying does not help.
    #[error("the server refuses this agent; it was revoked or enrolled anew elsewhere")]
    Refused,

    /// This agent asks for too many certificates. Try again after so long, and not before.
    #[error("the server issues no more certificates to this agent for {} seconds", .0.as_secs())]
    TooOften(Duration),

    /// The server cannot issue certificates now. Try again later.
    #[error("the server cannot renew certificates now; try again later")]
    Unavailable,

    /// The connection broke. Try again: a certificate that got lost harms nobody.
    #[error("the connection to the server broke")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// What the server answered is not what was asked for. Its version may be another.
    #[error("the server's answer was not understood; update the agent")]
    Answer,

    /// No key could be made.
    #[error("no key could be made")]
    Key,

    /// The credential at hand is not usable.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}
