//! One PostgreSQL server for all tests of this process, on a socket in a temporary directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::OnceCell;

/// An empty database that nobody else uses.
pub(crate) async fn new_database() -> PgConnectOptions {
    let server = SERVER.get_or_init(start).await;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("test{number}");
    let mut connection = PgConnection::connect_with(server)
        .await
        .expect("the server that was started answers");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .expect("a new database");
    server.clone().database(&name)
}

static SERVER: OnceCell<PgConnectOptions> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

async fn start() -> PgConnectOptions {
    let (ready, started) = mpsc::channel();
    // The server dies with the thread that started it, so that thread lives as long as the tests.
    thread::spawn(move || {
        clear_up();
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir()
            .expect("a temporary directory");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), open).expect("our own directory");
        initialise(directory.path());
        let mut server = postgres(directory.path())
            .spawn()
            .expect("PostgreSQL starts");
        ready
            .send(directory.path().to_owned())
            .expect("the tests wait for it");
        let _ = server.wait();
    });
    let socket = started.recv().expect("PostgreSQL was started");
    let options = PgConnectOptions::new_without_pgpass()
        .socket(&socket)
        .username("postgres")
        .database("postgres");
    let answers = async {
        while PgConnection::connect_with(&options).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answers)
        .await
        .expect("PostgreSQL answers within a minute");
    options
}

/// Removes what tests left behind that have ended: they end without a chance to.
fn clear_up() {
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Somebody else's, or removed by a neighbour in this moment.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

const PREFIX: &str = "arkeep-postgres-";

fn initialise(directory: &Path) {
    let made = as_postgres("initdb")
        .args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--pgdata",
        ])
        .arg(directory.join("data"))
        .stdout(Stdio::null())
        .status()
        .expect("initdb runs");
    assert!(made.success(), "initdb: {made}");
}

fn postgres(directory: &Path) -> Command {
    let mut command = as_postgres("postgres");
    command
        .arg("-D")
        .arg(directory.join("data"))
        .arg("-k")
        .arg(directory)
        // Nothing here outlives the tests, so nothing waits for the disk.
        .args(["-c", "listen_addresses=", "-c", "fsync=off"])
        .args(["-c", "max_connections=400"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// PostgreSQL refuses to run as root, and dies with its parent here.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of these tests that starts a process"
)]
fn as_postgres(program: &str) -> Command {
    let program = binaries().join(program);
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=KILL");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg("--").arg(program).current_dir("/");
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Debian keeps them out of `PATH`.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql");
    let mut found: Vec<_> = versions
        .expect("PostgreSQL 15 or later is installed (apt install postgresql)")
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL's server programs")
}
