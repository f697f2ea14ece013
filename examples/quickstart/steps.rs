//! One step after the other, each as a person would take it.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arkeep_core::{Entropy as _, SystemEntropy};
use arkeep_examples::tree::{self, Shape};
use arkeep_examples::{Agent, AgentOptions, Api, Programs, Server};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};

use crate::show;

type Outcome<T> = Result<T, Box<dyn Error>>;

const EMAIL: &str = "admin@example.com";
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

/// Where everything of this run lies.
struct Places {
    root: PathBuf,
    source: PathBuf,
    repositories: PathBuf,
    restored: PathBuf,
}

pub(crate) async fn run(keep: bool, directory: Option<PathBuf>) -> Outcome<()> {
    let scratch = tempfile::Builder::new()
        .prefix("arkeep-quickstart-")
        .tempdir()?;
    let programs = Programs::find()?;
    let places = places(scratch.path(), directory)?;
    let password = password();

    let mut server = Server::start(&programs, &places.root.join("server"), &[]).await?;
    show::step(
        "server",
        &format!(
            "http://{} (agents: {})",
            server.http_address(),
            server.agent_address()
        ),
    );
    let api = server.set_up(EMAIL, &password).await?;
    let (mut agent, agent_id) = start_agent(&programs, &api, &places).await?;

    let policy = make_policy(&api, &agent_id, &places).await?;
    let first = back_up(&api, &policy.id, "backup 1").await?;
    show::step("backup 1", &show::summary(&first));
    let second = back_up(&api, &policy.id, "backup 2").await?;
    show::step("backup 2", &show::summary(&second));

    let snapshots = api
        .get(&format!("/api/v1/snapshots?policy_id={}", policy.id))
        .await?
        .expect(200)?;
    let items = snapshots
        .json
        .get("items")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    show::table(&items);

    restore_and_compare(&api, &agent_id, &second, &items, &places).await?;
    show_plain_restic(&policy, &places)?;

    if keep {
        let root = scratch.keep();
        leave_running(&root, &mut server, &mut agent, &password)?;
    } else {
        agent.process().stop().await?;
        server.process().stop().await?;
        show::line("\nEverything is stopped and removed; `--keep` leaves it running.");
    }
    Ok(())
}

fn password() -> String {
    let mut random = [0; 12];
    SystemEntropy.fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn places(root: &Path, directory: Option<PathBuf>) -> Outcome<Places> {
    let source = match directory {
        Some(directory) => {
            let source = fs::canonicalize(&directory)
                .map_err(|error| format!("{}: {error}", directory.display()))?;
            show::step("source", &source.display().to_string());
            source
        }
        None => {
            let source = root.join("source");
            tree::make(&source, Shape::QUICKSTART)?;
            let (size, _) = tree::compare(&source, &source)?;
            let entries = HumanCount(size.entries);
            show::step(
                "source",
                &format!(
                    "{entries} entries, {}, made for this",
                    HumanBytes(size.bytes)
                ),
            );
            source
        }
    };
    Ok(Places {
        root: root.to_owned(),
        source,
        repositories: root.join("repositories"),
        restored: root.join("restored"),
    })
}

async fn start_agent(programs: &Programs, api: &Api, places: &Places) -> Outcome<(Agent, String)> {
    let created = api
        .create("/api/v1/agents", &json!({"name": "this-machine"}))
        .await?;
    let text = |pointer: &str| {
        created
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let state_dir = places.root.join("agent");
    let targets = json!([places.restored]);
    let options = AgentOptions {
        // A TOML array of strings is written as a JSON array of strings is.
        config: format!("[restore]\nallowed_targets = {targets}\n"),
        ..AgentOptions::default()
    };
    Agent::enroll(programs, &state_dir, &text("/join_token"), &options).await?;
    let agent = Agent::start(programs, &state_dir, options)?;
    let id = text("/agent/id");
    let online = api.agent_in(&id, "online", Duration::from_secs(30)).await?;
    let restic = online
        .pointer("/restic/version")
        .and_then(Value::as_str)
        .unwrap_or("none");
    show::step("agent", &format!("{id} is online, with restic {restic}"));
    Ok((agent, id))
}

struct Policy {
    id: String,
    repository: PathBuf,
    password: String,
}

async fn make_policy(api: &Api, agent_id: &str, places: &Places) -> Outcome<Policy> {
    let destination = api
        .create(
            "/api/v1/destinations",
            &json!({
                "name": "a directory",
                "kind": "local",
                "location": {"path": places.repositories},
            }),
        )
        .await?;
    let destination_id = destination.get("id").cloned().unwrap_or_default();
    let policy = api
        .create(
            "/api/v1/policies",
            &json!({
                "name": "quickstart",
                "agent_id": agent_id,
                "sources": [{"path": places.source}],
                "destinations": [{"destination_id": destination_id}],
            }),
        )
        .await?;
    let text = |pointer: &str| {
        policy
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let id = text("/id");
    Ok(Policy {
        repository: places.repositories.join(&id),
        password: text("/repository_password"),
        id,
    })
}

/// Runs the policy, with a bar, and returns the job as it ended.
async fn back_up(api: &Api, policy: &str, what: &'static str) -> Outcome<Value> {
    let job = api
        .start_job(&format!("/api/v1/policies/{policy}/run"), &json!({}))
        .await?;
    follow_job(api, &job, what).await
}

async fn follow_job(api: &Api, job: &str, what: &'static str) -> Outcome<Value> {
    let bar = show::bar(what);
    let path = format!("/api/v1/jobs/{job}");
    let ended = arkeep_examples::until(PATIENCE, async || {
        let answer = match api.get(&path).await {
            Ok(answer) if answer.status == 200 => answer.json,
            Ok(answer) => return Some(Err(answer.text)),
            Err(error) => return Some(Err(error.to_string())),
        };
        show::follow(&bar, &answer);
        let state = answer
            .get("state")
            .and_then(Value::as_str)
            .unwrap_or_default();
        (!matches!(state, "queued" | "leased" | "running")).then_some(Ok(answer))
    });
    let ended = ended.await.ok_or("the job did not end")?;
    bar.finish_and_clear();
    let job = ended?;
    match job.get("state").and_then(Value::as_str) {
        Some("succeeded") => Ok(job),
        Some("partial") => {
            show::step("", "some files could not be read; the job's log names them");
            Ok(job)
        }
        _ => Err(format!("{what} ended badly: {}", job.get("error").unwrap_or(&job)).into()),
    }
}

async fn restore_and_compare(
    api: &Api,
    agent_id: &str,
    backup: &Value,
    snapshots: &[Value],
    places: &Places,
) -> Outcome<()> {
    let restic_id = backup.pointer("/results/0/snapshot_id");
    let snapshot = snapshots
        .iter()
        .find(|snapshot| snapshot.get("restic_id") == restic_id)
        .and_then(|snapshot| snapshot.get("id"))
        .and_then(Value::as_str)
        .ok_or("the second backup's snapshot is not listed")?;
    fs::create_dir_all(&places.restored)?;
    let body = json!({
        "agent_id": agent_id,
        "target": places.restored,
        "include": [],
        "overwrite": false,
    });
    let job = api
        .start_job(&format!("/api/v1/snapshots/{snapshot}/restore"), &body)
        .await?;
    follow_job(api, &job, "restore").await?;

    let below = places.source.strip_prefix("/")?;
    let (compared, differences) = tree::compare(&places.source, &places.restored.join(below))?;
    if !differences.is_empty() {
        return Err(format!("the restored tree differs:\n  {}", differences.join("\n  ")).into());
    }
    show::step(
        "restore",
        &format!(
            "{} entries and {} compared: every byte, mode, time and link is as it was",
            HumanCount(compared.entries),
            HumanBytes(compared.bytes)
        ),
    );
    Ok(())
}

fn show_plain_restic(policy: &Policy, places: &Places) -> Outcome<()> {
    let file = places.root.join("repository-password");
    fs::write(&file, &policy.password)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let plain = format!(
        "restic -r {} --password-file {} snapshots",
        policy.repository.display(),
        file.display()
    );
    show::line("\nThe repository is plain restic's; without Arkeep it is read by\n");
    show::line(&format!("  {plain}\n"));
    run_restic(policy, &file)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command that is shown is also tried"
)]
fn run_restic(policy: &Policy, password_file: &Path) -> Outcome<()> {
    let status = std::process::Command::new("restic")
        .arg("-r")
        .arg(&policy.repository)
        .arg("--password-file")
        .arg(password_file)
        .args(["--no-cache", "snapshots"])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("plain restic could not read the repository".into())
    }
}

fn leave_running(
    root: &Path,
    server: &mut Server,
    agent: &mut Agent,
    password: &str,
) -> Outcome<()> {
    let pid = |id: Option<u32>| id.ok_or("a program has ended").map(|id| id.to_string());
    let pids = format!(
        "{} {}",
        pid(agent.process().id())?,
        pid(server.process().id())?
    );
    server.process().leave_running();
    agent.process().leave_running();
    show::line(&format!(
        "\nStill running:\n\n  HTTP API   http://{}\n  agents     {}\n  login      {EMAIL} / {password}\n  \
         files      {}\n\nStop it with `kill {pids}`, then remove the directory.",
        server.http_address(),
        server.agent_address(),
        root.display()
    ));
    Ok(())
}
