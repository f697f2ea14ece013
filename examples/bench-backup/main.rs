//! The price of the agent: the same tree by plain `restic backup` and through the server and the
//! agent, in turn.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arkeep_examples::measure::{memory, millis, percentile, time_on_a_core};
use arkeep_examples::tree::{self, Shape};
use arkeep_examples::{Agent, AgentOptions, Api, Programs, Server};
use serde_json::{Value, json};
use tokio::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

const PASSWORD: &str = "a long enough passphrase";
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(3_600);
const LOOK: Duration = Duration::from_millis(20);
/// How long the idle agent is watched: three pings and more.
const IDLE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut numbers = std::env::args().skip(1);
    let files: u32 = numbers
        .next()
        .map_or(Ok(100_000), |number| number.parse())?;
    let gib: u64 = numbers.next().map_or(Ok(4), |number| number.parse())?;

    let scratch = tempfile::Builder::new().prefix("arkeep-bench-").tempdir()?;
    let programs = Programs::find()?;
    let server = Server::start(&programs, &scratch.path().join("server"), &[]).await?;
    let api = server.set_up("admin@example.com", PASSWORD).await?;
    let created = api
        .create("/api/v1/agents", &json!({"name": "bench"}))
        .await?;
    let options = AgentOptions::default();
    let state_dir = scratch.path().join("agent");
    let token = text(&created, "/join_token");
    Agent::enroll(&programs, &state_dir, &token, &options).await?;
    let agent = Agent::start(&programs, &state_dir, options)?;
    let agent_id = text(&created, "/agent/id");
    api.agent_in(&agent_id, "online", Duration::from_secs(30))
        .await?;

    let small = Shape {
        small_files: files,
        large_files: 0,
        large_bytes: 1,
    };
    let large = Shape {
        small_files: 1,
        large_files: u32::try_from(gib)?,
        large_bytes: 1 << 30,
    };
    for (name, shape) in [("small files", small), ("large files", large)] {
        if shape.small_files + shape.large_files <= 1 {
            continue;
        }
        let source = scratch.path().join(name);
        tree::make(&source, shape)?;
        let bench = Bench {
            root: scratch.path(),
            name,
            source: &source,
            api: &api,
            agent: &agent_id,
        };
        bench.run().await?;
        fs::remove_dir_all(&source)?;
    }
    let process = process(&agent)?;
    let before = time_on_a_core(process)?;
    tokio::time::sleep(IDLE).await;
    let busy = time_on_a_core(process)? - before;
    line(&format!(
        "agent: {} KiB resident at most, {} KiB idle, {:.3} % of a core idle",
        memory(process, "VmHWM")?,
        memory(process, "VmRSS")?,
        busy.as_secs_f64() / IDLE.as_secs_f64() * 100.0,
    ));
    Ok(())
}

struct Bench<'a> {
    root: &'a Path,
    name: &'a str,
    source: &'a Path,
    api: &'a Api,
    agent: &'a str,
}

impl Bench<'_> {
    /// Both ways in turn, each into a new repository, so that each writes everything.
    async fn run(&self) -> Outcome<()> {
        let (mut plain, mut through, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            plain.push(self.plain(round)?);
            let (whole, start) = self.through_the_agent(round).await?;
            through.push(whole);
            starts.push(start);
        }
        let (plain, through) = (percentile(&mut plain, 50), percentile(&mut through, 50));
        line(&format!(
            "{}: restic {:.2} s, agent {:.2} s, ratio {:.3}; request to start {:.0} ms (medians of {ROUNDS})",
            self.name,
            plain.as_secs_f64(),
            through.as_secs_f64(),
            through.as_secs_f64() / plain.as_secs_f64(),
            millis(percentile(&mut starts, 50)),
        ));
        Ok(())
    }

    fn repository(&self, kind: &str, round: usize) -> PathBuf {
        self.root.join(format!("{kind}-{}-{round}", self.name))
    }

    fn plain(&self, round: usize) -> Outcome<Duration> {
        let repository = self.repository("plain", round);
        restic(&repository, &["init"])?;
        let begin = Instant::now();
        restic(
            &repository,
            &["backup", "--json", &self.source.display().to_string()],
        )?;
        let took = begin.elapsed();
        fs::remove_dir_all(repository)?;
        Ok(took)
    }

    async fn through_the_agent(&self, round: usize) -> Outcome<(Duration, Duration)> {
        let place = self.repository("agent", round);
        restic(&place.join("repository"), &["init"])?;
        let destination = json!({
            "name": place.display().to_string(), "kind": "local", "location": {"path": place},
        });
        let destination = self
            .api
            .create("/api/v1/destinations", &destination)
            .await?;
        let policy = json!({
            "name": place.display().to_string(),
            "agent_id": self.agent,
            "sources": [{"path": self.source}],
            "destinations": [{"destination_id": text(&destination, "/id"), "path": "repository"}],
            "repository_password": PASSWORD,
        });
        let policy = self.api.create("/api/v1/policies", &policy).await?;

        let begin = Instant::now();
        let run = format!("/api/v1/policies/{}/run", text(&policy, "/id"));
        let job = self.api.start_job(&run, &json!({})).await?;
        self.api
            .job_in(&job, &["running", "succeeded"], PATIENCE)
            .await?;
        let start = begin.elapsed();
        // Asked often, so that what is measured is the job and not the pause between two looks.
        let path = format!("/api/v1/jobs/{job}");
        let ended = loop {
            let seen = self.api.get(&path).await?.json;
            if seen.pointer("/ended_at").is_some_and(Value::is_string) {
                break seen;
            }
            tokio::time::sleep(LOOK).await;
        };
        let took = begin.elapsed();
        if text(&ended, "/state") != "succeeded" {
            return Err(format!("the backup ended badly: {ended}").into());
        }
        fs::remove_dir_all(place)?;
        Ok((took, start))
    }
}

#[expect(clippy::disallowed_methods, reason = "restic is a program")]
fn restic(repository: &Path, arguments: &[&str]) -> Outcome<()> {
    let output = std::process::Command::new("restic")
        .arg("-r")
        .arg(repository)
        .args(arguments)
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}

fn process(agent: &Agent) -> Outcome<u32> {
    Ok(agent.process_id().ok_or("the agent has ended")?)
}

fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
