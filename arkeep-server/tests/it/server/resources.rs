use std::sync::Arc;
use std::time::Duration;

use arkeep_core::job::{JobReport, ReportBody};
use arkeep_core::queue::JobQueue;
use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use arkeep_server::store::sqlite::SqliteStore;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::{Fallible, PASSWORD, Server};

/// An agent and a destination, and a policy that could be made with them.
pub(super) async fn policy(admin: &mut Client) -> Fallible<Value> {
    let agent = admin
        .create("/api/v1/agents", &json!({"name": "db1"}))
        .await?;
    let disk = json!({"name": "disk", "kind": "local", "location": {"path": "/srv/backup"}});
    let disk = admin.create("/api/v1/destinations", &disk).await?;
    Ok(json!({
        "name": "nightly",
        "agent_id": agent.pointer("/agent/id"),
        "sources": [{"path": "/etc"}],
        "destinations": [{"destination_id": disk.get("id")}],
    }))
}

fn path(kind: &str, object: &Value) -> String {
    format!(
        "/api/v1/{kind}/{}",
        object["id"].as_str().unwrap_or_default()
    )
}

/// The object without what differs from run to run.
fn still(mut object: Value) -> Value {
    fn calm(value: &mut Value) {
        match value {
            Value::String(text) if text.len() == 36 && text.matches('-').count() == 4 => {
                *text = "(id)".to_owned();
            }
            Value::String(text) if text.len() == 24 && text.ends_with('Z') => {
                *text = "(time)".to_owned();
            }
            Value::Object(members) => members.values_mut().for_each(calm),
            Value::Array(items) => items.iter_mut().for_each(calm),
            _ => {}
        }
    }
    calm(&mut object);
    object
}

#[tokio::test]
async fn an_agent_is_made_with_a_join_token_that_is_shown_once() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;

    let answer = admin
        .post(
            "/api/v1/agents",
            &json!({"name": "db1", "labels": {"a": "b"}}),
        )
        .await?;
    let answer = answer.expect(201)?;

    let agent = answer.json["agent"].clone();
    assert_eq!(answer.header("location"), path("agents", &agent));
    assert_eq!(answer.header("etag"), "\"1\"");
    let token: arkeep_transport::token::JoinToken = answer.string("/join_token").parse()?;
    assert_eq!(token.server().to_string(), server.grpc);
    insta::assert_snapshot!(still(agent.clone()), @r#"{"agent_version":null,"arch":null,"certificate":null,"created_at":"(time)","docker":null,"hook_policy":null,"hostname":null,"id":"(id)","labels":{"a":"b"},"last_seen_at":null,"name":"db1","os":null,"restic":null,"restic_problem":null,"sandbox":null,"state":"pending","version":1}"#);
    let found = admin.get(&path("agents", &agent)).await?.expect(200)?;
    assert_eq!(found.json, agent);
    assert!(!found.text.contains("akj1."));
    Ok(())
}

#[tokio::test]
async fn a_new_join_token_takes_the_place_of_the_old() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let made = admin
        .create("/api/v1/agents", &json!({"name": "db1"}))
        .await?;
    let path = path("agents", &made["agent"]);

    let answer = admin
        .post(&format!("{path}/join-token"), &json!({}))
        .await?
        .expect(200)?;

    assert!(answer.string("/join_token").starts_with("akj1."));
    assert_ne!(json!(answer.string("/join_token")), made["join_token"]);
    Ok(())
}

#[tokio::test]
async fn a_revoked_agent_stays_revoked() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let body = policy(&mut admin).await?;
    let policy = admin.create("/api/v1/policies", &body).await?;
    let agent = format!(
        "/api/v1/agents/{}",
        body["agent_id"].as_str().unwrap_or_default()
    );

    let revoked = admin
        .post(&format!("{agent}/revoke"), &json!({}))
        .await?
        .expect(200)?;

    assert_eq!(revoked.string("/state"), "revoked");
    admin
        .post(&format!("{agent}/revoke"), &json!({}))
        .await?
        .expect(200)?;
    for call in ["join-token", "approve"] {
        admin
            .post(&format!("{agent}/{call}"), &json!({}))
            .await?
            .expect(409)?;
    }
    let run = format!("{}/run", path("policies", &policy));
    admin.post(&run, &json!({})).await?.expect(409)?;
    Ok(())
}

/// A job of the policy that its agent has begun. Returns its path.
async fn running(server: &Server, admin: &mut Client, policy: &Value) -> Fallible<String> {
    let run = format!("{}/run", path("policies", policy));
    let job = admin.post(&run, &json!({})).await?.expect(202)?;
    let store = SqliteStore::open(&server.data_dir().join("arkeep.db")).await?;
    let agent = policy["agent_id"].as_str().unwrap_or_default().parse()?;
    let (lease, now) = (Duration::from_secs(60), SystemClock.now());
    let claimed = JobQueue::claim(&store, agent, lease, now).await?;
    let claimed = claimed.ok_or("nothing to claim")?;
    let started = JobReport {
        job: claimed.id,
        attempt: claimed.attempt,
        fence: claimed.fence,
        sequence: 1,
        at: now,
        body: ReportBody::Started,
    };
    store.apply(agent, &started, now).await?;
    store.close().await;
    Ok(format!("/api/v1/jobs/{}", job.string("/job_id")))
}

/// S5
#[tokio::test]
async fn a_revoked_agent_leaves_no_open_job_behind() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let body = policy(&mut admin).await?;
    let policy = admin.create("/api/v1/policies", &body).await?;
    let job = running(&server, &mut admin, &policy).await?;
    let agent = body["agent_id"].as_str().unwrap_or_default();
    let agent = format!("/api/v1/agents/{agent}");

    let revoke = format!("{agent}/revoke");
    admin.post(&revoke, &json!({})).await?.expect(200)?;

    let ended = admin.get(&job).await?;
    assert_eq!(ended.string("/state"), "failed");
    assert_eq!(ended.string("/error/code"), "agent_revoked");
    let policy = path("policies", &policy);
    admin.delete(&policy).await?.expect(204)?;
    admin.delete(&agent).await?.expect(204)?;
    Ok(())
}

/// S5
#[tokio::test]
async fn a_job_of_an_agent_that_is_away_can_be_cancelled() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let body = policy(&mut admin).await?;
    let policy = admin.create("/api/v1/policies", &body).await?;
    let job = running(&server, &mut admin, &policy).await?;
    let policy = path("policies", &policy);
    admin.delete(&policy).await?.expect(409)?;

    let cancel = format!("{job}/cancel");
    admin.post(&cancel, &json!({})).await?.expect(202)?;

    assert_eq!(admin.get(&job).await?.string("/state"), "cancelled");
    admin.delete(&policy).await?.expect(204)?;
    Ok(())
}

#[tokio::test]
async fn credentials_are_written_and_never_read() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let body = json!({
        "name": "rest",
        "kind": "rest",
        "location": {"url": "https://backup.example:8000/"},
        "credentials": {"username": "ada", "password": "hunter2"},
    });

    let made = admin
        .post("/api/v1/destinations", &body)
        .await?
        .expect(201)?;

    assert!(!made.text.contains("hunter2"));
    insta::assert_snapshot!(still(made.json.clone()), @r#"{"created_at":"(time)","credentials_set":true,"credentials_updated_at":"(time)","enabled":true,"id":"(id)","kind":"rest","location":{"url":"https://backup.example:8000/"},"name":"rest","updated_at":"(time)","version":1}"#);
    let path = path("destinations", &made.json);
    let found = admin.get(&path).await?.expect(200)?;
    assert_eq!(found.json, made.json);

    let renamed = admin
        .patch(&path, &json!({"name": "other"}))
        .await?
        .expect(200)?;
    assert_eq!(renamed.json["credentials_set"], json!(true));
    assert_eq!(
        renamed.json["credentials_updated_at"],
        made.json["credentials_updated_at"]
    );
    let cleared = admin
        .patch(&path, &json!({"credentials": null}))
        .await?
        .expect(200)?;
    assert_eq!(cleared.json["credentials_set"], json!(false));
    Ok(())
}

#[tokio::test]
async fn a_destination_that_makes_no_sense_is_refused_by_field() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    for (body, field) in [
        (
            json!({"kind": "local", "location": {"path": "srv"}}),
            "location.path",
        ),
        (json!({"kind": "local", "location": {}}), "location.path"),
        (
            json!({"kind": "rest", "location": {"url": "h"}}),
            "location.url",
        ),
        (
            json!({"kind": "rest", "location": {"url": "http://u:p@h/"}}),
            "location.url",
        ),
        (json!({"kind": "tape", "location": {}}), "kind"),
        (
            json!({"kind": "local", "location": {"path": "/x"}, "credentials": {"password": "x"}}),
            "credentials",
        ),
        (
            json!({"kind": "rest", "location": {"url": "http://h"}, "credentials": {"username": "x"}}),
            "credentials.password",
        ),
    ] {
        let mut body = body;
        body["name"] = json!("x");

        let refused = admin.post("/api/v1/destinations", &body).await?;

        assert_eq!(
            (refused.status, refused.fields()),
            (422, vec![field.to_owned()]),
            "{body}"
        );
    }
    let unknown = json!({"name": "x", "kind": "local", "location": {"path": "/x", "mode": 1}});
    let refused = admin.post("/api/v1/destinations", &unknown).await?;
    assert_eq!(
        (refused.status, refused.fields()),
        (400, vec!["location.mode".to_owned()])
    );
    Ok(())
}

#[tokio::test]
async fn a_destination_in_use_stays() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let body = policy(&mut admin).await?;
    let policy = admin.create("/api/v1/policies", &body).await?;
    let id = body["destinations"][0]["destination_id"]
        .as_str()
        .unwrap_or_default();

    admin
        .delete(&format!("/api/v1/destinations/{id}"))
        .await?
        .expect(409)?;
    admin
        .delete(&path("policies", &policy))
        .await?
        .expect(204)?;

    admin
        .delete(&format!("/api/v1/destinations/{id}"))
        .await?
        .expect(204)?;
    admin
        .get(&format!("/api/v1/destinations/{id}"))
        .await?
        .expect(404)?;
    Ok(())
}

#[tokio::test]
async fn a_policy_shows_the_password_that_the_server_made_once() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let mut body = policy(&mut admin).await?;

    let made = admin.post("/api/v1/policies", &body).await?.expect(201)?;

    assert_eq!(made.string("/repository_password").len(), 43);
    assert_eq!(made.json["destinations"][0]["path"], made.json["id"]);
    let found = admin
        .get(&path("policies", &made.json))
        .await?
        .expect(200)?;
    assert_eq!(found.json.get("repository_password"), None);
    insta::assert_snapshot!(still(found.json), @r#"{"agent_id":"(id)","catch_up":"latest","created_at":"(time)","deadline":null,"destinations":[{"destination_id":"(id)","path":"(id)"}],"drill":null,"enabled":true,"exclude_larger_than":null,"excludes":[],"hooks":{"after":[],"before":[],"on_failure":[]},"id":"(id)","limits":{},"max_age":null,"name":"nightly","offline_grace":3600,"one_file_system":false,"retention":{},"schedule":null,"sources":[{"path":"/etc"}],"tags":[],"updated_at":"(time)","verify":null,"version":1,"window":null}"#);

    body["name"] = json!("second");
    body["repository_password"] = json!("hunter2");
    let given = admin.post("/api/v1/policies", &body).await?.expect(201)?;
    assert!(!given.text.contains("hunter2"));
    assert_eq!(given.json.get("repository_password"), None);
    Ok(())
}

#[tokio::test]
async fn policies_that_share_a_repository_have_one_password() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let mut body = policy(&mut admin).await?;
    body["destinations"][0]["path"] = json!("shared");
    body["repository_password"] = json!("hunter2");
    admin.create("/api/v1/policies", &body).await?;

    body["name"] = json!("second");
    body["repository_password"] = json!("hunter3");
    let refused = admin.post("/api/v1/policies", &body).await?;
    assert_eq!(
        (refused.status, refused.fields()),
        (422, vec!["destinations[0].path".to_owned()])
    );
    body["repository_password"] = json!("hunter2");
    let second = admin.create("/api/v1/policies", &body).await?;

    let change = json!({"repository_password": "hunter3"});
    admin
        .patch(&path("policies", &second), &change)
        .await?
        .expect(422)?;
    Ok(())
}

/// A11, A12
#[tokio::test]
async fn the_repository_password_takes_an_admin_and_stays_once_it_was_used() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    let mut admin = server.set_up().await?;
    let mut body = policy(&mut admin).await?;
    body["repository_password"] = json!("hunter2");
    let policy = admin.create("/api/v1/policies", &body).await?;
    let email = "operator@example.org";
    let user = json!({"email": email, "password": PASSWORD, "role": "operator"});
    admin.create("/api/v1/users", &user).await?;
    let mut operator = server.client();
    operator.log_in(email, PASSWORD).await?;
    let path = path("policies", &policy);
    let (same, other) = (
        json!({"repository_password": "hunter2"}),
        json!({"repository_password": "hunter3"}),
    );

    for change in [&same, &other] {
        let refused = operator.patch(&path, change).await?;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (403, "forbidden")
        );
    }
    admin.patch(&path, &other).await?.expect(200)?;
    admin.patch(&path, &same).await?.expect(200)?;
    running(&server, &mut admin, &policy).await?;

    let refused = admin.patch(&path, &other).await?;
    assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"));
    admin.patch(&path, &same).await?.expect(200)?;
    clock.advance(Duration::from_secs(5 * 60));
    let stale = admin.patch(&path, &same).await?;
    assert_eq!(
        (stale.status, stale.code().as_str()),
        (403, "step_up_required")
    );
    Ok(())
}

#[tokio::test]
async fn what_a_policy_names_must_exist() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let body = policy(&mut admin).await?;
    let nobody = json!("0190a0b0-0000-7000-8000-000000000000");

    let mut wrong = body.clone();
    wrong["agent_id"] = nobody.clone();
    let refused = admin.post("/api/v1/policies", &wrong).await?;
    assert_eq!(
        (refused.status, refused.fields()),
        (422, vec!["agent_id".to_owned()])
    );

    let mut wrong = body;
    wrong["destinations"][0]["destination_id"] = nobody;
    let refused = admin.post("/api/v1/policies", &wrong).await?;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(
        refused.fields()[0].starts_with("destinations"),
        "{}",
        refused.text
    );
    Ok(())
}

#[tokio::test]
async fn a_change_is_refused_to_whoever_read_an_older_version() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let made = admin
        .create("/api/v1/agents", &json!({"name": "db1"}))
        .await?;
    let path = path("agents", &made["agent"]);
    let change = json!({"name": "db2"});
    let (old, new) = ([("if-match", "\"1\"")], [("if-match", "\"9\", \"2\"")]);

    let first = admin
        .send(Method::PATCH, &path, Some(&change), &old)
        .await?
        .expect(200)?;
    assert_eq!(first.header("etag"), "\"2\"");
    let second = admin
        .send(Method::PATCH, &path, Some(&change), &old)
        .await?;
    assert_eq!(
        (second.status, second.code().as_str()),
        (412, "precondition_failed")
    );
    admin
        .send(Method::DELETE, &path, None, &old)
        .await?
        .expect(412)?;

    admin
        .send(Method::DELETE, &path, None, &new)
        .await?
        .expect(204)?;
    Ok(())
}

#[tokio::test]
async fn changes_that_name_no_version_all_get_through() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let body = policy(&mut admin).await?;
    let policy = admin.create("/api/v1/policies", &body).await?;
    let (agent, disk) = (
        body["agent_id"].as_str().unwrap_or_default(),
        body["destinations"][0]["destination_id"].as_str(),
    );
    for path in [
        path("policies", &policy),
        format!("/api/v1/agents/{agent}"),
        format!("/api/v1/destinations/{}", disk.unwrap_or_default()),
    ] {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..10 {
            let mut client = server.client();
            client.bearer.clone_from(&admin.bearer);
            let (path, change) = (path.clone(), json!({"name": format!("name {number}")}));
            calls.spawn(async move {
                let answer = client.patch(&path, &change).await;
                answer.map_or(0, |answer| answer.status)
            });
        }

        assert_eq!(calls.join_all().await, [200; 10], "{path}");
        let found = admin.get(&path).await?;
        assert_eq!(found.json["version"], json!(11));
    }
    Ok(())
}

#[tokio::test]
async fn a_run_waits_for_its_agent_and_can_be_cancelled() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let body = policy(&mut admin).await?;
    let policy = admin.create("/api/v1/policies", &body).await?;
    let run = format!("{}/run", path("policies", &policy));

    let job = admin
        .post(&run, &json!({}))
        .await?
        .expect(202)?
        .string("/job_id");
    let again = admin
        .post(&run, &json!({}))
        .await?
        .expect(202)?
        .string("/job_id");

    // At most one waits for each policy; the second was counted in it.
    assert_eq!(job, again);
    let path = format!("/api/v1/jobs/{job}");
    let found = admin.get(&path).await?.expect(200)?;
    insta::assert_snapshot!(still(found.json), @r#"{"agent_id":"(id)","attempt":0,"cancel_requested_at":null,"created_at":"(time)","deadline":null,"ended_at":null,"error":null,"folded":1,"hooks":[],"id":"(id)","kind":"backup","late_result":null,"policy_id":"(id)","progress":null,"results":[],"scheduled_for":"(time)","source":"manual","started_at":null,"state":"queued"}"#);
    let queued = admin
        .get("/api/v1/jobs?state=queued&kind=backup")
        .await?
        .expect(200)?;
    assert_eq!(queued.string("/items/0/id"), job);
    let failed = admin.get("/api/v1/jobs?state=failed").await?.expect(200)?;
    assert_eq!(failed.json["items"], json!([]));

    admin
        .post(&format!("{path}/cancel"), &json!({}))
        .await?
        .expect(202)?;
    assert_eq!(admin.get(&path).await?.string("/state"), "cancelled");
    admin
        .post(&format!("{path}/cancel"), &json!({}))
        .await?
        .expect(409)?;
    Ok(())
}

/// S15
#[tokio::test]
async fn a_run_beside_a_removal_is_refused_and_never_a_fault() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let mut body = policy(&mut admin).await?;
    let mut other = server.client();
    other.bearer.clone_from(&admin.bearer);
    for number in 0..20 {
        body["name"] = json!(format!("policy {number}"));
        let policy = admin.create("/api/v1/policies", &body).await?;
        let (policy, nothing) = (path("policies", &policy), json!({}));
        let run = format!("{policy}/run");

        let (asked, removed) = tokio::join!(other.post(&run, &nothing), admin.delete(&policy));

        let asked = asked?;
        assert!([202, 404].contains(&asked.status), "{}", asked.text);
        removed?.expect(204)?;
    }
    Ok(())
}

#[tokio::test]
async fn the_log_of_an_ended_job_can_be_followed_to_its_end() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let body = policy(&mut admin).await?;
    let policy = admin.create("/api/v1/policies", &body).await?;
    let run = format!("{}/run", path("policies", &policy));
    let job = admin
        .post(&run, &json!({}))
        .await?
        .expect(202)?
        .string("/job_id");
    admin
        .post(&format!("/api/v1/jobs/{job}/cancel"), &json!({}))
        .await?
        .expect(202)?;

    let log = format!("/api/v1/jobs/{job}/log");
    let lines = admin.get(&log).await?.expect(200)?;
    let events = [("accept", "text/event-stream")];
    let followed = admin
        .send(Method::GET, &log, None, &events)
        .await?
        .expect(200)?;

    assert_eq!(lines.json, json!({"items": [], "next_cursor": null}));
    assert_eq!(followed.header("content-type"), "text/event-stream");
    assert_eq!(followed.text, "event: end\ndata: {}\n\n");
    Ok(())
}

#[tokio::test]
async fn a_long_list_comes_in_pages_newest_first() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    for name in ["a", "b", "c"] {
        admin
            .create("/api/v1/agents", &json!({"name": name}))
            .await?;
    }

    let mut names = Vec::new();
    let mut next = "/api/v1/agents?limit=2".to_owned();
    loop {
        let page = admin.get(&next).await?.expect(200)?;
        for item in page.json["items"].as_array().cloned().unwrap_or_default() {
            names.push(item["name"].as_str().unwrap_or_default().to_owned());
        }
        match page.json["next_cursor"].as_str() {
            Some(cursor) => next = format!("/api/v1/agents?limit=2&cursor={cursor}"),
            None => break,
        }
    }

    assert_eq!(names, ["c", "b", "a"]);
    Ok(())
}

#[tokio::test]
async fn a_name_is_taken_once() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    admin
        .create("/api/v1/agents", &json!({"name": "db1"}))
        .await?;

    let second = admin
        .post("/api/v1/agents", &json!({"name": "DB1"}))
        .await?;

    assert_eq!(
        (second.status, second.fields()),
        (409, vec!["name".to_owned()])
    );
    Ok(())
}
