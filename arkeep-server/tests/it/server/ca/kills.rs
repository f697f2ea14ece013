//! The real program, killed at every step of a rotation of the root.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{Clock, SystemClock};
use arkeep_server::store::RotationStore as _;
use arkeep_server::store::rotation::StoredRotation;
use arkeep_server::store::sqlite::SqliteStore;
use serde_json::json;
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::process::Child;

use super::super::client::Client;
use super::super::process::{run, served, waited};
use super::super::{ADA, Fallible, PASSWORD, Server, eventually};
use super::machine::{Machine, Place, WORD};

async fn stored(data: &Path) -> Fallible<StoredRotation> {
    let store = SqliteStore::open(&data.join("arkeep.db")).await?;
    let stored = store.rotation().await?;
    store.close().await;
    Ok(stored.ok_or("no root")?)
}

/// Makes the phase as old as it must be for the next one, as if those minutes had passed.
async fn wait_a_phase(data: &Path) -> Fallible {
    let url = format!("sqlite://{}", data.join("arkeep.db").display());
    let mut database = sqlx::SqliteConnection::connect(&url).await?;
    sqlx::query("UPDATE ca_rotation SET since = since - 300000")
        .execute(&mut database)
        .await?;
    database.close().await?;
    Ok(())
}

/// The server of one phase after the other, and what it is asked.
struct Stage<'a> {
    data: &'a Path,
    place: &'a Place,
}

impl Stage<'_> {
    async fn serve(&self, environment: &[(&str, &str)]) -> Fallible<(Child, Client)> {
        let environment = [environment, &[("ARKEEP_AGENT_ADDR", &self.place.address)]].concat();
        let served = served(self.data, &environment).await?;
        self.place.leads_to(&served.grpc);
        let mut admin = Client::new(&format!("http://{}", served.http));
        admin.log_in(ADA, PASSWORD).await?;
        Ok((served.process, admin))
    }

    /// Lets a server that dies at `point` come to it. The first step somebody asks for; to the
    /// others it comes by itself, with the machine that is connected, or already at its start.
    async fn dies(&self, point: &str, from: &str) -> Fallible {
        let armed = [("ARKEEP_FAILPOINT", point)];
        if point == STORED && from != "settled" {
            let data = self.data.to_string_lossy();
            let ended = run(
                &[
                    "serve",
                    "--data-dir",
                    &data,
                    "--http-addr",
                    "127.0.0.1:0",
                    "--grpc-addr",
                    "127.0.0.1:0",
                ],
                &armed,
            )
            .await?;
            assert_eq!(ended.code, None, "{}", ended.errors);
            return Ok(());
        }
        let (mut server, mut admin) = self.serve(&armed).await?;
        if from == "settled" {
            // The answer is lost with the server.
            let _ = admin.post("/api/v1/ca/rotate", &json!({})).await;
        } else {
            wait_a_phase(self.data).await?;
        }
        let died = waited(&mut server).await?;
        assert_eq!(died.code(), None, "{point} from {from}");
        Ok(())
    }

    /// The machine finds the server again, and does a job.
    async fn works(&self, machine: &Machine, test: &str) -> Fallible {
        let (mut server, mut admin) = self.serve(&[]).await?;
        let job = json!({"agent_id": machine.id});
        let given = admin.post(test, &job).await?.expect(202)?;
        let path = format!("/api/v1/jobs/{}", given.string("/job_id"));
        eventually(async || {
            let mut admin = admin.clone();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let job = admin.get(&path).await?.expect(200)?;
            Ok(job.string("/error/code") == WORD)
        })
        .await?;
        Ok(server.kill().await?)
    }
}

const DECIDED: &str = "ca.decided";
const STORED: &str = "ca.stored";

/// T7: killed before a step is written down, it was not taken; killed afterwards, it was. Either
/// way the next start goes on, and the machine that comes back is let in and works.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_on_after_a_kill_at_every_step() -> Fallible {
    let place = Place::new().await?;
    let time: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = ["--agent-addr", &place.address];
    let server = Server::start_with(TempDir::new()?, &options, Arc::clone(&time)).await?;
    place.leads_to(&server.grpc);
    let mut admin = server.set_up().await?;
    let mut machine = Machine::enrolled(&mut admin, "here", &time).await?;
    machine.work();
    let body = json!({"name": "here", "kind": "local", "location": {"path": "/srv"}});
    let destination = admin.create("/api/v1/destinations", &body).await?;
    let destination = destination["id"].as_str().ok_or("no id")?;
    let test = format!("/api/v1/destinations/{destination}/test");
    let dir = server.stop().await?;
    let data = dir.path().join("data");
    let stage = Stage {
        data: &data,
        place: &place,
    };
    let first = stored(&data).await?.old;

    for (from, to) in [
        ("settled", "announced"),
        ("announced", "issuing"),
        ("issuing", "settled"),
    ] {
        for (point, left) in [(DECIDED, from), (STORED, to)] {
            let when = format!("{point} from {from}");
            stage.dies(point, from).await?;

            assert_eq!(stored(&data).await?.rotation.phase.as_str(), left, "{when}");
            let path = data.to_string_lossy();
            let verified = run(&["vault", "verify", "--data-dir", &path], &[]).await?;
            assert_eq!(verified.code, Some(0), "{when}: {}", verified.output);
        }
        let worked = stage.works(&machine, &test).await;
        worked.map_err(|error| format!("after {to}: {error}"))?;
    }

    let settled = stored(&data).await?;
    assert_ne!(settled.old, first);
    assert_eq!(settled.new, None);
    Ok(())
}
