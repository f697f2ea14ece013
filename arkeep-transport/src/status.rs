//! The one place where refusals become gRPC statuses, and are read back.
//!
//! A refusal says no more than its reader has a right to know. The reason travels as a word beside
//! the status code, so that an agent can tell its owner what to do without reading prose.

#[cfg(feature = "server")]
use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Why a call was refused, as far as the caller may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The caller is not welcome here. Says nothing of what exists, nor why.
    Unwelcome,
    /// The join token is not one of ours.
    Token,
    /// The join token was ours; its time is over.
    TokenExpired,
    /// The join token was ours; it was spent.
    TokenUsed,
    /// The signing request cannot be honoured.
    Csr,
    /// The certificate has expired, and an administrator has not yet approved another.
    AwaitingApproval,
    /// The caller asks for too many certificates, and is to come back after so many seconds.
    TooOften(u32),
    /// The server cannot tell now.
    Unavailable,
    /// The server is stopping.
    Stopping,
    /// The same agent has begun a newer session.
    Superseded,
    /// The server ended the session.
    Closed,
    /// The caller spoke nonsense, too much, or did not listen.
    Misbehaved(&'static str),
}

const REASON: &str = "arkeep-reason";
/// Whole seconds.
const RETRY_AFTER: &str = "arkeep-retry-after";

impl Refusal {
    /// Too often, by so much.
    #[cfg(feature = "server")]
    pub(crate) fn too_often(wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1_000);
        Self::TooOften(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    const fn parts(self) -> (Code, &'static str, &'static str) {
        match self {
            Self::Unwelcome => (
                Code::Unauthenticated,
                "unwelcome",
                "a valid agent certificate is required",
            ),
            Self::Token => (Code::Unauthenticated, "token", "the join token was refused"),
            Self::TokenExpired => (
                Code::FailedPrecondition,
                "token-expired",
                "the join token has expired",
            ),
            Self::TokenUsed => (
                Code::FailedPrecondition,
                "token-used",
                "the join token was used before",
            ),
            Self::Csr => (
                Code::InvalidArgument,
                "csr",
                "the signing request was refused",
            ),
            Self::AwaitingApproval => (
                Code::FailedPrecondition,
                "awaiting-approval",
                "the certificate has expired; an administrator must approve the agent",
            ),
            Self::TooOften(_) => (
                Code::ResourceExhausted,
                "too-often",
                "certificates are asked for too often",
            ),
            Self::Unavailable => (Code::Unavailable, "unavailable", "try again later"),
            Self::Stopping => (Code::Unavailable, "stopping", "the server is stopping"),
            Self::Superseded => (
                Code::Aborted,
                "superseded",
                "a newer session of this agent has begun",
            ),
            Self::Closed => (Code::Cancelled, "closed", "the session was closed"),
            Self::Misbehaved(how) => (Code::InvalidArgument, "misbehaved", how),
        }
    }

    /// What a status stands for, when it was made from a refusal.
    #[cfg(feature = "client")]
    pub(crate) fn of(status: &Status) -> Option<Self> {
        let word = status.metadata().get(REASON)?.to_str().ok()?;
        let seconds = status.metadata().get(RETRY_AFTER);
        let seconds = seconds.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        [
            Self::Unwelcome,
            Self::Token,
            Self::TokenExpired,
            Self::TokenUsed,
            Self::Csr,
            Self::AwaitingApproval,
            Self::TooOften(seconds.unwrap_or(60)),
            Self::Unavailable,
            Self::Stopping,
            Self::Superseded,
            Self::Closed,
            Self::Misbehaved("the server did not understand this agent"),
        ]
        .into_iter()
        .find(|refusal| refusal.parts().1 == word)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let (code, word, text) = refusal.parts();
        let mut status = Self::new(code, text);
        status
            .metadata_mut()
            .insert(REASON, MetadataValue::from_static(word));
        if let Refusal::TooOften(seconds) = refusal {
            status
                .metadata_mut()
                .insert(RETRY_AFTER, MetadataValue::from(seconds));
        }
        status
    }
}
