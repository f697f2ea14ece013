//! One server, one agent, and the few requests that every test makes.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arkeep_examples::{Agent, AgentOptions, Api, Programs, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

pub(crate) const EMAIL: &str = "admin@example.com";
pub(crate) const PASSWORD: &str = "a long enough passphrase";
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Fleet {
    pub(crate) scratch: TempDir,
    pub(crate) server: Server,
    pub(crate) api: Api,
    pub(crate) agent: Agent,
    pub(crate) agent_id: String,
}

impl Fleet {
    /// A server and an agent that is online, which may restore below `<scratch>/restored`.
    pub(crate) async fn start() -> Result<Self, Box<dyn Error>> {
        Self::start_with(|_| AgentOptions::default()).await
    }

    /// The same, with what `options` says added to the agent's configuration.
    pub(crate) async fn start_with(
        options: impl FnOnce(&Path) -> AgentOptions,
    ) -> Result<Self, Box<dyn Error>> {
        let scratch = scratch()?;
        let programs = Programs::find()?;
        let server = Server::start(&programs, &scratch.path().join("server"), &[]).await?;
        let api = server.set_up(EMAIL, PASSWORD).await?;

        let (agent_id, token) = new_agent(&api, "machine").await?;
        let state_dir = scratch.path().join("agent");
        let mut options = options(scratch.path());
        let restored = json!([scratch.path().join("restored")]);
        options
            .config
            .push_str(&format!("\n[restore]\nallowed_targets = {restored}\n"));
        Agent::enroll(&programs, &state_dir, &token, &options).await?;
        let agent = Agent::start(&programs, &state_dir, options)?;
        api.agent_in(&agent_id, "online", PATIENCE).await?;
        Ok(Self {
            scratch,
            server,
            api,
            agent,
            agent_id,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A directory with one file in it.
    pub(crate) fn source(&self, name: &str) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.path(name);
        fs::create_dir_all(&path)?;
        fs::write(path.join("file"), format!("content of {name}"))?;
        Ok(path)
    }

    /// A directory with `mib` MiB that do not compress.
    pub(crate) fn large_source(&self, name: &str, mib: u64) -> Result<PathBuf, Box<dyn Error>> {
        use arkeep_examples::tree::{self, Shape};
        let path = self.path(name);
        let shape = Shape {
            small_files: 1,
            large_files: 1,
            large_bytes: mib << 20,
        };
        tree::make(&path, shape)?;
        fs::remove_file(path.join("sparse"))?;
        Ok(path)
    }

    /// A local destination at `path`.
    pub(crate) async fn destination(&self, path: &Path) -> Result<String, Box<dyn Error>> {
        let body = json!({
            "name": format!("destination {}", path.display()),
            "kind": "local",
            "location": {"path": path},
        });
        let created = self.api.create("/api/v1/destinations", &body).await?;
        Ok(text(&created, "/id"))
    }

    /// A policy over `sources` into `<scratch>/repositories`, with `more` merged over it.
    pub(crate) async fn policy(
        &self,
        sources: &[&Path],
        more: Value,
    ) -> Result<Value, Box<dyn Error>> {
        let destination = self.destination(&self.path("repositories")).await?;
        self.policy_to(&destination, sources, more).await
    }

    /// A policy over `sources` into a destination, with `more` merged over it.
    pub(crate) async fn policy_to(
        &self,
        destination: &str,
        sources: &[&Path],
        more: Value,
    ) -> Result<Value, Box<dyn Error>> {
        let sources: Vec<Value> = sources.iter().map(|path| json!({"path": path})).collect();
        let mut body = json!({
            "name": "policy",
            "agent_id": self.agent_id,
            "sources": sources,
            "destinations": [{"destination_id": destination}],
        });
        merge(&mut body, more);
        Ok(self.api.create("/api/v1/policies", &body).await?)
    }

    /// Starts a run of the policy.
    pub(crate) async fn start_run(&self, policy: &Value) -> Result<String, Box<dyn Error>> {
        let path = format!("/api/v1/policies/{}/run", text(policy, "/id"));
        Ok(self.api.start_job(&path, &json!({})).await?)
    }

    /// Runs the policy and returns the job as it ended.
    pub(crate) async fn run(&self, policy: &Value) -> Result<Value, Box<dyn Error>> {
        let job = self.start_run(policy).await?;
        Ok(self.api.job_ended(&job, PATIENCE).await?)
    }

    /// Where the policy's repository lies.
    pub(crate) fn repository(&self, policy: &Value) -> PathBuf {
        self.path("repositories").join(text(policy, "/id"))
    }

    /// Starts a slow run and waits until restic holds its lock.
    pub(crate) async fn start_slow_run(&self, policy: &Value) -> Result<String, Box<dyn Error>> {
        let job = self.start_run(policy).await?;
        let locked = arkeep_examples::until(PATIENCE, async || {
            (!locks(&self.repository(policy)).is_empty()).then_some(())
        });
        locked.await.ok_or("restic never took its lock")?;
        self.api.job_in(&job, &["running"], PATIENCE).await?;
        Ok(job)
    }

    pub(crate) async fn log_of(&self, job: &Value) -> Result<String, Box<dyn Error>> {
        let path = format!("/api/v1/jobs/{}/log?limit=200", text(job, "/id"));
        Ok(self.api.get(&path).await?.expect(200)?.text)
    }

    /// The snapshots of a policy, as the server lists them.
    pub(crate) async fn snapshots(&self, policy: &Value) -> Result<Vec<Value>, Box<dyn Error>> {
        let path = format!("/api/v1/snapshots?policy_id={}", text(policy, "/id"));
        let answer = self.api.get(&path).await?.expect(200)?;
        Ok(answer.json["items"].as_array().cloned().unwrap_or_default())
    }
}

/// A scratch directory that other users may pass through.
pub(crate) fn scratch() -> Result<TempDir, Box<dyn Error>> {
    let scratch = tempfile::Builder::new().prefix("arkeep-e2e-").tempdir()?;
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
    Ok(scratch)
}

/// Makes an agent's record; returns its id and its join token.
pub(crate) async fn new_agent(api: &Api, name: &str) -> Result<(String, String), Box<dyn Error>> {
    let created = api.create("/api/v1/agents", &json!({"name": name})).await?;
    Ok((text(&created, "/agent/id"), text(&created, "/join_token")))
}

pub(crate) fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The locks of a repository in a local directory.
pub(crate) fn locks(repository: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(repository.join("locks")) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

/// Whether the tests run as root, which reads and writes everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs restic by hand, as an operator would without Arkeep.
#[expect(clippy::disallowed_methods, reason = "restic is a program")]
pub(crate) fn restic(
    repository: &Path,
    password: &str,
    arguments: &[&str],
) -> Result<String, Box<dyn Error>> {
    let output = std::process::Command::new("restic")
        .arg("-r")
        .arg(repository)
        .arg("--no-cache")
        .args(arguments)
        .env("RESTIC_PASSWORD", password)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}
