use reqwest::Method;
use serde_json::Value;

use super::super::client::Client;
use super::super::token_keys::kid;
use super::super::{ADA, Fallible, PASSWORD, eventually};
use super::{Replica, Site};

async fn published(at: &Replica) -> Fallible<Vec<String>> {
    let jwks = Client::new(&at.http).get("/.well-known/jwks.json").await?;
    let answer = jwks.expect(200)?;
    let keys = answer.json.get("keys").and_then(Value::as_array);
    let kid = |key: &Value| Some(key.get("kid")?.as_str()?.to_owned());
    Ok(keys.into_iter().flatten().filter_map(kid).collect())
}

async fn change(site: &Site, statement: &'static str) -> Fallible {
    sqlx::query(statement)
        .execute(&mut site.raw().await?)
        .await?;
    Ok(())
}

/// Shows what a client holds to another replica.
async fn status(at: &Replica, client: &Client) -> Fallible<u16> {
    let mut there = Client::new(&at.http);
    there.bearer.clone_from(&client.bearer);
    Ok(there.get("/api/v1/users/me").await?.status)
}

async fn logged_in(at: &Replica) -> Fallible<(Client, String)> {
    let mut client = Client::new(&at.http);
    client.log_in(ADA, PASSWORD).await?;
    let signed_by = kid(client.bearer.as_deref().unwrap_or_default())?;
    Ok((client, signed_by))
}

/// A1, S2: three servers that see a key's time come at once make one, all follow, and nobody is logged
/// out on the way, also when the server that made it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn three_servers_change_their_key_as_one() -> Fallible {
    let site = Site::new().await?;
    let (mut one, mut two, _) = site.two().await?;
    let (old_client, old) = logged_in(&one).await?;
    for replica in [&mut one, &mut two] {
        replica.process.kill().await?;
    }
    change(
        &site,
        "UPDATE token_keys SET created_at = created_at - 90 * 86400000::bigint",
    )
    .await?;

    // Each looks at its start.
    let (mut one, two, three) =
        tokio::try_join!(site.start("one"), site.start("two"), site.start("three"))?;
    for replica in [&one, &two, &three] {
        eventually(async || Ok(published(replica).await?.len() == 2)).await?;
    }
    let both = published(&one).await?;
    assert_eq!(published(&two).await?, both);
    assert_eq!(published(&three).await?, both);
    for replica in [&one, &two, &three] {
        assert_eq!(logged_in(replica).await?.1, old, "published, and no more");
        assert_eq!(status(replica, &old_client).await?, 200);
    }

    // A day goes by.
    change(
        &site,
        "UPDATE token_keys SET retired_at = retired_at - 86400000",
    )
    .await?;
    eventually(async || Ok(logged_in(&one).await?.1 != old)).await?;
    let (new_client, new) = logged_in(&one).await?;
    one.process.start_kill()?;
    assert!(both.contains(&new));
    for replica in [&two, &three] {
        assert_eq!(status(replica, &new_client).await?, 200);
        assert_eq!(status(replica, &old_client).await?, 200);
        eventually(async || Ok(logged_in(replica).await?.1 == new)).await?;
    }

    // The last token of the old key has expired.
    change(
        &site,
        "UPDATE token_keys SET retired_at = retired_at - 3600000",
    )
    .await?;
    eventually(async || {
        let mut raw = site.raw().await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM token_keys")
            .fetch_one(&mut raw)
            .await?;
        Ok(count == 1)
    })
    .await?;
    for replica in [&two, &three] {
        eventually(async || Ok(published(replica).await? == [new.as_str()])).await?;
        assert_eq!(status(replica, &old_client).await?, 401);
        assert_eq!(status(replica, &new_client).await?, 200);
    }
    // The session of the old token goes on.
    let mut again = Client::new(&two.http);
    again.cookie.clone_from(&old_client.cookie);
    let refresh = again.send(Method::POST, "/api/v1/auth/refresh", None, &[]);
    let refreshed = refresh.await?.expect(200)?;
    again.take(&refreshed);
    assert_eq!(status(&three, &again).await?, 200);
    Ok(())
}
