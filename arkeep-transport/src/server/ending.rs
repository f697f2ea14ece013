use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::status::Refusal;

/// How a session ends: once, for one reason, and everyone who waits for it hears.
#[derive(Debug, Default)]
pub(super) struct Ending {
    reason: OnceLock<Reason>,
    token: CancellationToken,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The agent hung up, or the connection broke.
    Gone,
    /// The gateway ended it.
    Closed,
    /// The same agent opened another.
    Superseded,
    /// The agent is not, or no longer, welcome.
    Refused,
    /// The agent does not read, or says what makes no sense.
    Misbehaved(&'static str),
    /// What it said could not be stored.
    Unavailable,
    /// The server stops.
    Shutdown,
}

impl Ending {
    /// Ends it, unless it has ended for another reason before.
    pub(super) fn end(&self, reason: Reason) {
        // Set before anyone is woken, so that whoever wakes finds it.
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        self.reason.get().copied()
    }

    pub(super) async fn ended(&self) {
        self.token.cancelled().await;
    }

    pub(super) fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Gone | Reason::Closed => Self::Closed,
            Reason::Superseded => Self::Superseded,
            Reason::Refused => Self::Unwelcome,
            Reason::Misbehaved(how) => Self::Misbehaved(how),
            Reason::Unavailable => Self::Unavailable,
            Reason::Shutdown => Self::Stopping,
        }
    }
}
