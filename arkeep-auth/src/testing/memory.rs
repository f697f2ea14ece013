mod api_tokens;
mod factors;
#[cfg(feature = "oidc")]
mod login_states;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;

use crate::id::{ApiTokenId, Epoch, SessionId};
use crate::password::PasswordHash;
use crate::revocation::{Changes, Cursor, Revocation, RevocationSet, RevocationStore, Verdict};
use crate::role::Role;
use crate::session::{
    Client, Ending, LiveSession, NewSession, OpenOutcome, RefreshDigest, Renewal, RotateOutcome,
    Rotation, SealedSuccessor, SessionInfo, SessionStore,
};
use crate::token::{Grant, SignedClaims};
use crate::user::{Credentials, PasswordChange, UserStore};

/// Users, sessions and revocations in this process, gone with it.
///
/// One lock stands for the transactions of a database.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    broken: bool,
    users: HashMap<UserId, User>,
    sessions: HashMap<SessionId, Session>,
    tokens: HashMap<RefreshDigest, Token>,
    revoked: RevocationSet,
    log: Vec<Revocation>,
    factors: HashMap<UserId, factors::Factor>,
    api_tokens: HashMap<ApiTokenId, api_tokens::Kept>,
    #[cfg(feature = "oidc")]
    logins: HashMap<crate::oidc::LoginDigest, crate::oidc::LoginState>,
}

#[derive(Debug)]
struct User {
    email: String,
    password: Option<PasswordHash>,
    role: Role,
    enabled: bool,
    epoch: Epoch,
}

#[derive(Debug)]
struct Session {
    user: UserId,
    auth_time: Timestamp,
    created_at: Timestamp,
    last_used_at: Timestamp,
    ends_at: Timestamp,
    ended_at: Option<Timestamp>,
    client: Client,
}

#[derive(Debug)]
struct Token {
    session: SessionId,
    expires_at: Timestamp,
    predecessor: Option<RefreshDigest>,
    spent: Option<Spent>,
}

#[derive(Debug)]
struct Spent {
    /// Gone once the successor is spent.
    sealed_successor: Option<SealedSuccessor>,
    grace_until: Timestamp,
}

impl MemoryStore {
    /// Adds an enabled user.
    pub fn add_user(&self, user: UserId, email: &str, password: Option<PasswordHash>, role: Role) {
        self.change(|state| {
            state.users.insert(
                user,
                User {
                    email: email.to_owned(),
                    password,
                    role,
                    enabled: true,
                    epoch: Epoch::FIRST,
                },
            );
            state.note(Revocation::Subject {
                user,
                epoch: Epoch::FIRST,
            });
        });
    }

    /// Enables a user, or disables them and takes back everything of theirs.
    pub fn set_enabled(&self, user: UserId, enabled: bool, now: Timestamp) {
        self.change(|state| {
            if let Some(found) = state.users.get_mut(&user) {
                found.enabled = enabled;
            }
            if !enabled {
                state.end_all(user, None, now);
            }
        });
    }

    /// Gives a user another role and takes back every access token with the old one.
    pub fn set_role(&self, user: UserId, role: Role) {
        self.change(|state| {
            if let Some(found) = state.users.get_mut(&user) {
                found.role = role;
            }
            state.next_epoch(user);
        });
    }

    /// Removes a user and takes back everything of theirs.
    pub fn remove_user(&self, user: UserId, now: Timestamp) {
        self.change(|state| {
            state.end_all(user, None, now);
            state.users.remove(&user);
        });
    }

    /// Makes every call fail, or ends that.
    pub fn set_broken(&self, broken: bool) {
        self.change(|state| state.broken = broken);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn transaction<T>(&self, run: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        self.change(|state| {
            if state.broken {
                return Err(StoreError::unavailable("broken on purpose"));
            }
            Ok(run(state))
        })
    }
}

impl State {
    fn note(&mut self, what: Revocation) {
        self.revoked.add(&what);
        self.log.push(what);
    }

    fn next_epoch(&mut self, user: UserId) -> Option<Epoch> {
        let found = self.users.get_mut(&user)?;
        found.epoch = found.epoch.next();
        let epoch = found.epoch;
        self.note(Revocation::Subject { user, epoch });
        Some(epoch)
    }

    fn end_all(&mut self, user: UserId, keep: Option<SessionId>, now: Timestamp) -> Option<Epoch> {
        for (id, session) in &mut self.sessions {
            if session.user == user && keep != Some(*id) {
                session.ended_at.get_or_insert(now);
            }
        }
        self.next_epoch(user)
    }

    fn enabled(&self, user: UserId) -> Option<&User> {
        self.users.get(&user).filter(|user| user.enabled)
    }

    fn live(&self, id: SessionId) -> Option<LiveSession> {
        let session = self.sessions.get(&id)?;
        let user = self.enabled(session.user)?;
        Some(LiveSession {
            grant: Grant {
                user: session.user,
                session: id,
                epoch: user.epoch,
                role: user.role,
                auth_time: session.auth_time,
            },
            ends_at: session.ends_at,
        })
    }

    fn rotate(&mut self, rotation: &Rotation) -> RotateOutcome {
        let now = rotation.now;
        let Some(token) = self.tokens.get(&rotation.presented) else {
            return RotateOutcome::Unknown;
        };
        let id = token.session;
        let Some(session) = self.sessions.get(&id) else {
            return RotateOutcome::Unknown;
        };
        if session.ended_at.is_some() {
            return RotateOutcome::Ended;
        }
        if session.ends_at <= now {
            return RotateOutcome::Expired;
        }
        let Some(live) = self.live(id) else {
            return RotateOutcome::UserDisabled;
        };
        match &token.spent {
            Some(Spent {
                sealed_successor: Some(sealed),
                grace_until,
            }) if now < *grace_until => RotateOutcome::Retried {
                session: live,
                sealed_successor: sealed.clone(),
            },
            Some(_) => self.punish(id, live.grant.user, now),
            None if token.expires_at <= now => RotateOutcome::Expired,
            None => {
                self.exchange(id, rotation);
                RotateOutcome::Rotated(live)
            }
        }
    }

    fn punish(&mut self, id: SessionId, user: UserId, now: Timestamp) -> RotateOutcome {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.ended_at = Some(now);
        }
        let epoch = self.next_epoch(user);
        RotateOutcome::Reused {
            user,
            session: id,
            epoch: epoch.unwrap_or(Epoch::FIRST),
        }
    }

    fn exchange(&mut self, id: SessionId, rotation: &Rotation) {
        let mut before = None;
        if let Some(token) = self.tokens.get_mut(&rotation.presented) {
            token.spent = Some(Spent {
                sealed_successor: Some(rotation.sealed_successor.clone()),
                grace_until: rotation.grace_until,
            });
            before = token.predecessor;
        }
        if let Some(spent) = before
            .and_then(|digest| self.tokens.get_mut(&digest))
            .and_then(|token| token.spent.as_mut())
        {
            spent.sealed_successor = None;
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.last_used_at = rotation.now;
            session.client = rotation.client.clone();
            self.tokens.insert(
                rotation.successor,
                Token {
                    session: id,
                    expires_at: rotation.successor_expires_at.min(session.ends_at),
                    predecessor: Some(rotation.presented),
                    spent: None,
                },
            );
        }
    }

    fn renew(&mut self, renewal: &Renewal) -> Option<LiveSession> {
        let live = self.live(renewal.session)?;
        let session = self.sessions.get_mut(&renewal.session)?;
        let alive = session.ended_at.is_none() && renewal.now < session.ends_at;
        let same = live.grant.user == renewal.user && live.grant.epoch == renewal.epoch;
        if !alive || !same {
            return None;
        }
        session.auth_time = renewal.now;
        if let Some((digest, expires_at)) = renewal.refresh {
            session.last_used_at = renewal.now;
            let expires_at = expires_at.min(session.ends_at);
            self.tokens
                .retain(|_, token| token.session != renewal.session);
            self.tokens.insert(
                digest,
                Token {
                    session: renewal.session,
                    expires_at,
                    predecessor: None,
                    spent: None,
                },
            );
        }
        self.live(renewal.session)
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn open(&self, new: &NewSession) -> Result<OpenOutcome, StoreError> {
        self.transaction(|state| {
            let Some(user) = state.enabled(new.user) else {
                return OpenOutcome::Refused;
            };
            if user.epoch != new.epoch {
                return OpenOutcome::EpochMoved;
            }
            state.sessions.insert(
                new.id,
                Session {
                    user: new.user,
                    auth_time: new.now,
                    created_at: new.now,
                    last_used_at: new.now,
                    ends_at: new.ends_at,
                    ended_at: None,
                    client: new.client.clone(),
                },
            );
            state.tokens.insert(
                new.refresh,
                Token {
                    session: new.id,
                    expires_at: new.refresh_expires_at.min(new.ends_at),
                    predecessor: None,
                    spent: None,
                },
            );
            state
                .live(new.id)
                .map_or(OpenOutcome::Refused, OpenOutcome::Opened)
        })
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<RotateOutcome, StoreError> {
        self.transaction(|state| state.rotate(rotation))
    }

    async fn renew(&self, renewal: &Renewal) -> Result<Option<LiveSession>, StoreError> {
        self.transaction(|state| state.renew(renewal))
    }

    async fn end(
        &self,
        which: &Ending,
        now: Timestamp,
    ) -> Result<Option<(UserId, SessionId)>, StoreError> {
        self.transaction(|state| {
            let (id, owner) = match *which {
                Ending::Session { user, session } => (session, Some(user)),
                Ending::Token(digest) => (state.tokens.get(&digest)?.session, None),
            };
            let session = state.sessions.get_mut(&id)?;
            if owner.is_some_and(|owner| owner != session.user) {
                return None;
            }
            session.ended_at.get_or_insert(now);
            let user = session.user;
            state.note(Revocation::session(id, now));
            Some((user, id))
        })
    }

    async fn end_all(&self, user: UserId, now: Timestamp) -> Result<Option<Epoch>, StoreError> {
        self.transaction(|state| state.end_all(user, None, now))
    }

    async fn list(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionInfo>, StoreError> {
        self.transaction(|state| {
            let mut list: Vec<SessionInfo> = state
                .sessions
                .iter()
                .filter(|(_, session)| session.user == user)
                .filter(|(_, session)| session.ended_at.is_none() && now < session.ends_at)
                .map(|(id, session)| SessionInfo {
                    id: *id,
                    created_at: session.created_at,
                    last_used_at: session.last_used_at,
                    ends_at: session.ends_at,
                    client: session.client.clone(),
                })
                .collect();
            list.sort_by_key(|info| std::cmp::Reverse((info.created_at, info.id)));
            list
        })
    }

    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.transaction(|state| {
            let before = state.sessions.len();
            state.sessions.retain(|_, session| {
                let held = |ended: Timestamp| now < ended.plus(Revocation::HOLD);
                now < session.ends_at && session.ended_at.is_none_or(held)
            });
            let sessions = &state.sessions;
            state
                .tokens
                .retain(|_, token| sessions.contains_key(&token.session));
            u64::try_from(before - sessions.len()).unwrap_or(u64::MAX)
        })
    }
}

#[async_trait]
impl RevocationStore for MemoryStore {
    async fn revoke(&self, what: &Revocation) -> Result<(), StoreError> {
        self.transaction(|state| {
            if let Revocation::Subject { user, epoch } = *what
                && let Some(user) = state.users.get_mut(&user)
            {
                user.epoch = epoch.max(user.epoch);
            }
            state.note(*what);
        })
    }

    async fn is_revoked(&self, claims: &SignedClaims) -> Result<bool, StoreError> {
        self.transaction(|state| state.revoked.judge(claims) != Verdict::Live)
    }

    async fn changes(&self, after: Cursor) -> Result<Changes, StoreError> {
        self.transaction(|state| {
            let from = usize::try_from(after.as_i64()).unwrap_or(0);
            Changes {
                revoked: state.log.iter().skip(from).copied().collect(),
                cursor: Cursor::from_i64(i64::try_from(state.log.len()).unwrap_or(i64::MAX)),
            }
        })
    }

    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.transaction(|state| state.revoked.prune(now))
    }
}

#[async_trait]
impl UserStore for MemoryStore {
    async fn find_by_email(&self, email: &str) -> Result<Option<Credentials>, StoreError> {
        self.transaction(|state| {
            state
                .users
                .iter()
                .find(|(_, user)| user.email.eq_ignore_ascii_case(email))
                .map(|(id, user)| user.credentials(*id))
        })
    }

    async fn find(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        self.transaction(|state| {
            let found = state.users.get(&user)?;
            Some(found.credentials(user))
        })
    }

    async fn rehash(
        &self,
        user: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        self.transaction(|state| match state.users.get_mut(&user) {
            Some(user) if user.password.as_ref() == Some(old) => {
                user.password = Some(new.clone());
                true
            }
            _ => false,
        })
    }

    async fn change_password(&self, change: &PasswordChange) -> Result<Option<Epoch>, StoreError> {
        self.transaction(|state| {
            let user = state.users.get_mut(&change.user)?;
            if !user.enabled || user.epoch != change.epoch {
                return None;
            }
            user.password = Some(change.new.clone());
            state.end_all(change.user, change.keep, change.now)
        })
    }
}

impl User {
    fn credentials(&self, user: UserId) -> Credentials {
        Credentials {
            user,
            password: self.password.clone(),
            enabled: self.enabled,
            role: self.role,
            epoch: self.epoch,
        }
    }
}
