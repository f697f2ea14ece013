use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock, SystemClock};
use serde_json::json;
use tempfile::TempDir;

use super::super::client::Client;
use super::super::{Fallible, Server};
use super::machine::{Machine, Place, WORD};
use super::{A_PHASE, ADA, PASSWORD, reaches, shown};

const AGENTS: usize = 100;

struct Stage {
    server: Option<Server>,
    place: Place,
    clock: Arc<ManualClock>,
    machines: Vec<Machine>,
    destination: String,
    jobs: BTreeSet<String>,
}

impl Stage {
    async fn start(&mut self, data: TempDir) -> Fallible<Client> {
        let options = ["--agent-addr", &self.place.address];
        let time: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let server = Server::start_with(data, &options, time).await?;
        self.place.leads_to(&server.grpc);
        let client = server.client();
        self.server = Some(server);
        Ok(client)
    }

    async fn restart(&mut self) -> Fallible<Client> {
        let server = self.server.take().ok_or("not started")?;
        let mut client = self.start(server.stop().await?).await?;
        client.log_in(ADA, PASSWORD).await?;
        Ok(client)
    }

    /// Gives every machine a job. The server may go away before they are done.
    async fn give_jobs(&mut self, admin: &mut Client) -> Fallible {
        admin.log_in(ADA, PASSWORD).await?;
        let path = format!("/api/v1/destinations/{}/test", self.destination);
        for machine in &self.machines {
            let body = json!({"agent_id": machine.id});
            let given = admin.post(&path, &body).await?.expect(202)?;
            self.jobs.insert(given.string("/job_id"));
        }
        Ok(())
    }

    async fn all_done(&self, admin: &Client) -> Fallible {
        for job in &self.jobs {
            super::eventually(async || {
                let mut admin = admin.clone();
                let job = admin
                    .get(&format!("/api/v1/jobs/{job}"))
                    .await?
                    .expect(200)?;
                let done = job.string("/error/code") == WORD;
                if !done {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Ok(done)
            })
            .await?;
        }
        Ok(())
    }
}

/// T7: through a whole rotation, with jobs under way and the server starting anew in each phase, no
/// machine is locked out and no job is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_agents_follow_a_server_that_keeps_restarting_and_lose_no_job() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let time: Arc<dyn Clock> = Arc::clone(&clock) as _;
    let mut stage = Stage {
        server: None,
        place: Place::new().await?,
        clock,
        machines: Vec::new(),
        destination: String::new(),
        jobs: BTreeSet::new(),
    };
    stage.start(TempDir::new()?).await?;
    let server = stage.server.as_ref().ok_or("not started")?;
    let mut admin = server.set_up().await?;
    let body = json!({"name": "here", "kind": "local", "location": {"path": "/srv"}});
    let destination = admin.create("/api/v1/destinations", &body).await?;
    stage.destination = destination["id"].as_str().ok_or("no id")?.to_owned();
    for number in 0..AGENTS {
        let name = format!("machine {number}");
        let mut machine = Machine::enrolled(&mut admin, &name, &time).await?;
        machine.work();
        stage.machines.push(machine);
    }
    let old = shown(&mut admin).await?["roots"][0]["fingerprint"].clone();
    let before: Vec<_> = stage
        .machines
        .iter()
        .map(|machine| machine.connector.credential().serial())
        .collect();

    admin
        .post("/api/v1/ca/rotate", &json!({}))
        .await?
        .expect(202)?;
    for phase in ["issuing", "settled"] {
        stage.give_jobs(&mut admin).await?;
        admin = stage.restart().await?;
        stage.clock.advance(A_PHASE);
        stage.give_jobs(&mut admin).await?;
        reaches(&admin, phase).await?;
        admin = stage.restart().await?;
    }
    stage.give_jobs(&mut admin).await?;

    stage.all_done(&admin).await?;
    assert_eq!(stage.jobs.len(), 5 * AGENTS);
    let settled = shown(&mut admin).await?;
    assert_ne!(settled["roots"][0]["fingerprint"], old);
    assert_eq!(settled["roots"][1], serde_json::Value::Null);
    assert_eq!(settled["behind_count"], 0);
    for (machine, before) in stage.machines.iter().zip(before) {
        assert_ne!(machine.connector.credential().serial(), before);
        assert!(machine.sessions.load(Ordering::SeqCst) > 1);
    }
    Ok(())
}
