//! Join tokens: one token, one certificate.

use std::fs;
use std::path::Path;

use arkeep_examples::{Agent, AgentOptions, Api, Programs, Server};
use arkeep_transport::token::JoinToken;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::fleet::{EMAIL, Outcome, PASSWORD, PATIENCE, new_agent, scratch};

async fn server(scratch: &Path) -> Result<(Programs, Server, Api), Box<dyn std::error::Error>> {
    let programs = Programs::find()?;
    let server = Server::start(&programs, &scratch.join("server"), &[]).await?;
    let api = server.set_up(EMAIL, PASSWORD).await?;
    Ok((programs, server, api))
}

async fn refusal(
    programs: &Programs,
    state_dir: &Path,
    token: &str,
) -> Result<String, Box<dyn std::error::Error>> {
    match Agent::enroll(programs, state_dir, token, &AgentOptions::default()).await {
        Ok(()) => Err("the token was accepted".into()),
        Err(error) => Ok(error.to_string()),
    }
}

/// T2
#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_is_refused() -> Outcome {
    let scratch = scratch()?;
    let (programs, _server, api) = server(scratch.path()).await?;
    let (id, token) = new_agent(&api, "machine").await?;
    let first = scratch.path().join("first");
    Agent::enroll(&programs, &first, &token, &AgentOptions::default()).await?;

    let said = refusal(&programs, &scratch.path().join("second"), &token).await?;

    assert!(said.contains("used"), "{said}");
    assert!(
        said.contains("join token"),
        "the way on is not named: {said}"
    );
    let _agent = Agent::start(&programs, &first, AgentOptions::default())?;
    api.agent_in(&id, "online", PATIENCE).await?;
    Ok(())
}

/// T2
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_get_one_certificate() -> Outcome {
    let scratch = scratch()?;
    let (programs, _server, api) = server(scratch.path()).await?;
    let (_, token) = new_agent(&api, "machine").await?;

    let mut callers = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (programs, token) = (programs.clone(), token.clone());
        let state_dir = scratch.path().join(format!("agent-{number}"));
        callers.spawn(async move {
            Agent::enroll(&programs, &state_dir, &token, &AgentOptions::default())
                .await
                .is_ok()
        });
    }
    let mut enrolled = 0;
    while let Some(answer) = callers.join_next().await {
        enrolled += usize::from(answer?);
    }

    assert_eq!(enrolled, 1);
    Ok(())
}

/// T2
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refused() -> Outcome {
    let scratch = scratch()?;
    let (programs, mut server, api) = server(scratch.path()).await?;
    let (_, token) = new_agent(&api, "machine").await?;
    server.process().stop().await?;
    let database = server.data_dir().join("arkeep.db");
    sqlite(&database, "UPDATE join_tokens SET expires_at = 1000")?;
    server.start_again().await?;

    let said = refusal(&programs, &scratch.path().join("agent"), &token).await?;

    assert!(said.contains("expired"), "{said}");
    Ok(())
}

/// T2: the agent finds out before it says the secret.
#[tokio::test(flavor = "multi_thread")]
async fn another_fingerprint_is_refused_before_the_secret_is_sent() -> Outcome {
    let scratch = scratch()?;
    let (programs, _server, api) = server(scratch.path()).await?;
    let (id, token) = new_agent(&api, "machine").await?;
    let forged = with_another_fingerprint(&token)?;

    let said = refusal(&programs, &scratch.path().join("agent"), &forged).await?;

    assert!(said.contains("another CA"), "{said}");
    let state_dir = scratch.path().join("right");
    Agent::enroll(&programs, &state_dir, &token, &AgentOptions::default()).await?;
    let _agent = Agent::start(&programs, &state_dir, AgentOptions::default())?;
    api.agent_in(&id, "online", PATIENCE).await?;
    Ok(())
}

/// The same token, but for one bit of the fingerprint.
fn with_another_fingerprint(token: &str) -> Result<String, Box<dyn std::error::Error>> {
    let parsed: JoinToken = token.parse()?;
    let fingerprint = parsed.fingerprint();
    let fingerprint = fingerprint.as_bytes();
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut record = URL_SAFE_NO_PAD.decode(&parts[1])?;
    let at = record
        .windows(fingerprint.len())
        .position(|window| window == fingerprint);
    record[at.ok_or("the record has no fingerprint")?] ^= 1;
    parts[1] = URL_SAFE_NO_PAD.encode(record);
    Ok(parts.join("."))
}

/// T2: at rest there is only a digest.
#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_nowhere_on_disk() -> Outcome {
    let scratch = scratch()?;
    let (_programs, server, api) = server(scratch.path()).await?;
    let (_, token) = new_agent(&api, "machine").await?;
    let secret = token.rsplit('.').next().unwrap_or_default().to_owned();
    assert!(secret.len() > 40, "{token}");

    for entry in fs::read_dir(server.data_dir())? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "the secret is in {}", path.display());
    }
    assert!(!fs::read_to_string(scratch.path().join("server.log"))?.contains(&secret));
    Ok(())
}

/// Changes the server's database by hand.
#[expect(clippy::disallowed_methods, reason = "sqlite3 is a program")]
pub(crate) fn sqlite(database: &Path, statement: &str) -> Outcome {
    let output = std::process::Command::new("sqlite3")
        .arg(database)
        .arg(statement)
        .output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
