//! A1: the keys of access tokens follow one another by themselves.
#![expect(
    clippy::indexing_slicing,
    reason = "the numbers are drawn below the lengths"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arkeep_auth::testing::MemoryStore;
use arkeep_auth::token::{AccessToken, Grant, KeyFollower as _, KeyLife, TokenConfig};
use arkeep_auth::token::{TokenIssuer as _, TokenVerifier as _, VerifyError};
use arkeep_auth::{AuthError, Authenticator, Epoch, Role, SessionId};
use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock, StoreError, SystemEntropy, Timestamp, UserId};
use arkeep_server::store::KeyStore;
use arkeep_server::store::keys::{StoredAuthority, StoredTokenKey};
use arkeep_server::store::sqlite::SqliteStore;
use arkeep_server::token_keys::{TokenKeys, TokenKeysParts};
use arkeep_vault::{Keyring, Sealer, Vault};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use tempfile::TempDir;

use super::Fallible;

/// The store, with an account of how often it was asked, and a switch that takes it away.
#[derive(Debug)]
struct Watched {
    store: SqliteStore,
    reads: AtomicUsize,
    gone: AtomicBool,
    /// What it says from now on, without a look into the database.
    frozen: OnceLock<Vec<StoredTokenKey>>,
}

#[async_trait]
impl KeyStore for Watched {
    async fn authorities(&self) -> Result<Vec<StoredAuthority>, StoreError> {
        self.store.authorities().await
    }

    async fn establish_authority(
        &self,
        authority: &StoredAuthority,
    ) -> Result<StoredAuthority, StoreError> {
        self.store.establish_authority(authority).await
    }

    async fn token_keys(&self) -> Result<Vec<StoredTokenKey>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.gone.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("gone"));
        }
        match self.frozen.get() {
            Some(keys) => Ok(keys.clone()),
            None => self.store.token_keys().await,
        }
    }

    async fn establish_token_key(
        &self,
        key: &StoredTokenKey,
    ) -> Result<StoredTokenKey, StoreError> {
        self.store.establish_token_key(key).await
    }

    async fn follow_token_key(
        &self,
        last: &str,
        next: &StoredTokenKey,
        from: Timestamp,
    ) -> Result<bool, StoreError> {
        self.store.follow_token_key(last, next, from).await
    }

    async fn remove_token_keys(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.store.remove_token_keys(before).await
    }
}

/// A database, a clock, and somebody who is logged in.
struct Site {
    clock: Arc<ManualClock>,
    keys: Arc<Watched>,
    sealer: Arc<dyn Sealer>,
    life: KeyLife,
    users: Arc<MemoryStore>,
    ada: UserId,
    _directory: TempDir,
}

/// One of the servers on it.
struct Replica {
    keys: Arc<TokenKeys>,
    gate: Authenticator,
}

impl Site {
    async fn new(life: Duration) -> Fallible<Self> {
        let now = Timestamp::from_unix_seconds(1_795_435_200);
        let directory = TempDir::new()?;
        let users = Arc::new(MemoryStore::default());
        let ada = UserId::mint(now, &SystemEntropy);
        users.add_user(ada, "ada@example.org", None, Role::Viewer);
        Ok(Self {
            clock: Arc::new(ManualClock::at(now)),
            keys: Arc::new(Watched {
                store: SqliteStore::create(&directory.path().join("arkeep.db")).await?,
                reads: AtomicUsize::new(0),
                gone: AtomicBool::new(false),
                frozen: OnceLock::new(),
            }),
            sealer: Arc::new(Vault::new(Keyring::generate(0)?)),
            life: KeyLife::new(life).ok_or("no life")?,
            users,
            ada,
            _directory: directory,
        })
    }

    async fn replica(&self) -> Fallible<Replica> {
        let parts = TokenKeysParts {
            keys: Arc::clone(&self.keys) as _,
            sealer: Arc::clone(&self.sealer),
            clock: Arc::clone(&self.clock) as _,
            entropy: Arc::new(SystemEntropy),
            life: self.life,
        };
        let keys = TokenKeys::open(parts, TokenConfig::new("arkeep", "arkeep")).await?;
        let keys = Arc::new(keys);
        let gate = Authenticator::new(keys.tokens(), Arc::clone(&self.users) as _);
        let gate = gate.following(Arc::clone(&keys) as _);
        Ok(Replica { keys, gate })
    }

    fn issue(&self, at: &Replica) -> Fallible<AccessToken> {
        let now = self.clock.now();
        let grant = Grant {
            user: self.ada,
            session: SessionId::mint(now, &SystemEntropy),
            epoch: Epoch::FIRST,
            role: Role::Viewer,
            auth_time: now,
        };
        Ok(at.keys.tokens().issue(&grant, now)?)
    }

    async fn let_in(&self, at: &Replica, token: &AccessToken) -> Result<(), AuthError> {
        let now = self.clock.now();
        at.gate.authenticate(token.expose(), now).await.map(|_| ())
    }

    fn published(&self, at: &Replica) -> Vec<String> {
        let keys = at.keys.tokens().jwks(self.clock.now()).keys;
        keys.into_iter().map(|key| key.kid).collect()
    }

    async fn stored(&self) -> Fallible<usize> {
        Ok(self.keys.store.token_keys().await?.len())
    }
}

/// The key that a token names.
pub(super) fn kid(token: &str) -> Fallible<String> {
    let header = token.split('.').next().unwrap_or_default();
    let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    Ok(header["kid"].as_str().ok_or("no kid")?.to_owned())
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// A1
#[tokio::test]
async fn a_key_is_published_signs_is_honoured_and_goes() -> Fallible {
    let site = Site::new(90 * DAY).await?;
    let server = site.replica().await?;
    let first = site.published(&server);

    site.clock.advance(89 * DAY - SECOND);
    server.keys.proceed().await?;
    assert_eq!(site.published(&server), first, "not yet");
    site.clock.advance(SECOND);
    server.keys.proceed().await?;
    server.keys.proceed().await?;
    let both = site.published(&server);
    assert_eq!((both.len(), &both[..1]), (2, &first[..]), "a day ahead");

    site.clock.advance(DAY - SECOND);
    let last_of_old = site.issue(&server)?;
    assert_eq!(kid(last_of_old.expose())?, both[0]);
    site.clock.advance(SECOND);
    let first_of_new = site.issue(&server)?;
    assert_eq!(kid(first_of_new.expose())?, both[1]);

    // The old one lives until its last token is dead everywhere.
    site.clock.advance(15 * 60 * SECOND);
    server.keys.proceed().await?;
    site.let_in(&server, &last_of_old).await?;
    assert_eq!(site.published(&server), both);
    site.clock.advance(5 * SECOND);
    assert_eq!(site.published(&server), both[1..]);
    server.keys.proceed().await?;
    assert_eq!(site.stored().await?, 2, "a replica may be behind");
    site.clock.advance(61 * SECOND);
    server.keys.proceed().await?;
    assert_eq!(site.stored().await?, 1);
    let again = site.replica().await?;
    assert_eq!(site.published(&again), both[1..]);
    Ok(())
}

/// A1: a server that was off when a key's time came.
#[tokio::test]
async fn a_key_that_is_long_overdue_signs_until_the_next_is_known() -> Fallible {
    let site = Site::new(90 * DAY).await?;
    let first = site.published(&site.replica().await?);
    site.clock.advance(400 * DAY);

    let server = site.replica().await?;
    server.keys.proceed().await?;

    let token = site.issue(&server)?;
    assert_eq!(kid(token.expose())?, first[0]);
    assert_eq!(site.published(&server).len(), 2);
    site.clock.advance(DAY);
    assert_ne!(kid(site.issue(&server)?.expose())?, first[0]);
    Ok(())
}

/// A1: one winner, and everybody follows.
#[tokio::test]
async fn of_many_that_see_the_time_come_one_makes_a_key() -> Fallible {
    let site = Site::new(90 * DAY).await?;
    let mut replicas = Vec::new();
    for _ in 0..8 {
        replicas.push(site.replica().await?);
    }
    site.clock.advance(89 * DAY);

    let all = replicas.iter().map(|replica| replica.keys.proceed());
    for done in futures_util::future::join_all(all).await {
        done?;
    }

    assert_eq!(site.stored().await?, 2);
    for replica in &replicas {
        replica.keys.proceed().await?;
        assert_eq!(site.published(replica), site.published(&replicas[0]));
    }
    Ok(())
}

/// A1: a replica that has heard of nothing takes a token of the new key, after one look.
#[tokio::test]
async fn a_replica_that_lags_looks_before_it_refuses() -> Fallible {
    let site = Site::new(90 * DAY).await?;
    let (one, other) = (site.replica().await?, site.replica().await?);
    site.clock.advance(89 * DAY);
    one.keys.proceed().await?;
    site.clock.advance(DAY);
    let token = site.issue(&one)?;
    let refused = other.keys.tokens().verify(token.expose(), site.clock.now());
    assert_eq!(refused.err(), Some(VerifyError::UnknownKey));
    // As long ago as it may look again.
    tokio::time::pause();
    tokio::time::advance(SECOND).await;
    tokio::time::resume();

    site.let_in(&other, &token).await?;

    let [mut there, mut here] = [&other, &one].map(|at| site.published(at));
    there.sort();
    here.sort();
    assert_eq!(there, here);
    Ok(())
}

/// A1: whoever invents keys makes a replica look once a second, also while nothing answers.
#[tokio::test]
async fn strangers_do_not_make_it_look_more_than_once_a_second() -> Fallible {
    let site = Site::new(90 * DAY).await?;
    let elsewhere = Site::new(90 * DAY).await?;
    let foreign = elsewhere.issue(&elsewhere.replica().await?)?;
    let server = site.replica().await?;
    let keys = site.keys.store.token_keys().await?;
    site.keys.frozen.get_or_init(|| keys);
    tokio::time::pause();

    for gone in [false, true] {
        site.keys.gone.store(gone, Ordering::SeqCst);
        tokio::time::advance(SECOND).await;
        let before = site.keys.reads.load(Ordering::SeqCst);
        for _ in 0..100 {
            let refused = site.let_in(&server, &foreign).await;
            match (gone, &refused) {
                (false, Err(AuthError::Refused(VerifyError::UnknownKey))) => {}
                (true, Err(AuthError::Unavailable(_))) => {}
                _ => return Err(format!("{gone}: {refused:?}").into()),
            }
        }
        assert_eq!(site.keys.reads.load(Ordering::SeqCst), before + 1);
    }
    Ok(())
}

/// A1: a store that is away for a while costs no token that is known.
#[tokio::test]
async fn a_store_that_is_away_takes_no_key_away() -> Fallible {
    let site = Site::new(90 * DAY).await?;
    let server = site.replica().await?;
    let token = site.issue(&server)?;
    site.keys.gone.store(true, Ordering::SeqCst);

    assert!(server.keys.proceed().await.is_err());

    site.let_in(&server, &token).await?;
    assert!(server.keys.look_again().await.is_err());
    site.keys.gone.store(false, Ordering::SeqCst);
    server.keys.proceed().await?;
    server.keys.look_again().await?;
    Ok(())
}

/// What one of two replicas does next.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Proceed(usize),
    Crash(usize),
    Issue(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_u64..900).prop_map(Step::Pass),
        2 => (0_usize..2).prop_map(Step::Proceed),
        1 => (0_usize..2).prop_map(Step::Crash),
        4 => (0_usize..2).prop_map(Step::Issue),
    ];
    prop::collection::vec(step, 20..150)
}

/// Two replicas with keys of an hour, which look at least every five minutes.
struct World {
    site: Site,
    replicas: Vec<Replica>,
    looked_at: [Timestamp; 2],
    issued: Vec<(AccessToken, Timestamp)>,
}

impl World {
    async fn take(&mut self, step: &Step) -> Fallible {
        match *step {
            Step::Pass(seconds) => self.site.clock.advance(Duration::from_secs(seconds)),
            Step::Proceed(replica) => self.proceed(replica).await?,
            Step::Crash(replica) => {
                self.replicas[replica] = self.site.replica().await?;
                self.looked_at[replica] = self.site.clock.now();
            }
            Step::Issue(_) => {}
        }
        for replica in 0..2 {
            let now = self.site.clock.now();
            if now.since(self.looked_at[replica]) >= Duration::from_secs(300) {
                self.proceed(replica).await?;
            }
        }
        if let Step::Issue(replica) = *step {
            let token = self.site.issue(&self.replicas[replica])?;
            self.issued.push((token, self.site.clock.now()));
        }
        Ok(())
    }

    async fn proceed(&mut self, replica: usize) -> Fallible {
        self.replicas[replica].keys.proceed().await?;
        self.looked_at[replica] = self.site.clock.now();
        Ok(())
    }

    /// Whether every token that has not expired is let in by each replica, and no key is older than
    /// it may be.
    async fn holds(&self) -> Fallible {
        let now = self.site.clock.now();
        for (token, issued_at) in &self.issued {
            if now.since(*issued_at) >= Duration::from_secs(15 * 60) {
                continue;
            }
            for (number, replica) in self.replicas.iter().enumerate() {
                let seen = self.site.let_in(replica, token).await;
                seen.map_err(|error| format!("{number}: {error:?} of {issued_at}"))?;
            }
        }
        let stored = self.site.keys.store.token_keys().await?;
        for replica in &self.replicas {
            let signs = kid(self.site.issue(replica)?.expose())?;
            let key = stored
                .iter()
                .find(|key| key.id == signs)
                .ok_or("not stored")?;
            // Looked at every five minutes, with 900 seconds that pass at once.
            if now.since(key.created_at) > Duration::from_secs(3_600 + 900 + 300 + 900) {
                return Err(format!("a key of {} signs", key.created_at).into());
            }
        }
        Ok(())
    }
}

fn walk(steps: &[Step]) -> Fallible {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let site = Site::new(Duration::from_secs(3_600)).await?;
        let mut world = World {
            looked_at: [site.clock.now(); 2],
            replicas: vec![site.replica().await?, site.replica().await?],
            issued: Vec::new(),
            site,
        };
        for (number, step) in steps.iter().enumerate() {
            world.take(step).await?;
            let held = world.holds().await;
            held.map_err(|error| format!("after step {number}: {error}"))?;
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// A1
    #[test]
    fn no_token_dies_of_a_new_key(steps in steps()) {
        if let Err(error) = walk(&steps) {
            return Err(TestCaseError::fail(error.to_string()));
        }
    }
}

#[cfg(feature = "failpoints")]
mod kills {
    use std::path::Path;

    use reqwest::Method;
    use sqlx::{AssertSqlSafe, Connection as _};

    use super::super::client::Client;
    use super::super::process::{run, serving};
    use super::super::{ADA, Fallible, PASSWORD, Server};

    async fn change(data: &Path, statement: &str) -> Fallible {
        let url = format!("sqlite://{}", data.join("arkeep.db").display());
        let mut database = sqlx::SqliteConnection::connect(&url).await?;
        sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&mut database)
            .await?;
        Ok(database.close().await?)
    }

    async fn count(data: &Path) -> Fallible<i64> {
        let url = format!("sqlite://{}", data.join("arkeep.db").display());
        let mut database = sqlx::SqliteConnection::connect(&url).await?;
        let count = sqlx::query_scalar("SELECT count(*) FROM token_keys")
            .fetch_one(&mut database)
            .await?;
        database.close().await?;
        Ok(count)
    }

    /// A1: killed before, between and after the steps, no session is lost, and no key is made twice.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_kill_at_every_step_loses_no_session() -> Fallible {
        let dir = Server::with_admin().await?.0.stop().await?;
        let data = dir.path().join("data");
        let (mut process, http) = serving(&data, &[]).await?;
        let mut ada = Client::new(&format!("http://{http}"));
        ada.log_in(ADA, PASSWORD).await?;
        process.kill().await?;
        const OLD: &str = "UPDATE token_keys SET created_at = created_at - 90 * 86400000 \
             WHERE retired_at IS NULL";
        const YOUNG: &str = "UPDATE token_keys SET created_at = created_at + 90 * 86400000 \
             WHERE retired_at IS NULL";
        // Not so long ago that Ada's token would have expired.
        const SIGNS: &str = "UPDATE token_keys SET retired_at = retired_at - 86400000 \
             WHERE retired_at IS NOT NULL";
        const OVER: &str = "UPDATE token_keys SET retired_at = retired_at - 2 * 3600000 \
             WHERE retired_at IS NOT NULL";

        for (point, before, left, after) in [
            ("token-keys.decided", OLD, 1, Some(YOUNG)),
            ("token-keys.stored", OLD, 2, Some(SIGNS)),
            ("token-keys.removed", OVER, 1, None),
        ] {
            change(&data, before).await?;
            let path = data.to_string_lossy();
            let serve = ["serve", "--data-dir", &path, "--http-addr", "127.0.0.1:0"];
            let serve = [&serve[..], &["--grpc-addr", "127.0.0.1:0"]].concat();
            let died = run(&serve, &[("ARKEEP_FAILPOINT", point)]).await?;
            assert_eq!(died.code, None, "{point}: {}", died.errors);
            assert_eq!(count(&data).await?, left, "{point}");

            if let Some(after) = after {
                change(&data, after).await?;
            }
            ada = still_in(&data, &ada)
                .await
                .map_err(|error| format!("{point}: {error}"))?;
            let verified = run(&["vault", "verify", "--data-dir", &path], &[]).await?;
            assert_eq!(verified.code, Some(0), "{point}: {}", verified.output);
        }
        assert_eq!(count(&data).await?, 1);
        Ok(())
    }

    /// Both tokens are good at the next run of the server; returns the next pair.
    async fn still_in(data: &Path, client: &Client) -> Fallible<Client> {
        let (mut process, http) = serving(data, &[]).await?;
        let mut next = Client::new(&format!("http://{http}"));
        next.bearer.clone_from(&client.bearer);
        next.get("/api/v1/users/me").await?.expect(200)?;
        next.bearer = None;
        next.cookie.clone_from(&client.cookie);
        let refresh = next.send(Method::POST, "/api/v1/auth/refresh", None, &[]);
        let answer = refresh.await?.expect(200)?;
        next.take(&answer);
        next.get("/api/v1/users/me").await?.expect(200)?;
        process.kill().await?;
        Ok(next)
    }
}
