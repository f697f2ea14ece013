//! T7, S2: the root is replaced by several servers at once, and whoever takes a step is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arkeep_core::{Clock, SystemClock};
use arkeep_transport::trust::SpkiFingerprint;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::super::ca::machine::{Machine, Place, WORD};
use super::super::client::Client;
use super::super::{ADA, Fallible, PASSWORD};
use super::{Replica, Site};

const NAMES: [&str; 3] = ["one", "two", "three"];
const AGENTS: usize = 9;

/// Three servers, and machines that come to any of them.
struct Stage {
    site: Site,
    place: Place,
    replicas: BTreeMap<String, Replica>,
    machines: Vec<Machine>,
    destination: String,
    jobs: BTreeSet<String>,
    raw: PgConnection,
}

impl Stage {
    async fn new() -> Fallible<Self> {
        let (site, place) = (Site::new().await?, Place::new().await?);
        let mut stage = Self {
            raw: site.raw().await?,
            site,
            place,
            replicas: BTreeMap::new(),
            machines: Vec::new(),
            destination: String::new(),
            jobs: BTreeSet::new(),
        };
        for name in NAMES {
            stage.start(name).await?;
        }
        let one = stage.replicas.get("one").ok_or("not started")?;
        let mut admin = stage.site.set_up(one, "one").await?;
        let disk = json!({"name": "here", "kind": "local", "location": {"path": "/srv"}});
        let disk = admin.create("/api/v1/destinations", &disk).await?;
        let id = disk.get("id").and_then(|id| id.as_str());
        stage.destination = id.ok_or("no id")?.to_owned();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        for number in 0..AGENTS {
            let name = format!("machine {number}");
            let mut machine = Machine::enrolled(&mut admin, &name, &clock).await?;
            machine.work();
            stage.machines.push(machine);
        }
        // Who takes a step says who it is, and waits while a test holds the lock.
        sqlx::raw_sql(
            "CREATE TABLE steps (phase TEXT, taken_by TEXT); \
             CREATE FUNCTION note_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 PERFORM pg_advisory_xact_lock(42); \
                 INSERT INTO steps VALUES (NEW.phase, current_setting('application_name')); \
                 RETURN NULL; \
             END $$; \
             CREATE TRIGGER steps AFTER UPDATE ON ca_rotation FOR EACH ROW \
                 WHEN (OLD.phase IS DISTINCT FROM NEW.phase) EXECUTE FUNCTION note_step();",
        )
        .execute(&mut stage.raw)
        .await?;
        Ok(stage)
    }

    async fn start(&mut self, name: &str) -> Fallible {
        let address = [("ARKEEP_AGENT_ADDR", self.place.address.as_str())];
        let replica = self.site.start_with(name, &address).await?;
        self.replicas.insert(name.to_owned(), replica);
        self.lead();
        Ok(())
    }

    async fn kill(&mut self, name: &str) -> Fallible {
        let mut replica = self.replicas.remove(name).ok_or("not there")?;
        self.lead();
        Ok(replica.process.kill().await?)
    }

    fn lead(&self) {
        let all = self.replicas.values();
        self.place.leads_to_any(all.map(|one| one.grpc.as_str()));
    }

    /// Ada at one of the servers that are there.
    async fn admin(&self) -> Fallible<Client> {
        let replica = self.replicas.values().next().ok_or("nobody is there")?;
        let mut client = Client::new(&replica.http);
        client.log_in(ADA, PASSWORD).await?;
        Ok(client)
    }

    async fn give_jobs(&mut self) -> Fallible {
        let mut admin = self.admin().await?;
        let path = format!("/api/v1/destinations/{}/test", self.destination);
        for machine in &self.machines {
            let body = json!({"agent_id": machine.id});
            let given = admin.post(&path, &body).await?.expect(202)?;
            self.jobs.insert(given.string("/job_id"));
        }
        Ok(())
    }

    async fn all_done(&self) -> Fallible {
        let admin = self.admin().await?;
        for job in &self.jobs {
            let path = format!("/api/v1/jobs/{job}");
            patiently(async || {
                let job = admin.clone().get(&path).await?.expect(200)?;
                Ok((job.string("/error/code") == WORD).then_some(()))
            })
            .await
            .map_err(|error| format!("{job}: {error}"))?;
        }
        Ok(())
    }

    async fn phase(&self) -> Fallible<String> {
        let mut raw = self.site.raw().await?;
        let phase = sqlx::query_scalar("SELECT phase FROM ca_rotation");
        Ok(phase.fetch_one(&mut raw).await?)
    }

    /// As if the minutes had passed that a phase lasts at least.
    async fn wait_a_phase(&mut self) -> Fallible {
        sqlx::query("UPDATE ca_rotation SET since = since - 300000")
            .execute(&mut self.raw)
            .await?;
        Ok(())
    }

    /// Lets two servers die on the way to `phase`: one in the middle of the statement that would
    /// have taken the step, one as soon as it has taken it.
    async fn step(&mut self, from: &str, phase: &str) -> Fallible {
        sqlx::query("SELECT pg_advisory_lock(42)")
            .execute(&mut self.raw)
            .await?;
        let asking = (phase == "announced").then_some(self.admin().await?);
        if asking.is_none() {
            self.wait_a_phase().await?;
        }
        // Its answer is lost with the server.
        let asked = asking.map(|mut admin| {
            tokio::spawn(async move {
                let _ = admin.post("/api/v1/ca/rotate", &json!({})).await;
            })
        });
        let site = &self.site;
        let taking = patiently(async || {
            let mut raw = site.raw().await?;
            let who: Option<String> = sqlx::query_scalar(
                "SELECT application_name FROM pg_stat_activity WHERE wait_event = 'advisory' \
                 AND query LIKE 'UPDATE ca_rotation%' AND datname = current_database()",
            )
            .fetch_optional(&mut raw)
            .await?;
            raw.close().await?;
            Ok(who)
        })
        .await?;
        self.kill(&taking).await?;
        if let Some(asked) = asked {
            asked.await?;
        }
        assert_eq!(self.phase().await?, from, "it was not taken");
        let freed: bool = sqlx::query_scalar("SELECT pg_advisory_unlock(42)")
            .fetch_one(&mut self.raw)
            .await?;
        assert!(freed);

        if phase == "announced" {
            let mut admin = self.admin().await?;
            let rotated = admin.post("/api/v1/ca/rotate", &json!({})).await?;
            rotated.expect(202)?;
        }
        let site = &self.site;
        let taken_by = patiently(async || {
            let mut raw = site.raw().await?;
            let who: Option<String> =
                sqlx::query_scalar("SELECT taken_by FROM steps WHERE phase = $1")
                    .bind(phase)
                    .fetch_optional(&mut raw)
                    .await?;
            raw.close().await?;
            Ok(who)
        })
        .await?;
        self.kill(&taken_by).await?;
        assert_ne!(taking, taken_by);
        assert_eq!(self.phase().await?, phase);
        self.give_jobs().await?;
        self.start(&taking).await?;
        self.start(&taken_by).await
    }
}

/// Waits until there is one, for as long as a machine under load may need.
async fn patiently<T>(found: impl AsyncFn() -> Fallible<Option<T>>) -> Fallible<T> {
    let all = async {
        loop {
            if let Some(found) = found().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), all).await;
    found.map_err(|_| "it never came to be")?
}

/// T7, S2: with three servers, of which two are killed at each step, the root is replaced once, no agent
/// loses trust and no job is lost.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_die_at_every_step_replace_the_root_and_lose_nobody() -> Fallible {
    let mut stage = Stage::new().await?;
    stage.give_jobs().await?;
    let before: Vec<_> = (stage.machines.iter())
        .map(|machine| {
            let connector = &machine.connector;
            let roots: Vec<_> = connector.trust().roots().map(<[u8]>::to_vec).collect();
            (connector.credential().serial(), roots)
        })
        .collect();

    for (from, phase) in [
        ("settled", "announced"),
        ("announced", "issuing"),
        ("issuing", "settled"),
    ] {
        stage.give_jobs().await?;
        let stepped = stage.step(from, phase).await;
        stepped.map_err(|error| format!("{phase}: {error}"))?;
    }
    stage.give_jobs().await?;
    stage.all_done().await?;

    let steps: Vec<String> = sqlx::query_scalar("SELECT phase FROM steps")
        .fetch_all(&mut stage.raw)
        .await?;
    assert_eq!(steps, ["announced", "issuing", "settled"], "each once");
    assert_eq!(stage.jobs.len(), 8 * AGENTS);
    // The last word about the roots may still be on its way.
    let admin = stage.admin().await?;
    let shown = patiently(async || {
        let shown = admin.clone().get("/api/v1/ca").await?.expect(200)?;
        Ok((shown.json["behind_count"] == 0).then_some(shown))
    })
    .await?;
    let root = shown.string("/roots/0/fingerprint");
    assert_eq!(shown.json["roots"][1], serde_json::Value::Null);
    for (machine, (serial, old)) in stage.machines.iter().zip(before) {
        assert_ne!(machine.connector.credential().serial(), serial);
        assert!(machine.sessions.load(Ordering::SeqCst) > 1);
        let trust = machine.connector.trust();
        let roots: Vec<_> = trust.roots().map(<[u8]>::to_vec).collect();
        let names = roots.iter().map(|der| SpkiFingerprint::of_certificate(der));
        let names: Vec<_> = names.flatten().map(|name| name.to_string()).collect();
        assert_eq!(names, [root.as_str()]);
        assert_ne!(roots, old);
    }
    Ok(())
}
