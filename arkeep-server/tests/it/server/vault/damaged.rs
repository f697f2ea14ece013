//! Values in tables that somebody damaged.

use arkeep_server::store::sealed::{DESTINATION_CREDENTIALS, SealedValues as _};
use arkeep_server::store::sqlite::SqliteStore;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::{Fallible, Server};
use super::{CREDENTIALS, VALUES, filled, lines, vault};

async fn open(data: &std::path::Path) -> Fallible<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(data.join("arkeep.db"));
    Ok(options.foreign_keys(false).connect().await?)
}

/// Ids that are no text, that hold what ends a text elsewhere, and that are nothing at all.
const IDS: [&[u8]; CREDENTIALS as usize] = [b"\xff\x00\xfe", b"", b"a\nb"];

/// A directory whose destinations have ids that this program never wrote.
async fn with_odd_ids() -> Fallible<tempfile::TempDir> {
    let dir = filled().await?;
    let mut database = open(&dir.path().join("data")).await?;
    for (index, id) in IDS.into_iter().enumerate() {
        let renamed = sqlx::query(
            "UPDATE destinations SET id = CAST(? AS TEXT) WHERE id =
             (SELECT id FROM destinations WHERE credentials IS NOT NULL ORDER BY name LIMIT 1 OFFSET ?)",
        )
        .bind(id)
        .bind(i64::try_from(index)?)
        .execute(&mut database)
        .await?;
        assert_eq!(renamed.rows_affected(), 1);
    }
    database.close().await?;
    Ok(dir)
}

/// V6: whatever the id of a row is, its value is named, and no other is passed over.
#[tokio::test]
async fn a_value_is_named_whatever_the_id_of_its_row_is() -> Fallible {
    let dir = with_odd_ids().await?;
    let data = dir.path().join("data");

    let verified = vault(&data, &["verify"], &[]).await?;
    let rotated = vault(&data, &["rotate"], &[]).await?;

    let told = &verified.output;
    assert_eq!(verified.code, Some(1), "{}", verified.errors);
    for id in [r"\xff\x00\xfe", r#""""#, r"a\nb"] {
        let named = format!("destinations.credentials {id}: ");
        assert!(told.contains(&named), "{named} is not in {told}");
    }
    let open = VALUES - CREDENTIALS;
    let end = format!("{open} sealed values open, {CREDENTIALS} do not\n");
    assert!(told.ends_with(&end), "{told}");
    assert_eq!(told.lines().count() as u64, CREDENTIALS + 1, "{told}");
    assert_eq!(rotated.code, Some(1), "{}", rotated.errors);
    let rotated = lines(&rotated.output)?;
    let end = rotated.last().ok_or("nothing was told")?;
    assert_eq!(
        (&end["resealed"], &end["unopened"]),
        (&json!(open), &json!(CREDENTIALS))
    );
    Ok(())
}

/// V6: a walk in the smallest steps comes to its end.
#[tokio::test]
async fn a_walk_comes_past_every_id() -> Fallible {
    let dir = with_odd_ids().await?;
    let store = SqliteStore::open(&dir.path().join("data/arkeep.db")).await?;

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let column = DESTINATION_CREDENTIALS;
        let page = store.page(column, after.as_ref(), 1).await?;
        let Some(value) = page.into_iter().next() else {
            break;
        };
        after = Some(value.id.clone());
        seen.push(value.id.as_ref().to_owned());
        assert!(seen.len() <= IDS.len(), "{seen:?}");
    }
    let last = after.ok_or("nothing was seen")?;
    let held = store.page(DESTINATION_CREDENTIALS, None, 10).await?;
    let held = held.into_iter().find(|value| value.id == last);
    let old = held.ok_or("the last one is gone")?.sealed;
    let replaced = store
        .replace(DESTINATION_CREDENTIALS, &last, &old, b"new")
        .await?;
    store.close().await;

    let mut wanted = IDS.map(<[u8]>::to_vec).to_vec();
    wanted.sort();
    assert_eq!(seen, wanted);
    assert!(replaced);
    Ok(())
}

/// V7: a server makes no key in a ring that misses some: it is an older copy, and what the new key
/// seals is lost when the newer ring is put back.
#[tokio::test]
async fn a_server_does_not_rotate_a_ring_that_misses_keys() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let mut database = open(&data).await?;
    // The id of the key follows version and algorithm.
    let renamed = sqlx::query(
        "UPDATE destinations SET credentials =
         CAST(substr(credentials, 1, 2) || zeroblob(8) || substr(credentials, 11) AS BLOB)
         WHERE name = 'rest 0'",
    )
    .execute(&mut database)
    .await?;
    assert_eq!(renamed.rows_affected(), 1);
    database.close().await?;

    let server = Server::start_in(dir, &[]).await?;
    let mut admin = server.client();
    admin
        .log_in(super::super::ADA, super::super::PASSWORD)
        .await?;
    let refused = admin.post("/api/v1/vault/rotate", &json!({})).await?;

    let refused = refused.expect(409)?;
    let detail = refused.string("/detail");
    assert!(
        detail.contains("misses the keys of 1 sealed value"),
        "{detail}"
    );
    let shown = admin.get("/api/v1/vault").await?.expect(200)?.json;
    assert_eq!(shown["keys"].as_array().map(Vec::len), Some(1));
    let dir = server.stop().await?;
    let unopened = vault(&dir.path().join("data"), &["status"], &[]).await?;
    assert!(unopened.output.contains("missing"), "{}", unopened.output);
    Ok(())
}
