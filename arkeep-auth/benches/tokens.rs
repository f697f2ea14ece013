//! What a request pays for its token, beside the bare signature check.
//!
//! First the memory of a revoked token, then divan's table. Below it stand the ratios of medians, measured with the two taking turns,
//! so that a machine that slows down slows both.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arkeep_auth::revocation::RevocationSet;
use arkeep_auth::testing::MemoryStore;
use arkeep_auth::token::{
    AccessTokens, Grant, KeySet, SigningKey, TokenConfig, TokenIssuer, VerificationKey,
};
use arkeep_auth::{
    Authenticator, Epoch, Principal, Revocation, RevocationCache, RevocationStore, Role, SessionId,
    TokenId,
};
use arkeep_core::{SystemEntropy, Timestamp, UserId};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use divan::{Bencher, black_box};
use tokio::runtime::Runtime;
use tokio::time::{Instant, MissedTickBehavior, interval};

const REVOKED: [usize; 3] = [0, 1_000, 1_000_000];

fn main() {
    // First, while the allocator has nothing to give again.
    print_memory();
    divan::main();
    print_ratios();
}

#[divan::bench]
fn bare_signature(bencher: Bencher<'_, '_>) {
    let house = House::build(0);
    bencher.bench_local(|| house.check_signature());
}

#[divan::bench(args = REVOKED)]
fn authenticate(bencher: Bencher<'_, '_>, revoked: usize) {
    let house = House::build(revoked);
    bencher.bench_local(|| house.authenticate());
}

#[divan::bench]
fn issue(bencher: Bencher<'_, '_>) {
    let house = House::build(0);
    bencher.bench_local(|| house.tokens.issue(&house.grant, now()).is_ok());
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark")]
fn print_ratios() {
    const ROUNDS: usize = 4_000;
    println!("\nauthenticate / bare signature check, medians of {ROUNDS} each:");
    for revoked in REVOKED {
        let house = House::build(revoked);
        let (mut bare, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(timed(|| house.check_signature()));
            whole.push(timed(|| house.authenticate().is_some()));
        }
        let (bare, whole) = (median(&mut bare), median(&mut whole));
        let ratio = whole.as_secs_f64() / bare.as_secs_f64();
        println!("{revoked:>9} revoked: {whole:>9.2?} / {bare:>9.2?} = {ratio:.3}");
    }
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark")]
fn print_memory() {
    let before = resident_bytes();
    let mut set = RevocationSet::default();
    for _ in 0..1_000_000 {
        let token = TokenId::mint(now(), &SystemEntropy);
        set.add(&Revocation::token(token, now()));
    }
    let each = resident_bytes().saturating_sub(before) / 1_000_000;
    println!("memory: {each} bytes resident for each of 1000000 revoked tokens");
    drop(black_box(set));
}

struct House {
    runtime: Runtime,
    tokens: Arc<AccessTokens>,
    gate: Authenticator,
    grant: Grant,
    token: String,
    signed: String,
    signature: Vec<u8>,
    key: ParsedPublicKey,
}

impl House {
    #[expect(clippy::unwrap_used, reason = "a benchmark that cannot begin ends")]
    fn build(revoked: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let signing = SigningKey::generate(&SystemEntropy);
        let public: VerificationKey = signing.verification_key();
        let config = TokenConfig::new("https://backup.example", "https://backup.example");
        let tokens = AccessTokens::new(config, KeySet::new(signing), Arc::new(SystemEntropy));
        let tokens = Arc::new(tokens);
        let store = Arc::new(MemoryStore::default());
        let user = UserId::mint(now(), &SystemEntropy);
        store.add_user(user, "ada@example.com", None, Role::Viewer);
        let cache = runtime.block_on(async {
            for _ in 0..revoked {
                let token = TokenId::mint(now(), &SystemEntropy);
                store
                    .revoke(&Revocation::token(token, now()))
                    .await
                    .unwrap();
            }
            Arc::new(RevocationCache::load(store as _).await.unwrap())
        });
        // As a server does it.
        let fresh = Arc::clone(&cache);
        runtime.spawn(async move {
            let mut ticks = interval(Duration::from_millis(250));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                fresh.refresh().await.unwrap();
            }
        });
        let grant = Grant {
            user,
            session: SessionId::mint(now(), &SystemEntropy),
            epoch: Epoch::FIRST,
            role: Role::Viewer,
            auth_time: now(),
        };
        let token = tokens.issue(&grant, now()).unwrap().expose().to_owned();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        Self {
            gate: Authenticator::new(Arc::clone(&tokens) as _, cache as _),
            signed: signed.to_owned(),
            signature: URL_SAFE_NO_PAD.decode(signature).unwrap(),
            key: ParsedPublicKey::new(&ED25519, public.as_bytes()).unwrap(),
            runtime,
            tokens,
            grant,
            token,
        }
    }

    fn check_signature(&self) -> bool {
        let signed = black_box(self.signed.as_bytes());
        self.key
            .verify_sig(signed, black_box(&self.signature))
            .is_ok()
    }

    fn authenticate(&self) -> Option<Principal> {
        let _entered = self.runtime.enter();
        let answer = pin!(self.gate.authenticate(black_box(&self.token), now()));
        // It never waits: the copy is young.
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(principal) => principal.ok(),
            Poll::Pending => None,
        }
    }
}

fn timed(run: impl FnOnce() -> bool) -> Duration {
    let start = Instant::now();
    let done = run();
    let took = start.elapsed();
    assert!(done, "what is measured succeeds");
    took
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Linux tells it in pages of 4 KiB.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_usize) * 4_096
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_750_000_000)
}
