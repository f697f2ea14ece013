//! The price of a fleet: what so many connected agents cost a server, and how long they wait for it.
//!
//! The server is the real program; the agents are the real client of `arkeep-transport`, all in this
//! process, and say what an agent says without running restic. Beside it stands a server of tonic
//! alone, with TLS and an echo, which shows what of the price is ours.

mod agents;
mod bare;

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use arkeep_examples::measure::{memory, millis, percentile, time_on_a_core};
use arkeep_examples::{Api, Programs, Server, until};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use agents::Fleet;

/// Crosses tasks.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PASSWORD: &str = "a long enough passphrase";
/// How long the connected server is watched: every agent is pinged once and beats once.
const REST: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("bare-server"), Some(place)) => bare::serve(Path::new(&place)).await,
        (agents, _) => {
            let agents = agents.map_or(Ok(1_000), str::parse)?;
            let scratch = tempfile::Builder::new().prefix("arkeep-bench-").tempdir()?;
            ours(&scratch, agents).await?;
            bare(&scratch, agents).await
        }
    }
}

async fn ours(scratch: &TempDir, agents: usize) -> Outcome<()> {
    let programs = Programs::find()?;
    let mut server = Server::start(&programs, &scratch.path().join("server"), &[]).await?;
    let mut api = server.set_up("admin@example.com", PASSWORD).await?;
    let begin = Instant::now();
    let (fleet, policies) = Fleet::enroll(&api, scratch.path(), agents).await?;
    say(&format!(
        "enrolled {agents} agents in {:.1} s",
        begin.elapsed().as_secs_f64()
    ));

    // What enrolling cost is no part of what an idle agent costs.
    server.process().stop().await?;
    server.start_again().await?;
    let process = server.process().id().ok_or("the server has ended")?;
    let before = memory(process, "VmRSS")?;

    let begin = Instant::now();
    let fleet = fleet.connect().await?;
    let welcomed = begin.elapsed();
    all_online(&api, agents).await?;
    say(&format!(
        "arkeep: {agents} agents connected in {:.2} s, all online by the API in {:.2} s",
        welcomed.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    ));

    let ran = time_on_a_core(process)?;
    tokio::time::sleep(REST).await;
    let busy = time_on_a_core(process)? - ran;
    let after = memory(process, "VmRSS")?;
    say(&format!(
        "arkeep: {:.1} KiB for each idle agent ({before} KiB before, {after} KiB after); {:.2} % of a core at rest",
        each(before, after, agents),
        busy.as_secs_f64() / REST.as_secs_f64() * 100.0,
    ));

    api.refresh().await?;
    let (mut given, mut stored) = fleet.run(&api, &policies).await?;
    say(&format!(
        "arkeep: request to assignment {:.2} ms at the median, {:.2} ms at the 99th percentile",
        millis(percentile(&mut given, 50)),
        millis(percentile(&mut given, 99)),
    ));
    say(&format!(
        "arkeep: report to durable acknowledgement {:.2} ms at the median, {:.2} ms at the 99th percentile",
        millis(percentile(&mut stored, 50)),
        millis(percentile(&mut stored, 99)),
    ));
    Ok(())
}

async fn bare(scratch: &TempDir, agents: usize) -> Outcome<()> {
    let server = bare::Server::start(scratch.path()).await?;
    let before = memory(server.process(), "VmRSS")?;
    let begin = Instant::now();
    let mut fleet = server.connect(agents).await?;
    say(&format!(
        "tonic:  {agents} clients connected in {:.2} s",
        begin.elapsed().as_secs_f64()
    ));
    let ran = time_on_a_core(server.process())?;
    tokio::time::sleep(REST).await;
    let busy = time_on_a_core(server.process())? - ran;
    let after = memory(server.process(), "VmRSS")?;
    say(&format!(
        "tonic:  {:.1} KiB for each idle client ({before} KiB before, {after} KiB after); {:.2} % of a core at rest",
        each(before, after, agents),
        busy.as_secs_f64() / REST.as_secs_f64() * 100.0,
    ));
    let mut echoes = fleet.echo().await?;
    say(&format!(
        "tonic:  message to echo {:.2} ms at the median, {:.2} ms at the 99th percentile",
        millis(percentile(&mut echoes, 50)),
        millis(percentile(&mut echoes, 99)),
    ));
    Ok(())
}

async fn all_online(api: &Api, agents: usize) -> Outcome<()> {
    let online = format!("arkeep_agents{{state=\"online\"}} {agents}\n");
    let seen = until(PATIENCE, async || {
        let metrics = api.get("/metrics").await.ok()?;
        metrics.text.contains(&online).then_some(())
    });
    Ok(seen.await.ok_or("not every agent is online")?)
}

fn each(before: u64, after: u64, agents: usize) -> f64 {
    after.saturating_sub(before) as f64 / agents as f64
}

/// A policy of nothing in particular: no agent here runs restic.
fn policy(agent: &str, destination: &str) -> serde_json::Value {
    json!({
        "name": agent,
        "agent_id": agent,
        "sources": [{"path": "/srv"}],
        "destinations": [{"destination_id": destination}],
        "repository_password": PASSWORD,
    })
}

fn say(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}
