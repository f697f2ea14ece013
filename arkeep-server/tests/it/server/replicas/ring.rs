use arkeep_server::store::sealed::{COLUMNS, SealedValues as _};
use arkeep_vault::Sealed;
use std::collections::BTreeMap;

use super::super::client::Client;
use super::super::vault::{VALUES, credentials, fill, text, write};
use super::super::{ADA, Fallible, PASSWORD, eventually};
use super::Site;

impl Site {
    /// How many values each key is needed for.
    async fn keys(&self) -> Fallible<BTreeMap<String, u64>> {
        let store = self.store().await?;
        let mut keys = BTreeMap::new();
        for column in COLUMNS {
            for value in store.page(*column, None, 200).await? {
                let key = Sealed::parse(&value.sealed)?.key_id().to_string();
                *keys.entry(key).or_default() += 1;
            }
        }
        store.close().await;
        Ok(keys)
    }

    /// A site in which a server has worked.
    async fn filled() -> Fallible<Self> {
        let site = Self::new().await?;
        let (mut one, mut two, mut admin) = site.two().await?;
        fill(&mut admin).await?;
        one.process.kill().await?;
        two.process.kill().await?;
        Ok(site)
    }
}

/// V7: what one replica rotates, the other follows: it opens what the new key sealed, seals with it,
/// and everything moves, while both serve.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_reaches_the_other_replica() -> Fallible {
    let site = Site::new().await?;
    let (_one, two, mut admin) = site.two().await?;
    fill(&mut admin).await?;
    let mut elsewhere = Client::new(&two.http);
    elsewhere.log_in(ADA, PASSWORD).await?;

    admin
        .post("/api/v1/vault/rotate", &serde_json::json!({}))
        .await?
        .expect(202)?;
    credentials(&mut elsewhere, "sealed by the other").await?;

    eventually(async || Ok(site.keys().await?.len() == 1)).await?;
    let verified = site.done(&["vault", "verify"]).await?;
    assert_eq!(
        verified,
        format!("{} sealed values open, 0 do not\n", VALUES + 1)
    );
    Ok(())
}

/// V7: of many that rotate at once, each adds its key to what the others have made.
#[tokio::test(flavor = "multi_thread")]
async fn rotations_at_once_do_not_fork_the_ring() -> Fallible {
    let site = Site::new().await?;
    let (one, two, mut admin) = site.two().await?;
    fill(&mut admin).await?;
    let mut elsewhere = Client::new(&two.http);
    elsewhere.log_in(ADA, PASSWORD).await?;
    let body = serde_json::json!({});

    for _ in 0..5 {
        let (here, there) = tokio::join!(
            admin.post("/api/v1/vault/rotate", &body),
            elsewhere.post("/api/v1/vault/rotate", &body),
        );
        here?.expect(202)?;
        there?.expect(202)?;
    }
    credentials(&mut admin, "sealed at one").await?;
    credentials(&mut elsewhere, "sealed at two").await?;

    let status = site.done(&["vault", "status"]).await?;
    // A line above, eleven keys, and one below.
    assert_eq!(status.lines().count(), 13, "{status}");
    eventually(async || Ok(site.keys().await?.len() == 1)).await?;
    site.done(&["vault", "verify"]).await?;
    drop((one, two));
    Ok(())
}

/// V7: a new key that every machine has takes the old one's place; one that was made here would not.
#[tokio::test(flavor = "multi_thread")]
async fn the_ring_is_rekeyed_for_all_machines() -> Fallible {
    let site = Site::filled().await?;
    let new = site.dir.path().join("new.key");
    write(&new, &[9; 32], 0o600)?;
    let new = text(&new);

    let alone = site.command("one", &["vault", "rekey"], &[]).await?;
    site.done(&["vault", "rekey", "--new-vault-key-file", &new])
        .await?;
    let old = site.command("one", &["vault", "verify"], &[]).await?;
    let verified = site
        .command(
            "one",
            &["vault", "verify"],
            &[("ARKEEP_VAULT_KEY_FILE", &new)],
        )
        .await?;

    assert_eq!(alone.code, Some(3), "{}", alone.errors);
    assert!(alone.errors.contains("--new-vault-key-file"));
    assert_eq!(old.code, Some(4), "{}", old.errors);
    assert_eq!(verified.code, Some(0), "{}", verified.errors);
    Ok(())
}

/// V7: killed at any step of a rotation or a rekey, every value opens; and the same command, given
/// again, comes to its end.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_loses_nothing() -> Fallible {
    const OF_ROTATION: [&str; 5] = [
        "ring-writing",
        "ring-written",
        "reseal.read",
        "reseal.sealed",
        "reseal.replaced",
    ];
    const OF_REKEY: [&str; 4] = [
        "ring-writing",
        "ring-written",
        "rekey-let-in",
        "rekey-shut-out",
    ];
    let verified = format!("{VALUES} sealed values open, 0 do not\n");
    let site = Site::filled().await?;
    for (number, point) in OF_REKEY.iter().enumerate() {
        for time in ["1", "2"] {
            let old = text(&site.key());
            let new = site.dir.path().join(format!("{point}{time}.key"));
            let byte = u8::try_from(number * 2)? + 20 + time.parse::<u8>()?;
            write(&new, &[byte; 32], 0o600)?;
            let new = text(&new);
            let rekey = ["vault", "rekey", "--new-vault-key-file", &new];
            let place = format!("{point}:{time}");

            let died = site
                .command("one", &rekey, &[("ARKEEP_FAILPOINT", &place)])
                .await?;
            assert!(
                matches!(died.code, None | Some(0)),
                "{place}: {}",
                died.errors
            );
            let mut opens = false;
            for key in [&old, &new] {
                let key = [("ARKEEP_VAULT_KEY_FILE", key.as_str())];
                let ended = site.command("one", &["vault", "verify"], &key).await?;
                opens |= ended.output == verified;
            }
            assert!(opens, "{place}");
            let again = site.command("one", &rekey, &[]).await?;
            assert_eq!(again.code, Some(0), "{place}: {}", again.errors);
            std::fs::copy(&new, site.key())?;
            assert_eq!(site.done(&["vault", "verify"]).await?, verified, "{place}");
        }
    }
    for point in OF_ROTATION {
        for time in ["1", "2"] {
            let place = format!("{point}:{time}");
            let died = site
                .command("one", &["vault", "rotate"], &[("ARKEEP_FAILPOINT", &place)])
                .await?;

            assert_eq!(died.code, None, "{place}: {}", died.errors);
            assert_eq!(site.done(&["vault", "verify"]).await?, verified, "{place}");
            site.done(&["vault", "rotate"]).await?;
            assert_eq!(site.keys().await?.len(), 1, "{place}");
        }
    }
    Ok(())
}

/// V7: a server that is killed while it moves values is followed by the other.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_while_it_moves_values_is_made_up_for() -> Fallible {
    for point in ["ring-written:3", "reseal.sealed:2", "reseal.replaced:2"] {
        let site = Site::new().await?;
        let one = site.start("one").await?;
        let mut admin = site.set_up(&one, "one").await?;
        fill(&mut admin).await?;
        let mut two = site
            .start_with("two", &[("ARKEEP_FAILPOINT", point)])
            .await?;
        let mut elsewhere = Client::new(&two.http);
        elsewhere.log_in(ADA, PASSWORD).await?;

        // The answers may be lost with the server.
        let body = serde_json::json!({});
        for _ in 0..3 {
            let _ = elsewhere.post("/api/v1/vault/rotate", &body).await;
        }
        let died = super::super::process::waited(&mut two.process).await?;

        assert_eq!(died.code(), None, "{point}");
        eventually(async || Ok(site.keys().await?.len() == 1)).await?;
        credentials(&mut admin, "afterwards").await?;
        site.done(&["vault", "verify"]).await?;
    }
    Ok(())
}

/// API.md: the commands for recovery.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_looked_after_beside_the_replicas() -> Fallible {
    let site = Site::new().await?;
    let (_one, two, _) = site.two().await?;

    let list = site.done(&["user", "list"]).await?;
    assert!(list.contains(ADA), "{list}");
    let mut ada = Client::new(&two.http);
    ada.log_in(ADA, PASSWORD).await?;
    // The last administrator stays, so another is made at the database's other end.
    let new = serde_json::json!({"email": "c@d", "password": PASSWORD, "role": "admin"});
    ada.create("/api/v1/users", &new).await?;
    site.done(&["user", "disable", ADA]).await?;

    eventually(async || {
        let mut ada = ada.clone();
        Ok(ada.get("/api/v1/users/me").await?.status == 401)
    })
    .await
}
