use std::sync::Arc;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use arkeep_server::store::RotationStore as _;
use arkeep_server::store::rotation::Step;
use arkeep_server::store::sqlite::SqliteStore;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{Fallible, Server};
use super::machine::{Machine, Place, join_token};
use super::{A_PHASE, reaches, shown};

fn fingerprints(shown: &Value) -> Vec<(String, String)> {
    let roots = shown["roots"].as_array().cloned().unwrap_or_default();
    let text = |root: &Value, name: &str| root[name].as_str().unwrap_or_default().to_owned();
    roots
        .iter()
        .map(|root| (text(root, "state"), text(root, "fingerprint")))
        .collect()
}

/// T7
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_on_by_itself_once_it_was_begun() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    let mut admin = server.set_up().await?;
    let settled = shown(&mut admin).await?;
    let (_, of_old) = join_token(&mut admin, "first").await?;
    let old = of_old.fingerprint().to_string();
    assert_eq!(fingerprints(&settled), [("signing".into(), old.clone())]);
    assert_eq!(settled["phase"], "settled");
    assert_eq!(settled["not_before"], Value::Null);
    assert_eq!(settled["behind"], json!([]));
    clock.advance(A_PHASE);
    assert_eq!(shown(&mut admin).await?["phase"], "settled", "nobody asked");

    let begun = admin.post("/api/v1/ca/rotate", &json!({})).await?;
    let announced = begun.expect(202)?.json;
    let force = json!({"force": true});
    let again = admin.post("/api/v1/ca/rotate", &force).await?.expect(409)?;
    assert!(again.text.contains("wait until"), "{}", again.text);
    assert_eq!(announced["phase"], "announced");
    let roots = fingerprints(&announced);
    assert_eq!(roots[0], ("signing".into(), old.clone()));
    let new = roots[1].1.clone();
    assert_eq!(roots[1].0, "announced");
    assert_ne!(new, old);
    let (_, token) = join_token(&mut admin, "second").await?;
    assert_eq!(token.fingerprint().to_string(), old);

    clock.advance(A_PHASE);
    reaches(&admin, "issuing").await?;
    let issuing = shown(&mut admin).await?;
    let expected = [("signing".into(), new.clone()), ("retiring".into(), old)];
    assert_eq!(fingerprints(&issuing), expected);
    admin.log_in(super::ADA, super::PASSWORD).await?;
    let (_, token) = join_token(&mut admin, "third").await?;
    assert_eq!(token.fingerprint().to_string(), new);

    clock.advance(A_PHASE);
    reaches(&admin, "settled").await?;
    let settled = shown(&mut admin).await?;
    assert_eq!(fingerprints(&settled), [("signing".into(), new)]);
    Ok(())
}

/// T7: nobody is left behind unless an administrator says so, and then everybody knows who it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_whoever_is_away_until_somebody_will_not() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let time: Arc<dyn arkeep_core::Clock> = Arc::clone(&clock) as _;
    let place = Place::new().await?;
    let options = ["--agent-addr", &place.address];
    let server = Server::start_with(TempDir::new()?, &options, Arc::clone(&time)).await?;
    place.leads_to(&server.grpc);
    let mut admin = server.set_up().await?;
    let mut here = Machine::enrolled(&mut admin, "here", &time).await?;
    let away = Machine::enrolled(&mut admin, "away", &time).await?;
    here.work();
    let names = |shown: &Value| {
        let behind = shown["behind"].as_array().cloned().unwrap_or_default();
        let name = |one: &Value| format!("{}: {}", one["name"], one["lacks"]);
        behind.iter().map(name).collect::<Vec<_>>()
    };

    admin
        .post("/api/v1/ca/rotate", &json!({}))
        .await?
        .expect(202)?;
    // Whoever is connected is told at the port's next look at it, or at the next session.
    here.rest();
    here.work();
    clock.advance(A_PHASE);
    let watcher = admin.clone();
    let only_away = async |lacks: &str| {
        let expected = [format!("\"away\": \"{lacks}\"")];
        super::eventually(async || {
            let mut admin = watcher.clone();
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(names(&shown(&mut admin).await?) == expected)
        })
        .await
    };
    only_away("trust").await?;
    admin.log_in(super::ADA, super::PASSWORD).await?;
    let refused = admin.post("/api/v1/ca/rotate", &json!({})).await?;
    let refused = refused.expect(409)?;
    assert!(
        refused.text.contains("waits for 1 agents"),
        "{}",
        refused.text
    );
    let force = json!({"force": true});
    admin.post("/api/v1/ca/rotate", &force).await?.expect(202)?;

    clock.advance(A_PHASE);
    only_away("certificate").await?;
    admin.log_in(super::ADA, super::PASSWORD).await?;
    admin.post("/api/v1/ca/rotate", &force).await?.expect(202)?;

    only_away("enrolment").await?;
    let refused = away
        .connector
        .renew()
        .await
        .map(|_| ())
        .map_err(|e| e.to_string());
    let why = refused.err().ok_or("it was let in")?;
    assert!(why.contains("enrol"), "{why}");
    let path = format!("/api/v1/agents/{}/join-token", away.id);
    let offered = admin.post(&path, &json!({})).await?.expect(200)?;
    let token = offered.string("/join_token").parse()?;
    let enrolled = arkeep_transport::client::enroll(&token, &time).await?;
    let mut back = Machine::of(away.id.clone(), enrolled, &time)?;
    back.work();
    super::eventually(async || {
        let mut admin = admin.clone();
        Ok(names(&shown(&mut admin).await?).is_empty())
    })
    .await
}

/// T7: what a browser sees follows.
#[tokio::test(flavor = "multi_thread")]
async fn https_goes_with_the_root_that_signs() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let time: Arc<dyn arkeep_core::Clock> = Arc::clone(&clock) as _;
    let server = Server::start_with(TempDir::new()?, &["--tls-auto"], time).await?;
    let data = server.data_dir();
    let signing = async || {
        let path = data.to_string_lossy();
        let told = super::super::process::run(&["ca", "status", "--data-dir", &path], &[]).await?;
        let pem = told.output.split_inclusive("-----END CERTIFICATE-----\n");
        let first = pem.map(str::to_owned).next().unwrap_or_default();
        let (_, pem) = first.split_once("-----BEGIN").ok_or("no certificate")?;
        Ok::<_, Box<dyn std::error::Error>>(format!("-----BEGIN{pem}"))
    };
    let answers_by = async |pem: String| {
        let root = reqwest::Certificate::from_pem(pem.as_bytes())?;
        let address: std::net::SocketAddr = server.base.trim_start_matches("http://").parse()?;
        let http = reqwest::Client::builder()
            .tls_certs_only([root])
            .resolve("localhost", address)
            .build()?;
        let url = format!("https://localhost:{}/health/live", address.port());
        Ok::<_, Box<dyn std::error::Error>>(http.get(url).send().await.is_ok())
    };
    let rotate = async || {
        let store = SqliteStore::open(&data.join("arkeep.db")).await?;
        let seen = store.rotation().await?.ok_or("no root")?.rotation;
        let stepped = store.advance(&seen, Step::Issue, clock.now()).await?;
        store.close().await;
        Ok::<_, Box<dyn std::error::Error>>(stepped)
    };
    let old = signing().await?;
    assert!(answers_by(old.clone()).await?);

    let path = data.to_string_lossy().into_owned();
    let begun = ["ca", "rotate", "--data-dir", &path];
    let begun = super::super::process::run(&begun, &[]).await?;
    assert_eq!(begun.code, Some(0), "{}", begun.errors);
    assert!(rotate().await?);

    let new = signing().await?;
    assert_ne!(new, old);
    super::super::eventually(async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        answers_by(new.clone()).await
    })
    .await?;
    assert!(!answers_by(old).await?);
    Ok(())
}
