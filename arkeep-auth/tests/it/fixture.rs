//! The whole crate on memory stores.

use std::error::Error;
use std::sync::Arc;

use arkeep_auth::password::{HashCost, HashPool, PasswordError};
use arkeep_auth::session::{Client, Lifetimes, Login, LoginError, SessionParts, TokenPair};
use arkeep_auth::testing::MemoryStore;
use arkeep_auth::token::{AccessToken, AccessTokens, KeySet, SigningKey, TokenConfig};
use arkeep_auth::{
    AuthError, Authenticator, LoginGuard, Passwords, Principal, RevocationCache, Role,
    SecondFactors, Sessions, UserStore,
};
use arkeep_core::{SecretString, SystemEntropy, Timestamp, UserId};

pub(crate) type TestResult = Result<(), Box<dyn Error>>;

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct House {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) cache: Arc<RevocationCache>,
    pub(crate) sessions: Sessions,
    pub(crate) gate: Authenticator,
    pub(crate) passwords: Passwords,
    pub(crate) tokens: Arc<AccessTokens>,
    pub(crate) client: Client,
}

impl House {
    pub(crate) async fn build() -> Result<Self, Box<dyn Error>> {
        Self::hashing_at(HashCost::for_testing()).await
    }

    pub(crate) async fn hashing_at(cost: HashCost) -> Result<Self, Box<dyn Error>> {
        let store = Arc::new(MemoryStore::default());
        Self::assemble(store, Arc::new(tokens()), cost).await
    }

    /// Another replica on the same store, with the same keys.
    pub(crate) async fn on(
        store: Arc<MemoryStore>,
        tokens: Arc<AccessTokens>,
    ) -> Result<Self, Box<dyn Error>> {
        Self::assemble(store, tokens, HashCost::for_testing()).await
    }

    pub(crate) async fn assemble(
        store: Arc<MemoryStore>,
        tokens: Arc<AccessTokens>,
        cost: HashCost,
    ) -> Result<Self, Box<dyn Error>> {
        let cache = Arc::new(RevocationCache::load(Arc::clone(&store) as _).await?);
        let pool = HashPool::start(2, 16)?;
        let passwords = Passwords::new(cost, pool, Arc::new(SystemEntropy));
        let gate = Authenticator::new(Arc::clone(&tokens) as _, Arc::clone(&cache) as _);
        let users: Arc<dyn UserStore> = Arc::clone(&store) as _;
        Ok(Self {
            sessions: sessions(users, &store, &cache, &tokens, &passwords),
            store,
            cache,
            gate,
            passwords,
            tokens,
            client: Client::default(),
        })
    }

    /// The same, with users that somebody else looks up.
    pub(crate) fn with_users(mut self, users: Arc<dyn UserStore>) -> Self {
        self.sessions = sessions(
            users,
            &self.store,
            &self.cache,
            &self.tokens,
            &self.passwords,
        );
        self
    }

    /// The same, with a guard at the door.
    pub(crate) fn guarded(mut self) -> Self {
        self.sessions = self.sessions.guarded(Arc::new(LoginGuard::default()));
        self
    }

    /// The same, asking for second factors.
    pub(crate) fn with_second_factors(mut self) -> Self {
        let store = Arc::clone(&self.store);
        let factors = SecondFactors::new(store, Arc::new(SystemEntropy));
        self.sessions = self.sessions.with_second_factors(factors);
        self
    }

    pub(crate) async fn add(&self, email: &str, role: Role) -> Result<UserId, PasswordError> {
        let user = UserId::mint(noon(), &SystemEntropy);
        let hash = self.passwords.hash(&SecretString::from(PASSWORD)).await?;
        self.store.add_user(user, email, Some(hash), role);
        self.cache.refresh().await.ok();
        Ok(user)
    }

    pub(crate) async fn log_in(&self, email: &str) -> Result<TokenPair, LoginError> {
        self.log_in_with(email, PASSWORD).await
    }

    pub(crate) async fn log_in_with(
        &self,
        email: &str,
        password: &str,
    ) -> Result<TokenPair, LoginError> {
        self.log_in_at(email, password, noon()).await
    }

    pub(crate) async fn log_in_at(
        &self,
        email: &str,
        password: &str,
        now: Timestamp,
    ) -> Result<TokenPair, LoginError> {
        let login = Login {
            email,
            password: &SecretString::from(password),
            client: &self.client,
        };
        self.sessions.log_in(&login, now).await
    }

    pub(crate) async fn who(&self, token: &AccessToken) -> Result<Principal, AuthError> {
        self.gate.authenticate(token.expose(), noon()).await
    }
}

fn sessions(
    users: Arc<dyn UserStore>,
    store: &Arc<MemoryStore>,
    cache: &Arc<RevocationCache>,
    tokens: &Arc<AccessTokens>,
    passwords: &Passwords,
) -> Sessions {
    Sessions::new(SessionParts {
        users,
        sessions: Arc::clone(store) as _,
        revocations: Arc::clone(cache) as _,
        issuer: Arc::clone(tokens) as _,
        passwords: passwords.clone(),
        entropy: Arc::new(SystemEntropy),
        lifetimes: Lifetimes::default(),
    })
}

pub(crate) fn tokens() -> AccessTokens {
    let keys = KeySet::new(SigningKey::generate(&SystemEntropy));
    let config = TokenConfig::new("https://backup.example", "https://backup.example");
    AccessTokens::new(config, keys, Arc::new(SystemEntropy))
}

pub(crate) fn noon() -> Timestamp {
    Timestamp::from_unix_seconds(1_750_000_000)
}
