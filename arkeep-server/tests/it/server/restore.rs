use std::sync::Arc;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SnapshotId, SystemClock, SystemEntropy};
use arkeep_server::store::SnapshotStore as _;
use arkeep_server::store::snapshots::Snapshot;
use arkeep_server::store::sqlite::SqliteStore;
use serde_json::{Value, json};

use super::client::Client;
use super::{Fallible, PASSWORD, Server};

/// A snapshot as an agent would have reported it. Returns its path, and its agent.
async fn snapshot(server: &Server, admin: &mut Client, present: bool) -> Fallible<(String, Value)> {
    let body = super::resources::policy(admin).await?;
    let policy = admin.create("/api/v1/policies", &body).await?;
    let id = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let store = SqliteStore::open(&server.data_dir().join("arkeep.db")).await?;
    let now = SystemClock.now();
    let kept = store
        .record(&Snapshot {
            id: SnapshotId::mint(now, &SystemEntropy),
            restic_id: "0123abcd".parse()?,
            policy: id(policy.get("id")).parse()?,
            agent: id(body.get("agent_id")).parse()?,
            destination: id(body.pointer("/destinations/0/destination_id")).parse()?,
            path: id(policy.get("id")).parse()?,
            job: None,
            taken_at: now,
            hostname: "db1".to_owned(),
            paths: vec!["/etc".to_owned()],
            tags: Vec::new(),
            bytes_processed: 1,
            bytes_added: 1,
            files: 1,
            verified_at: None,
            present,
            repository: None,
        })
        .await?
        .ok_or("its policy is gone")?;
    store.close().await;
    let agent = body.get("agent_id").cloned().unwrap_or_default();
    Ok((format!("/api/v1/snapshots/{kept}"), agent))
}

#[tokio::test]
async fn a_restore_says_who_and_where_to() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let (path, agent) = snapshot(&server, &mut admin, true).await?;
    let restore = format!("{path}/restore");

    admin.get(&path).await?.expect(200)?;
    for (body, field) in [
        (json!({"target": "/r"}), "agent_id"),
        (json!({"agent_id": agent}), "target"),
        (json!({"agent_id": agent, "target": "r"}), "target"),
        (json!({"agent_id": agent, "target": "/r/../etc"}), "target"),
        (
            json!({"agent_id": agent, "target": "/r", "include": ["etc"]}),
            "include[0]",
        ),
        (
            json!({"agent_id": "0190a0b0-0000-7000-8000-000000000000", "target": "/r"}),
            "agent_id",
        ),
    ] {
        let refused = admin.post(&restore, &body).await?;
        assert_eq!(
            (refused.status, refused.fields()),
            (422, vec![field.to_owned()]),
            "{body}"
        );
    }

    let body = json!({"agent_id": agent, "target": "/r", "include": ["/etc/hosts"]});
    let job = admin
        .post(&restore, &body)
        .await?
        .expect(202)?
        .string("/job_id");
    let job = admin
        .get(&format!("/api/v1/jobs/{job}"))
        .await?
        .expect(200)?;
    assert_eq!(job.string("/kind"), "restore");
    Ok(())
}

/// A11, A12
#[tokio::test]
async fn in_place_takes_an_admin_with_a_fresh_login() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    let mut admin = server.set_up().await?;
    let (path, agent) = snapshot(&server, &mut admin, true).await?;
    let restore = format!("{path}/restore");
    let email = "operator@example.org";
    let operator = json!({"email": email, "password": PASSWORD, "role": "operator"});
    admin.create("/api/v1/users", &operator).await?;
    let mut operator = server.client();
    operator.log_in(email, PASSWORD).await?;

    for target in ["/", "//", "/."] {
        let in_place = json!({"agent_id": agent, "target": target});
        let refused = operator.post(&restore, &in_place).await?;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (403, "forbidden"),
            "{target}"
        );
    }
    let elsewhere = json!({"agent_id": agent, "target": "/r"});
    operator.post(&restore, &elsewhere).await?.expect(202)?;

    let in_place = json!({"agent_id": agent, "target": "/"});
    admin.post(&restore, &in_place).await?.expect(202)?;
    clock.advance(Duration::from_secs(5 * 60));
    let stale = admin.post(&restore, &in_place).await?;
    assert_eq!(
        (stale.status, stale.code().as_str()),
        (403, "step_up_required")
    );
    Ok(())
}

#[tokio::test]
async fn what_the_repository_does_not_list_is_not_restored() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let (path, agent) = snapshot(&server, &mut admin, false).await?;

    let body = json!({"agent_id": agent, "target": "/r"});
    let refused = admin.post(&format!("{path}/restore"), &body).await?;

    assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"));
    Ok(())
}
