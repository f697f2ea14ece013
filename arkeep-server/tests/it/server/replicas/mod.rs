//! S2: several servers on one PostgreSQL database are one server.

mod agents;
mod ca;
mod channels;
mod revocation;
mod ring;
mod starting;
mod token_keys;

use std::fs;
use std::path::PathBuf;

use arkeep_server::store::postgres::PostgresStore;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use tempfile::TempDir;
use tokio::process::Child;

use super::client::Client;
use super::process::{Ended, Served, run, served};
use super::{ADA, Fallible, PASSWORD};
use crate::store_postgres::cluster;

/// A database, and machines that hold the key of its ring.
struct Site {
    database: PgConnectOptions,
    dir: TempDir,
}

/// A server as a process of its own, on one of the machines.
struct Replica {
    process: Child,
    http: String,
    grpc: String,
}

impl Site {
    async fn new() -> Fallible<Self> {
        let site = Self {
            database: cluster::new_database().await,
            dir: TempDir::new()?,
        };
        super::vault::write(&site.key(), &[7; 32], 0o600)?;
        Ok(site)
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("shared.key")
    }

    /// The directory that only one machine sees.
    fn data(&self, machine: &str) -> PathBuf {
        self.dir.path().join(machine)
    }

    fn url(&self) -> String {
        let socket = self.database.get_socket().map(|path| path.display());
        let socket = socket.map(|path| path.to_string()).unwrap_or_default();
        let name = self.database.get_database().unwrap_or_default();
        format!("postgres://postgres:{PASSWORD_OF_DATABASE}@localhost/{name}?host={socket}")
    }

    async fn start(&self, machine: &str) -> Fallible<Replica> {
        self.start_with(machine, &[]).await
    }

    async fn start_with(&self, machine: &str, more: &[(&str, &str)]) -> Fallible<Replica> {
        // The database can tell who asks.
        let url = format!("{}&application_name={machine}", self.url());
        let key = super::vault::text(&self.key());
        let mut environment = vec![("ARKEEP_DATABASE_URL", url.as_str())];
        environment.push(("ARKEEP_VAULT_KEY_FILE", &key));
        environment.extend(more);
        let Served {
            process,
            http,
            grpc,
        } = served(&self.data(machine), &environment).await?;
        Ok(Replica {
            process,
            http: format!("http://{http}"),
            grpc,
        })
    }

    /// Two replicas, Ada as administrator, and a client of hers at the first.
    async fn two(&self) -> Fallible<(Replica, Replica, Client)> {
        let one = self.start("one").await?;
        let admin = self.set_up(&one, "one").await?;
        Ok((one, self.start("two").await?, admin))
    }

    async fn set_up(&self, at: &Replica, machine: &str) -> Fallible<Client> {
        let token = fs::read_to_string(self.data(machine).join("setup-token"))?;
        let mut client = Client::new(&at.http);
        let body = json!({
            "setup_token": token,
            "email": ADA,
            "password": PASSWORD,
            "display_name": "Ada",
        });
        client.post("/api/v1/setup", &body).await?.expect(201)?;
        client.log_in(ADA, PASSWORD).await?;
        Ok(client)
    }

    /// Runs a maintenance command on one of the machines.
    async fn command(
        &self,
        machine: &str,
        arguments: &[&str],
        more: &[(&str, &str)],
    ) -> Fallible<Ended> {
        let (url, key) = (self.url(), super::vault::text(&self.key()));
        let data = super::vault::text(&self.data(machine));
        let mut environment = vec![("ARKEEP_DATABASE_URL", url.as_str())];
        environment.push(("ARKEEP_VAULT_KEY_FILE", &key));
        environment.push(("ARKEEP_DATA_DIR", &data));
        environment.extend(more);
        let ended = run(arguments, &environment).await?;
        let said = format!("{}{}", ended.output, ended.errors);
        assert!(!said.contains(PASSWORD_OF_DATABASE), "{said}");
        Ok(ended)
    }

    /// The same, when it should go well.
    async fn done(&self, arguments: &[&str]) -> Fallible<String> {
        let ended = self.command("maintenance", arguments, &[]).await?;
        match ended.code {
            Some(0) => Ok(ended.output),
            code => Err(format!("{arguments:?}: {code:?} {}{}", ended.output, ended.errors).into()),
        }
    }

    async fn store(&self) -> Fallible<PostgresStore> {
        Ok(PostgresStore::open(self.database.clone()).await?)
    }

    async fn raw(&self) -> Fallible<PgConnection> {
        Ok(PgConnection::connect_with(&self.database).await?)
    }

    /// Everything that is in the database, and its schema.
    async fn picture(&self) -> Fallible<String> {
        let mut raw = self.raw().await?;
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT table_name::text FROM information_schema.tables \
             WHERE table_schema = 'public' ORDER BY 1",
        )
        .fetch_all(&mut raw)
        .await?;
        let mut picture = String::new();
        for table in tables {
            let rows: Option<String> = sqlx::query_scalar(AssertSqlSafe(format!(
                "SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM {table} t"
            )))
            .fetch_one(&mut raw)
            .await?;
            picture += &format!("{table}:\n{}\n", rows.unwrap_or_default());
        }
        Ok(picture)
    }
}

const PASSWORD_OF_DATABASE: &str = "hunter2-of-the-database";
