//! The keys of the real program: where they come from, and how they are changed.

mod damaged;
#[cfg(feature = "failpoints")]
mod kills;
mod live;
mod rekeying;
mod rotation;
mod sources;
mod walking;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use arkeep_server::store::sealed::{COLUMNS, SealedValues as _};
use arkeep_server::store::sqlite::SqliteStore;
use arkeep_vault::Sealed;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Client;
use super::process::{Ended, run};
use super::{Fallible, Server};

/// How many sealed values a filled directory has: the authority's key, the token key, a repository
/// password, and credentials.
pub(super) const VALUES: u64 = 3 + CREDENTIALS;
const CREDENTIALS: u64 = 3;

/// A directory in which a server has worked.
pub(super) async fn filled() -> Fallible<TempDir> {
    let (server, mut admin) = Server::with_admin().await?;
    fill(&mut admin).await?;
    server.stop().await
}

pub(super) async fn fill(admin: &mut Client) -> Fallible {
    for number in 0..CREDENTIALS {
        credentials(admin, &format!("rest {number}")).await?;
    }
    let policy = super::resources::policy(admin).await?;
    admin.create("/api/v1/policies", &policy).await?;
    Ok(())
}

pub(super) async fn credentials(admin: &mut Client, name: &str) -> Fallible<Value> {
    let body = json!({
        "name": name,
        "kind": "rest",
        "location": {"url": "http://h/"},
        "credentials": {"username": "u", "password": "hunter2"},
    });
    admin.create("/api/v1/destinations", &body).await
}

/// Runs `vault …` on a directory.
async fn vault(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Fallible<Ended> {
    let data = data.to_string_lossy();
    let mut all = vec!["vault"];
    all.extend(arguments);
    all.extend(["--data-dir", &data]);
    run(&all, environment).await
}

/// The same, when it should go well.
async fn done(data: &Path, arguments: &[&str]) -> Fallible<String> {
    let ended = vault(data, arguments, &[]).await?;
    match ended.code {
        Some(0) => Ok(ended.output),
        code => Err(format!("{arguments:?}: {code:?} {}{}", ended.output, ended.errors).into()),
    }
}

/// How many values each key is needed for, as they lie in the database.
async fn keys_of(data: &Path) -> Fallible<BTreeMap<String, u64>> {
    let store = SqliteStore::open(&data.join("arkeep.db")).await?;
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

/// Every sealed value, byte for byte.
async fn values_of(data: &Path) -> Fallible<Vec<(String, String, Vec<u8>)>> {
    let store = SqliteStore::open(&data.join("arkeep.db")).await?;
    let mut values = Vec::new();
    for column in COLUMNS {
        for value in store.page(*column, None, 200).await? {
            values.push((column.to_string(), value.id.to_string(), value.sealed));
        }
    }
    store.close().await;
    Ok(values)
}

/// Fails unless every value opens.
async fn all_open(data: &Path) -> Fallible {
    let told = done(data, &["verify"]).await?;
    match told == format!("{VALUES} sealed values open, 0 do not\n") {
        true => Ok(()),
        false => Err(told.into()),
    }
}

/// The id of the key that seals, as `vault status` shows it.
async fn primary(data: &Path) -> Fallible<String> {
    let status = done(data, &["status"]).await?;
    let line = status.lines().find(|line| line.contains(" primary "));
    let key = line.and_then(|line| line.split(' ').next());
    Ok(key.ok_or(status.clone())?.to_owned())
}

fn lines(output: &str) -> Fallible<Vec<Value>> {
    Ok(output
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Fallible {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn copy(from: &Path, to: &Path) -> Fallible<PathBuf> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(to.to_owned())
}
