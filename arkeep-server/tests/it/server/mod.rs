//! The reference server: the whole of it, over its real ports.

mod access;
mod audit;
mod audit_commands;
mod auth;
mod auth_input;
mod ca;
#[cfg(feature = "failpoints")]
mod channel_kills;
mod channels;
mod client;
mod connections;
mod data_dir;
mod factors;
mod health;
mod hooks;
mod input;
#[cfg(feature = "failpoints")]
mod logout_kills;
mod oidc;
mod oidc_real;
mod process;
mod receiver;
mod replicas;
mod resources;
mod restore;
mod secrets;
mod setup;
mod throttle;
mod tls_scan;
mod token_keys;
mod tokens;
mod vault;
mod walk;

use std::path::Path;
use std::sync::Arc;

use arkeep_core::{Clock, SystemClock};
use arkeep_server::app::App;
use arkeep_server::config::serve::ServeConfig;
use arkeep_server::config::{Cli, Command};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use client::Client;

pub(crate) type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A server in this process, on ports of its own.
struct Server {
    base: String,
    grpc: String,
    data: TempDir,
    stop: CancellationToken,
    serving: JoinHandle<Fallible2>,
    rules: Vec<arkeep_server::http::access::Rule>,
}

type Fallible2 = Result<(), Box<dyn std::error::Error + Send + Sync>>;

impl Server {
    /// Starts one that nobody has set up.
    async fn start() -> Fallible<Self> {
        Self::start_in(TempDir::new()?, &[]).await
    }

    async fn start_in(data: TempDir, options: &[&str]) -> Fallible<Self> {
        Self::start_with(data, options, Arc::new(SystemClock)).await
    }

    async fn start_at(clock: Arc<dyn Clock>) -> Fallible<Self> {
        Self::start_with(TempDir::new()?, &[], clock).await
    }

    async fn start_with(data: TempDir, options: &[&str], clock: Arc<dyn Clock>) -> Fallible<Self> {
        let path = data.path().join("data");
        let path = path.to_str().ok_or("not text")?;
        let mut arguments = vec!["arkeep-server", "serve", "--data-dir", path];
        arguments.extend(["--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"]);
        arguments.extend(options);
        let Command::Serve(args) = Cli::read(arguments)?.command else {
            return Err("not serve".into());
        };
        let app = App::start_at(ServeConfig::judge(*args)?, clock).await?;
        let (addresses, rules) = (app.addresses(), app.rules().to_vec());
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let stop = stop.clone();
            async move { app.serve(stop).await.map_err(Into::into) }
        });
        Ok(Self {
            base: format!("http://{}", addresses.http),
            grpc: addresses.grpc.to_string(),
            data,
            stop,
            serving,
            rules,
        })
    }

    /// Starts one with Ada as its administrator, and a client of hers.
    async fn with_admin() -> Fallible<(Self, Client)> {
        let server = Self::start().await?;
        let client = server.set_up().await?;
        Ok((server, client))
    }

    async fn set_up(&self) -> Fallible<Client> {
        let mut client = self.client();
        let body = serde_json::json!({
            "setup_token": self.setup_token()?,
            "email": ADA,
            "password": PASSWORD,
            "display_name": "Ada",
        });
        client.post("/api/v1/setup", &body).await?.expect(201)?;
        client.log_in(ADA, PASSWORD).await?;
        Ok(client)
    }

    fn client(&self) -> Client {
        Client::new(&self.base)
    }

    /// A client at another address of this machine.
    fn client_from(&self, address: std::net::IpAddr) -> Client {
        Client::from_address(&self.base, Some(address))
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.data.path().join("data")
    }

    fn setup_token(&self) -> Fallible<String> {
        Ok(std::fs::read_to_string(
            self.data_dir().join("setup-token"),
        )?)
    }

    /// Stops it and gives back its state.
    async fn stop(self) -> Fallible<TempDir> {
        self.stop.cancel();
        self.serving.await?.map_err(|error| error.to_string())?;
        Ok(self.data)
    }
}

/// Every file below a directory: its name, its bytes, when it changed.
fn picture(of: &Path) -> Fallible<Vec<(String, Vec<u8>, std::time::SystemTime)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(of)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push((
            name,
            std::fs::read(entry.path())?,
            entry.metadata()?.modified()?,
        ));
    }
    files.sort();
    Ok(files)
}

const ADA: &str = "ada@example.org";
const PASSWORD: &str = "correct horse battery";

/// Waits until it is so, for as long as a machine under load may need.
async fn eventually(so: impl AsyncFn() -> Fallible<bool>) -> Fallible {
    let all = async {
        while !so().await? {
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), all)
        .await
        .map_err(|_| "it never came to be")?
}
