use arkeep_server::store::sealed::{POLICY_REPOSITORY_PASSWORD, SealedValues as _};
use arkeep_server::store::sqlite::SqliteStore;
use serde_json::json;

use super::super::{Fallible, Server};
use super::{VALUES, all_open, credentials, done, fill, filled, keys_of, lines, primary, vault};

/// V7
#[tokio::test]
async fn every_value_moves_to_a_new_key() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let old = primary(&data).await?;

    let told = lines(&done(&data, &["rotate"]).await?)?;

    let new = primary(&data).await?;
    assert_ne!(new, old);
    assert_eq!(keys_of(&data).await?, [(new.clone(), VALUES)].into());
    all_open(&data).await?;
    assert_eq!(told.first(), Some(&json!({"event": "rotated", "key": new})));
    let end = json!({"event": "done", "total": VALUES, "resealed": VALUES, "unopened": 0});
    assert_eq!(told.last(), Some(&end));
    let status = done(&data, &["status"]).await?;
    assert!(status.contains(&format!("{old}  decrypt ")), "{status}");
    Ok(())
}

/// V7
#[tokio::test]
async fn programs_are_told_line_by_line_how_far_it_is() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    for number in 0..120 {
        credentials(&mut admin, &format!("rest {number}")).await?;
    }

    let told = lines(&done(&server.data_dir(), &["rotate"]).await?)?;

    let total = 122;
    assert_eq!(
        told.get(1),
        Some(&json!({
            "event": "progress", "done": 100, "total": total, "resealed": 100, "unopened": 0
        }))
    );
    Ok(())
}

/// V7: a bar on a terminal.
#[tokio::test]
async fn people_see_a_bar() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");

    let shown = super::super::process::on_a_terminal(&[
        "vault",
        "rotate",
        "--data-dir",
        &data.to_string_lossy(),
    ])
    .await?;

    assert!(shown.contains("sealed values moved to key"), "{shown}");
    assert!(shown.contains(&format!("{VALUES}/{VALUES}")), "{shown}");
    assert!(!shown.contains("\"event\""), "{shown}");
    Ok(())
}

/// V7: what does not open is named and left alone, and does not keep the rest from moving.
#[tokio::test]
async fn a_value_that_does_not_open_is_named_and_left_alone() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let url = format!("sqlite://{}", data.join("arkeep.db").display());
    let mut database = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await?;
    sqlx::query("UPDATE policies SET repository_password = x'0102'")
        .execute(&mut database)
        .await?;
    sqlx::Connection::close(database).await?;

    let ended = vault(&data, &["rotate"], &[]).await?;

    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    let told = lines(&ended.output)?;
    let named = told.iter().find(|line| line["event"] == "unopened");
    let named = named.ok_or("it is not named")?;
    assert_eq!(named["column"], "policies.repository_password");
    let end = told.last().ok_or("nothing was told")?;
    assert_eq!(end["resealed"], VALUES - 1);
    assert_eq!(end["unopened"], 1);
    Ok(())
}

/// V3, V6: whatever is wrong with a value, the verification says it in one line.
#[tokio::test]
async fn a_value_of_another_version_is_named_with_its_version() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let store = SqliteStore::open(&data.join("arkeep.db")).await?;
    let page = store.page(POLICY_REPOSITORY_PASSWORD, None, 1).await?;
    let value = page.first().ok_or("no value")?;
    let mut newer = value.sealed.clone();
    *newer.first_mut().ok_or("no version")? = 7;
    let column = POLICY_REPOSITORY_PASSWORD;
    store
        .replace(column, &value.id, &value.sealed, &newer)
        .await?;
    store.close().await;

    let ended = vault(&data, &["verify"], &[]).await?;

    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    let named = ended.output.lines().next().unwrap_or_default();
    assert!(
        named.starts_with("policies.repository_password "),
        "{named}"
    );
    assert!(named.contains("format version 7"), "{named}");
    assert_eq!(ended.output.lines().count(), 2);
    Ok(())
}

/// V7: a key can be disabled and removed when no value needs it, and not before.
#[tokio::test]
async fn a_key_goes_only_when_no_value_needs_it() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let old = primary(&data).await?;

    let primary_refused = vault(&data, &["disable", &old], &[]).await?;
    done(&data, &["rotate"]).await?;
    let new = primary(&data).await?;
    let needed = vault(&data, &["disable", &new], &[]).await?;
    let early = vault(&data, &["remove", &old], &[]).await?;
    done(&data, &["disable", &old]).await?;
    let too_soon = vault(&data, &["remove", &old], &[]).await?;

    for (refused, why) in [
        (primary_refused, "needed by"),
        (needed, "needed by"),
        (early, "not disabled"),
        (too_soon, "less than a day ago: remove it after 20"),
    ] {
        assert_eq!(refused.code, Some(1), "{}", refused.errors);
        assert!(refused.errors.contains(why), "{}", refused.errors);
    }
    all_open(&data).await?;
    done(&data, &["enable", &old]).await?;
    let status = done(&data, &["status"]).await?;
    assert!(status.contains(&format!("{old}  decrypt ")), "{status}");
    Ok(())
}

/// V7: the values move also when nobody can be told.
#[tokio::test]
async fn a_full_disk_behind_the_output_keeps_no_value_from_moving() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");

    let ended = super::super::process::run_into(&data, &["vault", "rotate"], "/dev/full").await?;

    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    let newest = primary(&data).await?;
    assert_eq!(keys_of(&data).await?, [(newest, VALUES)].into());
    all_open(&data).await
}

/// V7: what the server seals after the rotation of another process is sealed with its key, and the
/// server opens it.
#[tokio::test]
async fn a_server_that_runs_takes_the_new_key_up() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    fill(&mut admin).await?;
    let data = server.data_dir();

    done(&data, &["rotate"]).await?;
    credentials(&mut admin, "later").await?;

    let new = primary(&data).await?;
    assert_eq!(keys_of(&data).await?, [(new, VALUES + 1)].into());
    Ok(())
}

/// V7: neither loses what the other wrote to the ring.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_seals_meanwhile_loses_nothing() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let data = server.data_dir();

    let sealing = tokio::spawn(async move {
        for number in 0..40 {
            let made = credentials(&mut admin, &format!("rest {number}")).await;
            made.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(())
    });
    for _ in 0..5 {
        done(&data, &["rotate"]).await?;
    }
    sealing.await??;

    let verified = done(&data, &["verify"]).await?;
    assert_eq!(verified, "42 sealed values open, 0 do not\n");
    Ok(())
}

/// V7: a ring that is older than the values is named as such and never changed: what it sealed from
/// then on would be lost with the newer one put back, and a new key would lock that out.
#[tokio::test]
async fn an_older_ring_is_left_alone_by_every_command() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let (ring, key) = (data.join("vault.ring"), data.join("vault.key"));
    let first = primary(&data).await?;
    let old = std::fs::read(&ring)?;
    done(&data, &["rotate"]).await?;
    let (new, guard) = (std::fs::read(&ring)?, std::fs::read(&key)?);
    std::fs::write(&ring, &old)?;

    let status = vault(&data, &["status"], &[]).await?;
    for arguments in [
        &["rotate"][..],
        &["rekey"],
        &["enable", &first],
        &["disable", &first],
        &["remove", &first],
    ] {
        let refused = vault(&data, arguments, &[]).await?;
        let errors = refused.errors;
        assert_eq!(refused.code, Some(4), "{arguments:?}: {errors}");
        assert_eq!(std::fs::read(&ring)?, old, "{arguments:?}");
        assert_eq!(std::fs::read(&key)?, guard, "{arguments:?}");
    }

    assert_eq!(status.code, Some(1), "{}", status.output);
    assert!(status.output.contains("missing"), "{}", status.output);
    std::fs::write(&ring, new)?;
    all_open(&data).await
}
