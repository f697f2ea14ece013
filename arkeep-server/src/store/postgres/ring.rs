use std::fmt;
use std::future::Future;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use arkeep_vault::RingPlace;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::{is_undefined_table, place, prepare};
use crate::failpoint;

/// The key ring of all replicas: the one row of the table `vault_ring`.
///
/// It lies in the database whose secrets it opens. Whatever copy of that there is, a standby or a
/// backup, holds the ring of its time, for a data key is committed before anything that it sealed.
///
/// Whoever seals waits, as they would for a file: the work is done by a thread of its own, on a
/// connection of its own, so that it needs nothing that the waiting side may hold.
pub struct PostgresRing {
    name: String,
    asks: UnboundedSender<Ask>,
}

type Kept = Option<(u64, Vec<u8>)>;

struct Ask {
    what: What,
    answer: SyncSender<io::Result<Kept>>,
}

enum What {
    Generation,
    Read,
    Replace(Option<u64>, Vec<u8>),
}

impl PostgresRing {
    /// The ring in this database. Nothing is asked of it yet.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn new(options: PgConnectOptions) -> io::Result<Self> {
        let name = format!("vault_ring of {}", place(&options));
        let (asks, asked) = unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        // It ends when the last to ask has gone.
        thread::Builder::new()
            .name("vault-ring".to_owned())
            .spawn(move || runtime.block_on(answer_all(options, asked)))?;
        Ok(Self { name, asks })
    }

    fn ask(&self, what: What) -> io::Result<Kept> {
        let (answer, answered) = sync_channel(1);
        let gone = || io::Error::other("whoever reads the key ring has gone");
        let ask = Ask { what, answer };
        self.asks.send(ask).map_err(|_| gone())?;
        patiently(|| answered.recv()).map_err(|_| gone())?
    }
}

impl RingPlace for PostgresRing {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn generation(&self) -> io::Result<Option<u64>> {
        let kept = self.ask(What::Generation)?;
        Ok(kept.map(|(generation, _)| generation))
    }

    fn read(&self) -> io::Result<Option<(u64, Vec<u8>)>> {
        self.ask(What::Read)
    }

    fn replace(&self, expected: Option<u64>, ring: &[u8]) -> io::Result<Option<u64>> {
        let kept = self.ask(What::Replace(expected, ring.to_owned()))?;
        Ok(kept.map(|(generation, _)| generation))
    }
}

impl fmt::Debug for PostgresRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresRing")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Waits, and lets other tasks of this thread go on elsewhere meanwhile if they can.
fn patiently<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

async fn answer_all(options: PgConnectOptions, mut asked: UnboundedReceiver<Ask>) {
    let mut connection = None;
    while let Some(Ask { what, answer }) = asked.recv().await {
        let answered = within(answer_one(&options, &mut connection, &what)).await;
        if answered.is_err() {
            // Whatever state it is in. A write that was under way is made or not: the next read
            // tells.
            connection = None;
        }
        // Whoever asked may have gone.
        let _ = answer.send(answered);
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn answer_one(
    options: &PgConnectOptions,
    held: &mut Option<PgConnection>,
    what: &What,
) -> io::Result<Kept> {
    if let Some(connection) = held.as_mut()
        && connection.ping().await.is_err()
    {
        *held = None;
    }
    let connection = match held {
        Some(connection) => connection,
        None => {
            let mut new = PgConnection::connect_with(options).await.map_err(failed)?;
            prepare(&mut new).await.map_err(failed)?;
            held.insert(new)
        }
    };
    match what {
        What::Generation => {
            read(
                connection,
                "SELECT generation, ''::bytea AS ring FROM vault_ring",
            )
            .await
        }
        What::Read => read(connection, "SELECT generation, ring FROM vault_ring").await,
        What::Replace(expected, ring) => {
            failpoint::hit("ring-writing");
            let kept = replace(connection, *expected, ring).await;
            failpoint::hit("ring-written");
            kept
        }
    }
}

async fn read(connection: &mut PgConnection, query: &'static str) -> io::Result<Kept> {
    match sqlx::query(query).fetch_optional(connection).await {
        Ok(row) => row.as_ref().map(kept).transpose(),
        // A database in which no server has worked yet.
        Err(error) if is_undefined_table(&error) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

// One statement: the row is locked by it, so whoever comes second compares with what the first
// has written, and finds nothing to write to.
async fn replace(
    connection: &mut PgConnection,
    expected: Option<u64>,
    ring: &[u8],
) -> io::Result<Kept> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO vault_ring (id, generation, ring) VALUES (1, 1, $1) \
             ON CONFLICT (id) DO NOTHING RETURNING generation, ''::bytea AS ring",
        )
        .bind(ring),
        Some(expected) => sqlx::query(
            "UPDATE vault_ring SET generation = generation + 1, ring = $1 \
             WHERE id = 1 AND generation = $2 RETURNING generation, ''::bytea AS ring",
        )
        .bind(ring)
        .bind(i64::try_from(expected).unwrap_or(i64::MAX)),
    };
    let row = query.fetch_optional(connection).await.map_err(failed)?;
    row.as_ref().map(kept).transpose()
}

fn kept(row: &PgRow) -> io::Result<(u64, Vec<u8>)> {
    let generation: i64 = row.try_get("generation").map_err(failed)?;
    let generation = u64::try_from(generation).map_err(io::Error::other)?;
    Ok((generation, row.try_get("ring").map_err(failed)?))
}

fn failed(error: sqlx::Error) -> io::Error {
    io::Error::other(error)
}

/// How long the database may take to answer, the connection included.
const PATIENCE: Duration = Duration::from_secs(10);
