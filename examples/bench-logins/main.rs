//! The price of a storm of logins: what other requests wait, and what it costs in memory.

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arkeep_examples::measure::{memory, millis, percentile};
use arkeep_examples::{Programs, Server};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PASSWORD: &str = "a long enough passphrase";
/// So many clients try to log in, each again as soon as it is answered.
const CLIENTS: u32 = 200;
/// What one hash takes (OWASP: Argon2id with 19 MiB).
const HASH_KIB: u64 = 19 * 1_024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(20), |number| number.parse())?;
    let span = Duration::from_secs(seconds);
    let scratch = tempfile::Builder::new().prefix("arkeep-bench-").tempdir()?;
    // Each login comes from an address of its own, as far as the server is told.
    let proxied = ["--trusted-proxy", "127.0.0.0/8"];
    let programs = Programs::find()?;
    let mut server = Server::start(&programs, &scratch.path().join("server"), &proxied).await?;
    let api = server.set_up("admin@example.com", PASSWORD).await?;
    let bearer = api.bearer().unwrap_or_default().to_owned();
    let address = server.http_address();
    let process = server.process().id().ok_or("the server has ended")?;

    // The first requests of a connection and of a process are no measure.
    probe(address, &bearer, Duration::from_secs(1))
        .await
        .map_err(said)?;
    let mut quiet = probe(address, &bearer, span).await.map_err(said)?;
    let idle = memory(process, "VmRSS")?;
    let storm = Storm::begin(address);
    let mut during = probe(address, &bearer, span).await.map_err(said)?;
    let counts = storm.end(span).await;
    let most = memory(process, "VmHWM")?;

    let (quiet, during) = (percentile(&mut quiet, 99), percentile(&mut during, 99));
    let allowed = (quiet * 2).max(quiet + Duration::from_millis(10));
    line(&format!(
        "99th percentile of GET /users/me: quiet {:.2} ms, under {CLIENTS} logins {:.2} ms, ratio {:.2}; allowed {:.2} ms",
        millis(quiet),
        millis(during),
        during.as_secs_f64() / quiet.as_secs_f64(),
        millis(allowed),
    ));
    line(&format!(
        "logins: {:.1} a second decided, {:.1} a second told to come back",
        counts.decided, counts.turned_away
    ));
    let threads = std::thread::available_parallelism()?
        .get()
        .saturating_sub(1)
        .max(1);
    let hashes = HASH_KIB * u64::try_from(threads)?;
    line(&format!(
        "memory: {idle} KiB idle, {most} KiB at most: {:.2} of the {hashes} KiB that {threads} hashes take",
        (most.saturating_sub(idle)) as f64 / hashes as f64,
    ));
    Ok(())
}

/// How long each of the requests of somebody who is logged in takes, one after the other.
async fn probe(address: SocketAddr, bearer: &str, span: Duration) -> Outcome<Vec<Duration>> {
    let client = reqwest::Client::new();
    let url = format!("http://{address}/api/v1/users/me");
    let (begin, mut took) = (Instant::now(), Vec::new());
    while begin.elapsed() < span {
        let asked = Instant::now();
        let answer = client.get(&url).bearer_auth(bearer).send().await?;
        answer.error_for_status()?.bytes().await?;
        took.push(asked.elapsed());
    }
    Ok(took)
}

struct Storm {
    clients: JoinSet<()>,
    calm: Arc<AtomicBool>,
    decided: Arc<AtomicU32>,
    turned_away: Arc<AtomicU32>,
}

struct Counts {
    decided: f64,
    turned_away: f64,
}

impl Storm {
    fn begin(address: SocketAddr) -> Self {
        let mut storm = Self {
            clients: JoinSet::new(),
            calm: Arc::default(),
            decided: Arc::default(),
            turned_away: Arc::default(),
        };
        let (next, client) = (Arc::new(AtomicU32::new(0)), reqwest::Client::new());
        for _ in 0..CLIENTS {
            let (next, client) = (Arc::clone(&next), client.clone());
            let calm = Arc::clone(&storm.calm);
            let (decided, turned_away) =
                (Arc::clone(&storm.decided), Arc::clone(&storm.turned_away));
            storm.clients.spawn(async move {
                while !calm.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    match attempt(&client, address, number).await {
                        Ok(401) => decided.fetch_add(1, Ordering::Relaxed),
                        _ => turned_away.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
        storm
    }

    async fn end(mut self, span: Duration) -> Counts {
        let a_second =
            |count: &AtomicU32| f64::from(count.load(Ordering::Relaxed)) / span.as_secs_f64();
        let counts = Counts {
            decided: a_second(&self.decided),
            turned_away: a_second(&self.turned_away),
        };
        self.calm.store(true, Ordering::Relaxed);
        self.clients.shutdown().await;
        counts
    }
}

/// A login of an account and an address that nobody used before, so that nobody is throttled.
async fn attempt(
    client: &reqwest::Client,
    address: SocketAddr,
    number: u32,
) -> Result<u16, reqwest::Error> {
    let [_, a, b, c] = number.to_be_bytes();
    let email = format!("user{number}@example.com");
    let answer = client
        .post(format!("http://{address}/api/v1/auth/login"))
        .header("x-forwarded-for", format!("10.{a}.{b}.{c}"))
        .json(&json!({"email": email, "password": PASSWORD}))
        .send()
        .await?;
    Ok(answer.status().as_u16())
}

fn said(error: Box<dyn Error + Send + Sync>) -> Box<dyn Error> {
    error
}

fn line(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}
