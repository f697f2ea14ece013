//! A server that rotates by itself, when it is told to over HTTP.

use std::sync::Arc;
use std::time::Duration;

use arkeep_server::http::metrics::Metrics;
use arkeep_server::keeper::{Keeper, KeeperParts};
use arkeep_vault::{Binding, KeyEncryptionKey, RingFile, Sealer as _, SecretString, Vault};
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::{Fallible, Server};
use super::{VALUES, done, fill, keys_of, primary};

/// Waits until every value is under the newest key, and returns what the server then says.
pub(super) async fn moved(admin: &mut Client) -> Fallible<Value> {
    let wait = async {
        loop {
            let shown = admin.get("/api/v1/vault").await?.expect(200)?.json;
            if shown.pointer("/resealing/state") == Some(&json!("idle")) {
                return Ok(shown);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await?
}

/// V7
#[tokio::test]
async fn every_value_moves_to_a_new_key_in_the_background() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    fill(&mut admin).await?;
    let old = primary(&server.data_dir()).await?;

    let accepted = admin.post("/api/v1/vault/rotate", &json!({})).await?;
    let accepted = accepted.expect(202)?.json;
    let shown = moved(&mut admin).await?;

    let new = primary(&server.data_dir()).await?;
    assert_ne!(new, old);
    assert_eq!(accepted["keys"][1]["id"], json!(new));
    let keys = shown["keys"].as_array().ok_or("no keys")?;
    let key = |id: &str| keys.iter().find(|key| key["id"] == id).cloned();
    let (old, new) = (key(&old).ok_or("old")?, key(&new).ok_or("new")?);
    assert_eq!(
        (&old["state"], &old["needed_by"]),
        (&json!("decrypt"), &json!(0))
    );
    assert_eq!(
        (&new["state"], &new["needed_by"]),
        (&json!("primary"), &json!(VALUES))
    );
    assert_eq!(shown["resealing"]["resealed"], VALUES);
    assert_eq!(shown["unlocked_by"], json!(["key"]));
    let metrics = admin.get("/metrics").await?.text;
    let counted = r#"arkeep_vault_operations_total{operation="reseal",result="ok"}"#;
    assert!(
        metrics.contains(&format!("{counted} {VALUES}")),
        "{metrics}"
    );
    Ok(())
}

/// V7: what another process left undone is done by the server.
#[tokio::test]
async fn what_is_left_under_an_older_key_moves_when_the_server_starts() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    fill(&mut admin).await?;
    let data = server.data_dir();
    let dir = server.stop().await?;
    // The rotation of a process that was killed right after it.
    let guard = KeyEncryptionKey::from_file(data.join("vault.key"))?;
    let ring = RingFile::open(data.join("vault.ring"), Arc::new(guard))?;
    let new = ring.rotate(1)?.to_string();

    let server = Server::start_in(dir, &[]).await?;
    let mut admin = server.client();
    admin
        .log_in(super::super::ADA, super::super::PASSWORD)
        .await?;
    moved(&mut admin).await?;

    assert_eq!(keys_of(&server.data_dir()).await?, [(new, VALUES)].into());
    Ok(())
}

/// V7: the server learns of another's rotation while it runs, and moves the values if that other
/// does not.
#[tokio::test]
async fn the_rotation_of_another_process_is_noticed() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    fill(&mut admin).await?;
    let data = server.data_dir();
    moved(&mut admin).await?;
    let guard = KeyEncryptionKey::from_file(data.join("vault.key"))?;
    let ring = RingFile::open(data.join("vault.ring"), Arc::new(guard))?;

    let new = ring.rotate(1)?.to_string();

    let wait = async {
        while keys_of(&data).await? != [(new.clone(), VALUES)].into() {}
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await??;
    Ok(())
}

/// V7: the server opens what is sealed with a key that it has never seen.
#[tokio::test]
async fn a_key_that_another_process_made_opens() -> Fallible {
    let dir = super::filled().await?;
    let data = dir.path().join("data");
    let open = || {
        let guard = KeyEncryptionKey::from_file(data.join("vault.key"))?;
        let ring = RingFile::open(data.join("vault.ring"), Arc::new(guard))?;
        Ok::<_, Box<dyn std::error::Error>>(Arc::new(ring))
    };
    let store = arkeep_server::store::sqlite::SqliteStore::open(&data.join("arkeep.db")).await?;
    let keeper = Keeper::new(KeeperParts {
        ring: open()?,
        values: Arc::new(store),
        clock: Arc::new(arkeep_core::SystemClock),
        metrics: Arc::new(Metrics::new()),
    });
    let (other, place) = (open()?, Binding::new("table", "column", "row"));

    let new = other.rotate(1)?;
    let sealed = Vault::shared(other).seal_str(&SecretString::from("x"), &place)?;

    assert!(keeper.open_str(&sealed, &place).is_ok());
    let sealed = keeper.seal_str(&SecretString::from("x"), &place)?;
    assert_eq!(sealed.key_id(), new);
    Ok(())
}

/// V7: a rotation takes an administrator who has just logged in. The table of roles says so for
/// each caller; this is what a rotation without them leaves behind.
#[tokio::test]
async fn nobody_else_rotates() -> Fallible {
    let server = Server::start().await?;

    let refused = server
        .client()
        .post("/api/v1/vault/rotate", &json!({}))
        .await?;

    assert_eq!(refused.status, 401);
    let status = done(&server.data_dir(), &["status"]).await?;
    assert!(!status.contains("decrypt"), "{status}");
    Ok(())
}

/// V7: a server whose ring cannot be read any more opens what it has and seals nothing: whatever it
/// sealed might be lost with it.
#[tokio::test]
async fn nothing_is_sealed_while_the_ring_cannot_be_read() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    fill(&mut admin).await?;
    let data = server.data_dir();
    let (ring, aside) = (data.join("vault.ring"), data.join("aside"));
    let body = |name: &str| {
        json!({
            "name": name,
            "kind": "rest",
            "location": {"url": "http://h/"},
            "credentials": {"username": "u", "password": "hunter2"},
        })
    };

    std::fs::rename(&ring, &aside)?;
    let without = admin.post("/api/v1/destinations", &body("lost")).await?;
    std::fs::rename(&aside, &ring)?;
    let again = admin.post("/api/v1/destinations", &body("found")).await?;

    assert_eq!(
        (without.status, without.code().as_str()),
        (503, "unavailable")
    );
    assert_eq!(again.status, 201, "{}", again.text);
    let verified = done(&data, &["verify"]).await?;
    assert_eq!(
        verified,
        format!("{} sealed values open, 0 do not\n", VALUES + 1)
    );
    Ok(())
}

/// V7: the ring now belongs to a key that the server was not started with.
#[tokio::test]
async fn a_server_with_the_old_source_seals_nothing_until_it_is_started_with_the_new() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    fill(&mut admin).await?;
    let data = server.data_dir();
    let new = [("ARKEEP_NEW_VAULT_PASSPHRASE", "correct horse")];
    let now = [("ARKEEP_VAULT_PASSPHRASE", "correct horse")];

    let rekeyed = super::vault(&data, &["rekey"], &new).await?;
    let sealed = super::credentials(&mut admin, "by the old one").await;
    let shown = admin.get("/api/v1/destinations").await?;
    let verified = super::vault(&data, &["verify"], &now).await?;

    assert_eq!(rekeyed.code, Some(0), "{}", rekeyed.errors);
    assert!(sealed.is_err_and(|error| error.to_string().starts_with("503")));
    assert_eq!(shown.status, 200);
    assert_eq!(
        verified.code,
        Some(0),
        "{}{}",
        verified.output,
        verified.errors
    );
    let dir = server.stop().await?;
    let data = dir.path().join("data");
    let (mut again, address) = super::super::process::serving(&data, &now).await?;
    let mut admin = Client::new(&format!("http://{address}"));
    admin
        .log_in(super::super::ADA, super::super::PASSWORD)
        .await?;
    super::credentials(&mut admin, "by the new one").await?;
    again.kill().await?;
    Ok(())
}

/// V7: whoever holds the ring for long holds up those who seal, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_served_while_somebody_holds_the_ring() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    fill(&mut admin).await?;
    let data = server.data_dir();
    // A new key, so that the next secret takes a write to the ring.
    done(&data, &["rotate"]).await?;
    let held = std::fs::File::open(data.join("vault.ring.lock"))?;
    held.lock()?;

    let mut sealing = tokio::task::JoinSet::new();
    for number in 0..4 {
        let mut admin = admin.clone();
        sealing.spawn(async move {
            let sealed = super::credentials(&mut admin, &format!("waiting {number}")).await;
            sealed.map(drop).map_err(|error| error.to_string())
        });
    }
    let first = tokio::time::timeout(Duration::from_secs(1), sealing.join_next()).await;
    assert!(first.is_err(), "somebody sealed: {first:?}");
    let live = tokio::time::timeout(Duration::from_secs(5), admin.get("/health/live"));
    assert_eq!(live.await??.status, 200);
    drop(held);

    while let Some(sealed) = sealing.join_next().await {
        sealed??;
    }
    Ok(())
}
