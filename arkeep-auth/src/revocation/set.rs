use std::collections::{BTreeMap, HashMap};

use arkeep_core::{Timestamp, UserId};

use super::Revocation;
use crate::id::{Epoch, SessionId, TokenId};
use crate::token::SignedClaims;

/// What a [`RevocationSet`] can say of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it, if the set is complete.
    Live,
    /// Revoked, however old the set is.
    Revoked,
    /// The set cannot tell: it knows no epoch of this user, or only an earlier one.
    Unknown,
}

/// Revocations in memory, at most 64 bytes for each token or session.
#[derive(Debug, Default)]
pub struct RevocationSet {
    // Trees, because a hash table of a million entries doubles at once: everybody waits for it,
    // and the old one stays with the allocator. Seconds in 32 bits reach to 2106.
    tokens: BTreeMap<TokenId, u32>,
    sessions: BTreeMap<SessionId, u32>,
    epochs: HashMap<UserId, Epoch>,
}

impl RevocationSet {
    /// Adds one. An epoch never moves back, and nothing is forgotten earlier than it was said.
    pub fn add(&mut self, what: &Revocation) {
        match *what {
            Revocation::Token { token, until } => {
                keep_longer(self.tokens.entry(token).or_default(), until);
            }
            Revocation::Session { session, until } => {
                keep_longer(self.sessions.entry(session).or_default(), until);
            }
            Revocation::Subject { user, epoch } => {
                let known = self.epochs.entry(user).or_insert(epoch);
                *known = epoch.max(*known);
            }
        }
    }

    /// What it knows of these claims.
    #[must_use]
    pub fn judge(&self, claims: &SignedClaims) -> Verdict {
        if self.sessions.contains_key(&claims.session())
            || self.tokens.contains_key(&claims.token())
        {
            return Verdict::Revoked;
        }
        match self.epochs.get(&claims.user()) {
            Some(known) if claims.epoch() < *known => Verdict::Revoked,
            Some(known) if claims.epoch() == *known => Verdict::Live,
            _ => Verdict::Unknown,
        }
    }

    /// The epoch of a user, if it is known.
    #[must_use]
    pub fn epoch(&self, user: UserId) -> Option<Epoch> {
        self.epochs.get(&user).copied()
    }

    /// Forgets tokens and sessions whose time is over. Returns how many.
    pub fn prune(&mut self, now: Timestamp) -> u64 {
        let before = self.tokens.len() + self.sessions.len();
        let now = seconds(now);
        self.tokens.retain(|_, until| *until > now);
        self.sessions.retain(|_, until| *until > now);
        let after = self.tokens.len() + self.sessions.len();
        u64::try_from(before - after).unwrap_or(u64::MAX)
    }
}

fn keep_longer(known: &mut u32, until: Timestamp) {
    // Rounded up, so that nothing is forgotten within its last second.
    *known = seconds(until).saturating_add(1).max(*known);
}

fn seconds(moment: Timestamp) -> u32 {
    u32::try_from(moment.as_unix_seconds().max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use arkeep_core::SystemEntropy;

    use super::*;

    #[test]
    fn nothing_is_forgotten_within_its_last_second() {
        let mut set = RevocationSet::default();
        let until = Timestamp::from_unix_millis(1_500);
        let token = TokenId::mint(until, &SystemEntropy);
        set.add(&Revocation::Token { token, until });

        assert_eq!(set.prune(Timestamp::from_unix_millis(1_500)), 0);
        assert_eq!(set.prune(Timestamp::from_unix_millis(1_999)), 0);
        assert_eq!(set.prune(Timestamp::from_unix_millis(2_000)), 1);
    }
}
