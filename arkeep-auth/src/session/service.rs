use std::sync::Arc;

use arkeep_core::{Entropy, StoreError, Timestamp, UserId};

use super::error::RefreshError;
use super::{
    Client, Ending, Lifetimes, LiveSession, RefreshToken, RotateOutcome, Rotation, SessionInfo,
    SessionStore,
};
use crate::factor::SecondFactors;
use crate::guard::LoginGuard;
use crate::id::{Epoch, SessionId};
use crate::password::Passwords;
use crate::principal::Principal;
use crate::revocation::{Revocation, RevocationStore};
use crate::token::{AccessToken, IssueError, TokenIssuer};
use crate::user::UserStore;

/// What [`Sessions`] stands on.
#[derive(Debug)]
pub struct SessionParts {
    /// Knows the users.
    pub users: Arc<dyn UserStore>,
    /// Keeps the sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// Keeps what is no longer honoured; the same that the [`Authenticator`](crate::Authenticator)
    /// asks.
    pub revocations: Arc<dyn RevocationStore>,
    /// Signs access tokens.
    pub issuer: Arc<dyn TokenIssuer>,
    /// Hashes passwords.
    pub passwords: Passwords,
    /// Makes tokens and ids.
    pub entropy: Arc<dyn Entropy>,
    /// How long things last.
    pub lifetimes: Lifetimes,
}

/// Logs users in and out.
///
/// Whatever ends something here has ended it when the call returns: neither token of the session is
/// accepted any more by a store that shares the truth, nor by the cache of this process.
#[derive(Debug)]
pub struct Sessions {
    pub(super) parts: SessionParts,
    pub(super) guard: Option<Arc<LoginGuard>>,
    pub(super) factors: Option<SecondFactors>,
}

/// What a request to log out shows. Either ends both tokens.
#[derive(Debug, Default)]
pub struct LogOut<'a> {
    /// The refresh token of the cookie.
    pub refresh: Option<&'a RefreshToken>,
    /// The caller that the access token proved.
    pub principal: Option<&'a Principal>,
}

/// What a login or a refresh gives.
#[derive(Debug)]
pub struct TokenPair {
    /// For requests.
    pub access: AccessToken,
    /// For the next pair.
    pub refresh: RefreshToken,
    /// The session they are of.
    pub session: LiveSession,
}

impl Sessions {
    /// Stands on these parts.
    #[must_use]
    pub const fn new(parts: SessionParts) -> Self {
        Self {
            parts,
            guard: None,
            factors: None,
        }
    }

    /// Asks users who have a second factor for it.
    #[must_use]
    pub fn with_second_factors(mut self, factors: SecondFactors) -> Self {
        self.factors = Some(factors);
        self
    }

    /// Makes whoever guesses wait. Without it, a login costs a guesser one hash.
    #[must_use]
    pub fn guarded(mut self, guard: Arc<LoginGuard>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Exchanges a refresh token for the next pair.
    pub async fn refresh(
        &self,
        presented: &RefreshToken,
        client: &Client,
        now: Timestamp,
    ) -> Result<TokenPair, RefreshError> {
        let entropy = self.parts.entropy.as_ref();
        let successor = RefreshToken::generate(entropy);
        let rotation = Rotation {
            presented: presented.digest(),
            successor: successor.digest(),
            successor_expires_at: now.plus(self.parts.lifetimes.refresh),
            sealed_successor: presented.seal_successor(&successor, entropy),
            grace_until: now.plus(self.parts.lifetimes.grace),
            client: client.clone(),
            now,
        };
        let (session, refresh) = match self.parts.sessions.rotate(&rotation).await? {
            RotateOutcome::Rotated(session) => (session, successor),
            RotateOutcome::Retried {
                session,
                sealed_successor,
            } => {
                let kept = presented.open_successor(&sealed_successor);
                let kept = kept.ok_or_else(|| {
                    StoreError::Corrupt("a sealed successor does not open".to_owned())
                })?;
                (session, kept)
            }
            RotateOutcome::Reused {
                user,
                session,
                epoch,
            } => {
                self.learn(&Revocation::Subject { user, epoch });
                return Err(RefreshError::Reused { user, session });
            }
            RotateOutcome::Unknown
            | RotateOutcome::Expired
            | RotateOutcome::Ended
            | RotateOutcome::UserDisabled => return Err(RefreshError::Refused),
        };
        Ok(self.pair(session, refresh, now)?)
    }

    /// Ends the session of each token that is shown, and every access token of it.
    ///
    /// Returns the sessions that ended. A token of no session is no error: it is dead anyhow.
    pub async fn log_out(
        &self,
        shown: &LogOut<'_>,
        now: Timestamp,
    ) -> Result<Vec<(UserId, SessionId)>, StoreError> {
        let mut ended = Vec::new();
        if let Some(token) = shown.refresh {
            ended.extend(self.end(&Ending::Token(token.digest()), now).await?);
        }
        if let Some((user, session)) = shown
            .principal
            .and_then(|caller| Some((caller.user(), caller.session()?)))
        {
            let of_caller = self.end(&Ending::Session { user, session }, now).await?;
            if of_caller.is_none() {
                // A session that came to its end may be forgotten before its last access token
                // expires, and that is the one that is shown here.
                let last = Revocation::session(session, now);
                self.parts.revocations.revoke(&last).await?;
            }
            ended.extend(of_caller.filter(|session| !ended.contains(session)));
        }
        Ok(ended)
    }

    /// Ends one session of a user. Returns `false` when the user has no such session.
    pub async fn end_one(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let which = Ending::Session { user, session };
        Ok(self.end(&which, now).await?.is_some())
    }

    /// Ends every session of a user, and every access token that was issued to them before.
    ///
    /// Returns the new epoch, or `None` when there is no such user.
    pub async fn log_out_everywhere(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Option<Epoch>, StoreError> {
        let epoch = self.parts.sessions.end_all(user, now).await?;
        if let Some(epoch) = epoch {
            self.learn(&Revocation::Subject { user, epoch });
        }
        Ok(epoch)
    }

    /// The user's sessions that are alive, the newest first.
    pub async fn list(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionInfo>, StoreError> {
        self.parts.sessions.list(user, now).await
    }

    /// Forgets sessions and revocations that count no more. Run it every few minutes.
    pub async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let sessions = self.parts.sessions.prune(now).await?;
        let revocations = self.parts.revocations.prune(now).await?;
        Ok(sessions.saturating_add(revocations))
    }

    async fn end(
        &self,
        which: &Ending,
        now: Timestamp,
    ) -> Result<Option<(UserId, SessionId)>, StoreError> {
        let ended = self.parts.sessions.end(which, now).await?;
        if let Some((_, session)) = ended {
            self.learn(&Revocation::session(session, now));
        }
        Ok(ended)
    }

    /// Tells the copy in this process what the store wrote down in the step before.
    pub(super) fn learn(&self, what: &Revocation) {
        self.parts.revocations.learn(what);
    }

    pub(super) fn pair(
        &self,
        session: LiveSession,
        refresh: RefreshToken,
        now: Timestamp,
    ) -> Result<TokenPair, IssueError> {
        Ok(TokenPair {
            access: self.parts.issuer.issue(&session.grant, now)?,
            refresh,
            session,
        })
    }
}
