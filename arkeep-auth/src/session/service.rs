use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{Entropy, SecretString, StoreError, Timestamp, UserId};

use super::{
    Client, Ending, Lifetimes, LiveSession, NewSession, OpenOutcome, RefreshToken, Renewal,
    RotateOutcome, Rotation, SessionInfo, SessionStore,
};
use crate::guard::{Attempt, LoginGuard, Throttled};
use crate::id::{Epoch, SessionId};
use crate::password::{PasswordCheck, PasswordError, Passwords};
use crate::principal::Principal;
use crate::revocation::{Revocation, RevocationStore};
use crate::token::{AccessToken, IssueError, TokenIssuer};
use crate::user::{Credentials, PasswordChange, UserStore};

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
    parts: SessionParts,
    guard: Option<Arc<LoginGuard>>,
}

/// Somebody wants in.
#[derive(Debug)]
pub struct Login<'a> {
    /// Who they say they are.
    pub email: &'a str,
    /// What they show for it.
    pub password: &'a SecretString,
    /// Where they come from.
    pub client: &'a Client,
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
        Self { parts, guard: None }
    }

    /// Makes whoever guesses wait. Without it, a login costs a guesser one hash.
    #[must_use]
    pub fn guarded(mut self, guard: Arc<LoginGuard>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Opens a session for whoever knows the password.
    ///
    /// Unknown, disabled and mistaken cost one hash each and get one answer.
    pub async fn log_in(&self, login: &Login<'_>, now: Timestamp) -> Result<TokenPair, LoginError> {
        let attempt = self.admit(login, now).await?;
        settle(attempt, self.log_in_unguarded(login, now).await)
    }

    async fn log_in_unguarded(
        &self,
        login: &Login<'_>,
        now: Timestamp,
    ) -> Result<TokenPair, LoginError> {
        let found = self.parts.users.find_by_email(login.email).await?;
        let (user, check) = self.check(found, login.password).await?;
        let pair = self.open(user.clone(), login.client, now).await?;
        if check == PasswordCheck::MatchesOutdated {
            self.strengthen(&user, login.password).await;
        }
        Ok(pair)
    }

    /// Opens a session for a user whose identity another has proved: the setup, or an identity
    /// provider.
    pub async fn open_for(
        &self,
        user: UserId,
        client: &Client,
        now: Timestamp,
    ) -> Result<TokenPair, LoginError> {
        let found = self.parts.users.find(user).await?;
        let user = found.ok_or(LoginError::Refused)?;
        self.open(user, client, now).await
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
                self.revoke(&Revocation::Subject { user, epoch }).await?;
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
        let by_token = shown.refresh.map(|token| Ending::Token(token.digest()));
        let by_caller = shown.principal.map(|caller| Ending::Session {
            user: caller.user(),
            session: caller.session(),
        });
        let mut ended = Vec::new();
        for which in by_token.into_iter().chain(by_caller) {
            if let Some(session) = self.end(&which, now).await?
                && !ended.contains(&session)
            {
                ended.push(session);
            }
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
            self.revoke(&Revocation::Subject { user, epoch }).await?;
        }
        Ok(epoch)
    }

    /// The user's sessions that are alive, the newest first.
    pub async fn list(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionInfo>, StoreError> {
        self.parts.sessions.list(user, now).await
    }

    /// Gives a caller who shows their password again an access token with a fresh time of
    /// authentication. The refresh token stays.
    pub async fn step_up(
        &self,
        caller: &Principal,
        password: &SecretString,
        now: Timestamp,
    ) -> Result<AccessToken, LoginError> {
        let user = self.check_again(caller, password, now).await?;
        let renewal = Renewal {
            user: user.user,
            session: caller.session(),
            epoch: user.epoch,
            refresh: None,
            now,
        };
        let session = self.parts.sessions.renew(&renewal).await?;
        let session = session.ok_or(LoginError::Refused)?;
        Ok(self.parts.issuer.issue(&session.grant, now)?)
    }

    /// Changes the caller's own password: every other session ends, this one goes on with a new
    /// pair.
    pub async fn change_password(
        &self,
        caller: &Principal,
        current: &SecretString,
        new: &SecretString,
        now: Timestamp,
    ) -> Result<TokenPair, ChangePasswordError> {
        let user = self.check_again(caller, current, now).await?;
        let hash = self.parts.passwords.hash(new).await?;
        let change = PasswordChange {
            user: user.user,
            new: hash,
            epoch: user.epoch,
            keep: Some(caller.session()),
            now,
        };
        let epoch = self.parts.users.change_password(&change).await?;
        let epoch = epoch.ok_or(LoginError::Refused)?;
        let user = user.user;
        self.revoke(&Revocation::Subject { user, epoch }).await?;

        let refresh = RefreshToken::generate(self.parts.entropy.as_ref());
        let renewal = Renewal {
            user,
            session: caller.session(),
            epoch,
            refresh: Some((refresh.digest(), now.plus(self.parts.lifetimes.refresh))),
            now,
        };
        let session = self.parts.sessions.renew(&renewal).await?;
        let session = session.ok_or(LoginError::Refused)?;
        Ok(self.pair(session, refresh, now)?)
    }

    /// Forgets sessions and revocations that count no more. Run it every few minutes.
    pub async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let sessions = self.parts.sessions.prune(now).await?;
        let revocations = self.parts.revocations.prune(now).await?;
        Ok(sessions.saturating_add(revocations))
    }

    async fn admit(
        &self,
        login: &Login<'_>,
        now: Timestamp,
    ) -> Result<Option<Attempt<'_>>, LoginError> {
        let Some(guard) = &self.guard else {
            return Ok(None);
        };
        let address = login.client.address;
        let told = match guard.admit(login.email, address, now) {
            Ok(attempt) => return Ok(Some(attempt)),
            Err(told) => told,
        };
        // After a restart the guard knows no address. The sessions of the user do; who has none is
        // asked for all the same, so that waiting tells nobody which accounts there are.
        let Some(address) = address else {
            return Err(told.into());
        };
        let found = self.parts.users.find_by_email(login.email).await?;
        let nobody = UserId::from_uuid(uuid::Uuid::nil());
        let user = found.map_or(nobody, |user| user.user);
        let sessions = self.parts.sessions.list(user, now).await?;
        let mut addresses = sessions.iter().filter_map(|session| session.client.address);
        if !addresses.any(|known| known.to_canonical() == address.to_canonical()) {
            return Err(told.into());
        }
        guard.recognise(login.email, address, now);
        Ok(Some(guard.admit(login.email, Some(address), now)?))
    }

    /// The caller shows their password once more.
    async fn check_again(
        &self,
        caller: &Principal,
        password: &SecretString,
        now: Timestamp,
    ) -> Result<Credentials, LoginError> {
        // Counted apart from logins: only who holds a session of the user comes here.
        let account = caller.user().to_string();
        let guard = self.guard.as_deref();
        let attempt = guard.map(|guard| guard.admit(&account, None, now));
        let checked = async {
            let found = self.parts.users.find(caller.user()).await?;
            self.check(found, password).await
        };
        settle(attempt.transpose()?, checked.await).map(|(user, _)| user)
    }

    async fn check(
        &self,
        found: Option<Credentials>,
        password: &SecretString,
    ) -> Result<(Credentials, PasswordCheck), LoginError> {
        let stored = found.as_ref().and_then(|user| user.password.as_ref());
        let check = self.parts.passwords.verify(password, stored).await?;
        // Asked last, so that it makes no difference before.
        match found {
            Some(user) if user.enabled && check.matches() => Ok((user, check)),
            _ => Err(LoginError::Refused),
        }
    }

    async fn open(
        &self,
        mut user: Credentials,
        client: &Client,
        now: Timestamp,
    ) -> Result<TokenPair, LoginError> {
        for _ in 0..OPEN_ATTEMPTS {
            let entropy = self.parts.entropy.as_ref();
            let refresh = RefreshToken::generate(entropy);
            let new = NewSession {
                id: SessionId::mint(now, entropy),
                user: user.user,
                epoch: user.epoch,
                refresh: refresh.digest(),
                refresh_expires_at: now.plus(self.parts.lifetimes.refresh),
                ends_at: now.plus(self.parts.lifetimes.session),
                client: client.clone(),
                now,
            };
            match self.parts.sessions.open(&new).await? {
                OpenOutcome::Opened(session) => return Ok(self.pair(session, refresh, now)?),
                OpenOutcome::Refused => return Err(LoginError::Refused),
                OpenOutcome::EpochMoved => {}
            }
            // Everything of the user was taken back while the password was checked. That harms
            // this login only if the password was changed too.
            let again = self.parts.users.find(user.user).await?;
            match again {
                Some(again) if again.password == user.password => user = again,
                _ => return Err(LoginError::Refused),
            }
        }
        Err(LoginError::Refused)
    }

    async fn end(
        &self,
        which: &Ending,
        now: Timestamp,
    ) -> Result<Option<(UserId, SessionId)>, StoreError> {
        let ended = self.parts.sessions.end(which, now).await?;
        if let Some((_, session)) = ended {
            self.revoke(&Revocation::session(session, now)).await?;
        }
        Ok(ended)
    }

    async fn revoke(&self, what: &Revocation) -> Result<(), StoreError> {
        self.parts.revocations.revoke(what).await
    }

    // A login that succeeded does not fail because its hash stays as it is until the next one.
    async fn strengthen(&self, user: &Credentials, password: &SecretString) {
        let Some(old) = &user.password else { return };
        if let Ok(new) = self.parts.passwords.rehash(password).await {
            self.parts.users.rehash(user.user, old, &new).await.ok();
        }
    }

    fn pair(
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

const OPEN_ATTEMPTS: usize = 3;

/// Tells the guard how an attempt ended. A refusal is what was counted in advance.
fn settle<T>(
    attempt: Option<Attempt<'_>>,
    outcome: Result<T, LoginError>,
) -> Result<T, LoginError> {
    if let Some(attempt) = attempt {
        match &outcome {
            Ok(_) => attempt.succeeded(),
            Err(LoginError::Refused) => drop(attempt),
            Err(_) => attempt.undecided(),
        }
    }
    outcome
}

/// A login did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// Unknown, disabled, or the wrong password. Answer 401, the same for all.
    #[error("the login is refused")]
    Refused,
    /// Too many failures before this attempt, which was not looked at. Answer 429 with
    /// `Retry-After`.
    #[error("too many failed logins")]
    Throttled {
        /// How long to wait, in whole seconds.
        retry_after: Duration,
    },
    /// Too many passwords are being hashed. Answer 503 with `Retry-After`.
    #[error("too many logins at once")]
    Busy,
    /// A store could not answer. Answer 503.
    #[error("the login could not be decided")]
    Unavailable(#[from] StoreError),
    /// Something that nobody outside can mend. Answer 500.
    #[error("the login failed inside")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Throttled> for LoginError {
    fn from(told: Throttled) -> Self {
        Self::Throttled {
            retry_after: told.retry_after,
        }
    }
}

impl From<IssueError> for LoginError {
    fn from(error: IssueError) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl From<PasswordError> for LoginError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            other => Self::Internal(Box::new(other)),
        }
    }
}

/// A refresh token was not exchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// Unknown, too old, ended, or its user is disabled. Answer 401 and clear the cookie.
    #[error("the refresh token is not accepted")]
    Refused,
    /// It was used before: somebody stole it. The session and everything of the user's are dead by
    /// now. Answer as for [`Refused`](Self::Refused); write it to the audit log and tell somebody.
    #[error("the refresh token was used before")]
    Reused {
        /// Whose it was.
        user: UserId,
        /// The session that ended.
        session: SessionId,
    },
    /// A store could not answer. Answer 503; the client may try again with the same token.
    #[error("the refresh could not be decided")]
    Unavailable(#[from] StoreError),
    /// Something that nobody outside can mend. Answer 500.
    #[error("the refresh failed inside")]
    Internal(#[from] IssueError),
}

/// A password was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangePasswordError {
    /// The current password is wrong, or one of the other reasons for which a login fails.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The new password will not do. Tell the user why.
    #[error("the new password is refused")]
    New(#[source] PasswordError),
}

impl From<PasswordError> for ChangePasswordError {
    fn from(error: PasswordError) -> Self {
        if error.is_about_the_password() {
            Self::New(error)
        } else {
            Self::Login(error.into())
        }
    }
}

impl From<StoreError> for ChangePasswordError {
    fn from(error: StoreError) -> Self {
        Self::Login(error.into())
    }
}

impl From<IssueError> for ChangePasswordError {
    fn from(error: IssueError) -> Self {
        Self::Login(error.into())
    }
}
