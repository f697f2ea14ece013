use arkeep_core::{SecretString, Timestamp, UserId};

use super::error::{ChangePasswordError, LoginError};
use super::service::{Sessions, TokenPair};
use super::{Client, NewSession, OpenOutcome, RefreshToken, Renewal};
use crate::guard::{Attempt, Throttled};
use crate::id::{Epoch, SessionId};
use crate::password::PasswordCheck;
use crate::principal::Principal;
use crate::revocation::Revocation;
use crate::token::AccessToken;
use crate::user::{Credentials, PasswordChange};

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

impl Sessions {
    /// Opens a session for whoever knows the password.
    ///
    /// Unknown, disabled and mistaken cost one hash each and get one answer.
    pub async fn log_in(&self, login: &Login<'_>, now: Timestamp) -> Result<TokenPair, LoginError> {
        self.log_in_with_code(login, None, now).await
    }

    /// The same for who may have a second factor, with what they show of it.
    pub async fn log_in_with_code(
        &self,
        login: &Login<'_>,
        code: Option<&str>,
        now: Timestamp,
    ) -> Result<TokenPair, LoginError> {
        let attempt = self.admit(login, now).await?;
        settle(attempt, self.log_in_unguarded(login, code, now).await)
    }

    async fn log_in_unguarded(
        &self,
        login: &Login<'_>,
        code: Option<&str>,
        now: Timestamp,
    ) -> Result<TokenPair, LoginError> {
        let found = self.parts.users.find_by_email(login.email).await?;
        let (user, check) = self.check(found, login.password).await?;
        self.check_code(user.user, code, now).await?;
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

    /// Gives a caller who shows their password again an access token with a fresh time of
    /// authentication. The refresh token stays.
    pub async fn step_up(
        &self,
        caller: &Principal,
        password: &SecretString,
        now: Timestamp,
    ) -> Result<AccessToken, LoginError> {
        let user = self.check_again(caller, password, now).await?;
        self.freshen(caller, user.epoch, now).await
    }

    /// The same for a caller who shows a code of their second factor.
    pub async fn step_up_with_code(
        &self,
        caller: &Principal,
        code: &str,
        now: Timestamp,
    ) -> Result<AccessToken, LoginError> {
        let attempt = self.admit_again(caller, now)?;
        let checked = async {
            let right = match &self.factors {
                Some(factors) => factors.check(caller.user(), code, now).await?,
                None => false,
            };
            right.then_some(()).ok_or(LoginError::CodeRefused)
        };
        settle(attempt, checked.await)?;
        // The caller's own epoch: what was taken back meanwhile does not come back by a code.
        self.freshen(caller, caller.epoch(), now).await
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
        let session = caller.session().ok_or(LoginError::Refused)?;
        let user = self.check_again(caller, current, now).await?;
        let hash = self.parts.passwords.hash(new).await?;
        let change = PasswordChange {
            user: user.user,
            new: hash,
            epoch: user.epoch,
            keep: Some(session),
            now,
        };
        let epoch = self.parts.users.change_password(&change).await?;
        let epoch = epoch.ok_or(LoginError::Refused)?;
        let user = user.user;
        self.learn(&Revocation::Subject { user, epoch });

        let refresh = RefreshToken::generate(self.parts.entropy.as_ref());
        let renewal = Renewal {
            user,
            session,
            epoch,
            refresh: Some((refresh.digest(), now.plus(self.parts.lifetimes.refresh))),
            now,
        };
        let session = self.parts.sessions.renew(&renewal).await?;
        let session = session.ok_or(LoginError::Refused)?;
        Ok(self.pair(session, refresh, now)?)
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
        let attempt = self.admit_again(caller, now)?;
        let checked = async {
            let found = self.parts.users.find(caller.user()).await?;
            self.check(found, password).await
        };
        settle(attempt, checked.await).map(|(user, _)| user)
    }

    /// Counted apart from logins: only who holds a session of the user comes here.
    fn admit_again(
        &self,
        caller: &Principal,
        now: Timestamp,
    ) -> Result<Option<Attempt<'_>>, Throttled> {
        let account = caller.user().to_string();
        let guard = self.guard.as_deref();
        guard
            .map(|guard| guard.admit(&account, None, now))
            .transpose()
    }

    async fn check_code(
        &self,
        user: UserId,
        code: Option<&str>,
        now: Timestamp,
    ) -> Result<(), LoginError> {
        let Some(factors) = &self.factors else {
            return Ok(());
        };
        match code {
            _ if !factors.is_enrolled(user).await? => Ok(()),
            None => Err(LoginError::CodeRequired),
            Some(code) if factors.check(user, code, now).await? => Ok(()),
            Some(_) => Err(LoginError::CodeRefused),
        }
    }

    async fn freshen(
        &self,
        caller: &Principal,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<AccessToken, LoginError> {
        let renewal = Renewal {
            user: caller.user(),
            session: caller.session().ok_or(LoginError::Refused)?,
            epoch,
            refresh: None,
            now,
        };
        let session = self.parts.sessions.renew(&renewal).await?;
        let session = session.ok_or(LoginError::Refused)?;
        Ok(self.parts.issuer.issue(&session.grant, now)?)
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

    // A login that succeeded does not fail because its hash stays as it is until the next one.
    async fn strengthen(&self, user: &Credentials, password: &SecretString) {
        let Some(old) = &user.password else { return };
        if let Ok(new) = self.parts.passwords.rehash(password).await {
            self.parts.users.rehash(user.user, old, &new).await.ok();
        }
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
            Err(LoginError::Refused | LoginError::CodeRefused) => drop(attempt),
            Err(_) => attempt.undecided(),
        }
    }
    outcome
}
