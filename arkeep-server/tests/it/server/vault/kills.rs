//! The real program, killed at every step of a rotation, of a rekey, and of moving the values.

use std::path::Path;

use arkeep_vault::CRASH_POINTS;
use tempfile::TempDir;

use super::super::process::{Ended, serving, waited};
use super::super::{ADA, Fallible, PASSWORD};
use super::live::moved;
use super::{VALUES, all_open, copy, done, filled, keys_of, primary, text, vault, write};
use crate::server::client::Client;

/// Where moving a value can end.
const STEPS: [&str; 3] = ["reseal.read", "reseal.sealed", "reseal.replaced"];

/// Where replacing the ring can end.
const REPLACING: [&str; 6] = [
    "file-created",
    "file-half-written",
    "file-written",
    "file-synced",
    "file-replaced",
    "directory-synced",
];

async fn killed(data: &Path, arguments: &[&str], point: &str, time: u32) -> Fallible<Ended> {
    let place = format!("{point}:{time}");
    vault(data, arguments, &[("ARKEEP_FAILPOINT", &place)]).await
}

/// From then on a step is what it was the time before.
const MOST: u32 = 3;

/// Runs a command on a copy of `template`, killed when it comes to each of `points` for the first,
/// second and third time; and looks at what is left each time.
///
/// `points` are those that it must come to, and `verify` how the vault is opened afterwards.
async fn survives(
    template: &Path,
    points: &[&str],
    command: &[&str],
    verify: &[&[&str]],
) -> Fallible {
    let mut came_to = Vec::new();
    for point in CRASH_POINTS.iter().chain(&STEPS).chain(&OF_REKEY) {
        for time in 1..=MOST {
            let dir = TempDir::new()?;
            let data = copy(template, &dir.path().join("data"))?;

            let ended = killed(&data, command, point, time).await?;
            if ended.code == Some(0) {
                break;
            }
            came_to.push(*point);
            assert_eq!(ended.code, None, "{point} {time}: {}", ended.errors);
            opens(&data, verify, &format!("{point} {time}")).await?;

            let again = vault(&data, command, &[]).await?;
            assert_eq!(again.code, Some(0), "{point} {time}: {}", again.errors);
            opens(&data, verify, &format!("{point} {time}, again")).await?;
        }
    }
    came_to.dedup();
    assert_eq!(came_to, points);
    Ok(())
}

/// Every value opens in at least one of the ways.
async fn opens(data: &Path, ways: &[&[&str]], when: &str) -> Fallible {
    let mut told = String::new();
    for way in ways {
        let ended = vault(data, way, &[]).await?;
        if ended.output == format!("{VALUES} sealed values open, 0 do not\n") {
            return Ok(());
        }
        told += &format!("{way:?}: {}{}\n", ended.output, ended.errors);
    }
    Err(format!("{when}: {told}").into())
}

const OF_REKEY: [&str; 2] = ["rekey-let-in", "rekey-shut-out"];

/// V7
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_survives() -> Fallible {
    let template = filled().await?;
    let points = [&REPLACING[..], &STEPS].concat();

    survives(
        &template.path().join("data"),
        &points,
        &["rotate"],
        &[&["verify"]],
    )
    .await
}

/// V7
#[tokio::test(flavor = "multi_thread")]
async fn replacing_the_key_file_survives() -> Fallible {
    let template = filled().await?;

    survives(
        &template.path().join("data"),
        &CRASH_POINTS,
        &["rekey"],
        &[&["verify"]],
    )
    .await
}

/// V7: at any moment the key in use opens the ring, or the new one does.
#[tokio::test(flavor = "multi_thread")]
async fn moving_to_another_source_survives() -> Fallible {
    let template = filled().await?;
    let new = template.path().join("new.key");
    write(&new, &[7; 32], 0o600)?;
    let new = text(&new);
    let points = [&REPLACING[..], &OF_REKEY].concat();

    survives(
        &template.path().join("data"),
        &points,
        &["rekey", "--new-vault-key-file", &new],
        &[&["verify"], &["verify", "--vault-key-file", &new]],
    )
    .await
}

/// V7: after a rotation that was killed, the next one leaves nothing under an older key.
#[tokio::test]
async fn the_next_rotation_finishes_what_was_cut_off() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");

    let ended = killed(&data, &["rotate"], "reseal.replaced", 2).await?;
    let between = keys_of(&data).await?;
    done(&data, &["rotate"]).await?;

    assert_eq!(ended.code, None);
    assert_eq!(between.len(), 2, "{between:?}");
    assert_eq!(
        keys_of(&data).await?,
        [(primary(&data).await?, VALUES)].into()
    );
    all_open(&data).await
}

/// V7: a server that is killed while it moves the values goes on when it starts again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_goes_on_after_it() -> Fallible {
    for step in STEPS {
        let dir = filled().await?;
        let data = dir.path().join("data");
        let place = format!("{step}:3");
        let (mut server, address) = serving(&data, &[("ARKEEP_FAILPOINT", &place)]).await?;
        let mut admin = Client::new(&format!("http://{address}"));
        admin.log_in(ADA, PASSWORD).await?;

        // The answer may be lost with the server.
        let _ = admin
            .post("/api/v1/vault/rotate", &serde_json::json!({}))
            .await;
        let died = waited(&mut server).await?;
        let between = keys_of(&data).await?;
        all_open(&data).await?;
        let (mut server, address) = serving(&data, &[]).await?;
        let mut admin = Client::new(&format!("http://{address}"));
        admin.log_in(ADA, PASSWORD).await?;
        moved(&mut admin).await?;
        server.kill().await?;

        assert_eq!(died.code(), None, "{step}");
        assert_eq!(between.len(), 2, "{step}: {between:?}");
        let new = primary(&data).await?;
        assert_eq!(keys_of(&data).await?, [(new, VALUES)].into(), "{step}");
        all_open(&data).await?;
    }
    Ok(())
}
