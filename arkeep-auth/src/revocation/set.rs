use std::collections::HashMap;

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

/// Revocations in memory, 21 bytes for each token or session before the table's slack.
#[derive(Debug, Default)]
pub struct RevocationSet {
    // Seconds in 32 bits reach to 2106 and keep an entry at 20 bytes.
    tokens: HashMap<TokenId, u32>,
    sessions: HashMap<SessionId, u32>,
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
    use uuid::Uuid;

    use super::*;

    /// A14
    #[test]
    fn a_revoked_token_takes_at_most_64_bytes() {
        let mut set = RevocationSet::default();
        let now = Timestamp::from_unix_seconds(1_750_000_000);

        for name in 0..1_000_000 {
            let token = TokenId::from_uuid(Uuid::from_u128(name));
            set.add(&Revocation::token(token, now));
        }

        // A table of the standard library is full at seven eighths, and keeps one byte beside
        // each place.
        let places = set.tokens.capacity() * 8 / 7;
        let bytes = places * (size_of::<(TokenId, u32)>() + 1);
        assert!(bytes / set.tokens.len() <= 64, "{bytes} bytes");
    }

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
