use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arkeep_core::{Entropy, SecretString, Timestamp};

use super::claims::WireClaims;
use super::jws;
use super::keys::{Jwks, KeySet};
use super::{
    AccessToken, Grant, IssueError, SignedClaims, TokenIssuer, TokenVerifier, VerifyError,
};
use crate::id::TokenId;

/// What every token of this issuer says, and how long it lives.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    issuer: String,
    audience: String,
    lifetime: Duration,
    leeway: Duration,
}

impl TokenConfig {
    /// The longest that a token may live.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
    /// The most by which the clocks of two replicas may differ.
    pub const MAX_LEEWAY: Duration = Duration::from_secs(5);

    /// Tokens of `issuer` for `audience`: 15 minutes, no more than 5 seconds of leeway.
    #[must_use]
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            lifetime: Duration::from_secs(15 * 60),
            leeway: Self::MAX_LEEWAY,
        }
    }

    /// Sets how long a token lives: 1 second to [`MAX_LIFETIME`](Self::MAX_LIFETIME).
    pub fn lifetime(mut self, lifetime: Duration) -> Result<Self, ConfigError> {
        if lifetime < Duration::from_secs(1) || lifetime > Self::MAX_LIFETIME {
            return Err(ConfigError::Lifetime);
        }
        self.lifetime = lifetime;
        Ok(self)
    }

    /// Sets by how much clocks may differ, up to [`MAX_LEEWAY`](Self::MAX_LEEWAY).
    pub fn leeway(mut self, leeway: Duration) -> Result<Self, ConfigError> {
        if leeway > Self::MAX_LEEWAY {
            return Err(ConfigError::Leeway);
        }
        self.leeway = leeway;
        Ok(self)
    }

    /// For how long a key must be honoured after it has signed for the last time: until that token
    /// has expired everywhere.
    #[must_use]
    pub fn outlived_by(&self) -> Duration {
        self.lifetime.saturating_add(self.leeway)
    }
}

/// A setting is outside of what is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Choose a lifetime from 1 second to 24 hours.
    #[error("an access token lives from 1 second to 24 hours")]
    Lifetime,
    /// Choose a leeway of at most 5 seconds.
    #[error("the leeway is at most 5 seconds")]
    Leeway,
}

/// Issues and verifies access tokens with one [`KeySet`], which can be exchanged while it serves.
#[derive(Debug)]
pub struct AccessTokens {
    config: TokenConfig,
    keys: RwLock<Arc<KeySet>>,
    entropy: Arc<dyn Entropy>,
}

impl AccessTokens {
    /// Begins with these keys.
    #[must_use]
    pub fn new(config: TokenConfig, keys: KeySet, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            config,
            keys: RwLock::new(Arc::new(keys)),
            entropy,
        }
    }

    /// Exchanges the keys. The next token is signed and verified with the new ones.
    pub fn replace_keys(&self, keys: KeySet) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// What is published at `/.well-known/jwks.json`.
    #[must_use]
    pub fn jwks(&self, now: Timestamp) -> Jwks {
        self.keys().jwks(now)
    }

    /// How long a token lives: `expires_in` of an answer.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        self.config.lifetime
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn accept(&self, claims: &WireClaims<'_>, now: Timestamp) -> Result<(), VerifyError> {
        if claims.iss != self.config.issuer {
            return Err(VerifyError::Issuer);
        }
        if claims.aud != self.config.audience {
            return Err(VerifyError::Audience);
        }
        let latest_start = now.plus(self.config.leeway).as_unix_seconds();
        if claims.iat > latest_start || claims.nbf.is_some_and(|start| start > latest_start) {
            return Err(VerifyError::NotYetValid);
        }
        // Ours never live longer, so that a revocation need not be kept longer either.
        let lifetime = claims.exp.checked_sub(claims.iat);
        let longest = i64::try_from(TokenConfig::MAX_LIFETIME.as_secs()).unwrap_or(i64::MAX);
        if !lifetime.is_some_and(|lifetime| (1..=longest).contains(&lifetime)) {
            return Err(VerifyError::Claims);
        }
        if Timestamp::from_unix_seconds(claims.exp) <= now.minus(self.config.leeway) {
            return Err(VerifyError::Expired);
        }
        Ok(())
    }
}

impl TokenIssuer for AccessTokens {
    fn issue(&self, grant: &Grant, now: Timestamp) -> Result<AccessToken, IssueError> {
        let id = TokenId::mint(now, self.entropy.as_ref());
        let iat = now.as_unix_seconds();
        let lifetime = i64::try_from(self.config.lifetime.as_secs()).unwrap_or(i64::MAX);
        let claims = WireClaims {
            iss: Cow::Borrowed(&self.config.issuer),
            aud: Cow::Borrowed(&self.config.audience),
            sub: grant.user,
            iat,
            nbf: None,
            exp: iat.saturating_add(lifetime),
            jti: id,
            sid: grant.session,
            epoch: grant.epoch,
            role: grant.role,
            auth_time: grant.auth_time.as_unix_seconds(),
        };
        let payload = serde_json::to_vec(&claims).map_err(|_| IssueError::Signing)?;

        let keys = self.keys();
        let signer = keys.signer(now);
        let mut text = format!("{}.{}", signer.header(), jws::encode(&payload));
        let signature = signer
            .key()
            .sign(text.as_bytes())
            .ok_or(IssueError::Signing)?;
        text.push('.');
        text.push_str(&jws::encode(&signature));

        Ok(AccessToken {
            id,
            expires_at: Timestamp::from_unix_seconds(claims.exp),
            text: SecretString::from(text),
        })
    }
}

impl TokenVerifier for AccessTokens {
    fn verify(&self, token: &str, now: Timestamp) -> Result<SignedClaims, VerifyError> {
        let payload = jws::open(token, &self.keys(), now)?;
        let claims: WireClaims<'_> = jws::parse_object(&payload).ok_or(VerifyError::Claims)?;
        claims.check(|claims| self.accept(claims, now))
    }
}

#[cfg(test)]
mod tests {
    use arkeep_core::{SystemEntropy, UserId};

    use super::super::keys::SigningKey;
    use super::*;
    use crate::id::{Epoch, SessionId};
    use crate::role::Role;

    const NOW: i64 = 1_750_000_000;

    fn tokens() -> AccessTokens {
        let keys = KeySet::new(SigningKey::generate(&SystemEntropy));
        AccessTokens::new(TokenConfig::new("i", "a"), keys, Arc::new(SystemEntropy))
    }

    fn claims(iat: i64, nbf: Option<i64>, exp: i64) -> WireClaims<'static> {
        let now = Timestamp::from_unix_seconds(NOW);
        WireClaims {
            iss: "i".into(),
            aud: "a".into(),
            sub: UserId::mint(now, &SystemEntropy),
            iat,
            nbf,
            exp,
            jti: TokenId::mint(now, &SystemEntropy),
            sid: SessionId::mint(now, &SystemEntropy),
            epoch: Epoch::FIRST,
            role: Role::Viewer,
            auth_time: NOW,
        }
    }

    /// A2: what we never write, and whoever has the key might.
    #[test]
    fn times_that_we_would_not_write_are_judged_to_the_second() {
        let tokens = tokens();
        let now = Timestamp::from_unix_seconds(NOW);
        let (day, soon) = (86_400, NOW + 60);
        for (claims, expected) in [
            (claims(NOW, Some(NOW + 5), soon), Ok(())),
            (
                claims(NOW, Some(NOW + 6), soon),
                Err(VerifyError::NotYetValid),
            ),
            (claims(NOW, Some(i64::MIN), soon), Ok(())),
            (claims(NOW + 5, None, soon), Ok(())),
            (claims(NOW + 6, None, soon), Err(VerifyError::NotYetValid)),
            (claims(NOW, None, NOW + day), Ok(())),
            (claims(NOW, None, NOW + day + 1), Err(VerifyError::Claims)),
            (claims(NOW, None, NOW + 1), Ok(())),
            (claims(NOW, None, NOW), Err(VerifyError::Claims)),
            (claims(i64::MIN, None, soon), Err(VerifyError::Claims)),
            (claims(NOW - 64, None, NOW - 4), Ok(())),
            (claims(NOW - 65, None, NOW - 5), Err(VerifyError::Expired)),
        ] {
            let (iat, nbf, exp) = (claims.iat, claims.nbf, claims.exp);
            assert_eq!(tokens.accept(&claims, now), expected, "{iat} {nbf:?} {exp}");
        }
    }
}
