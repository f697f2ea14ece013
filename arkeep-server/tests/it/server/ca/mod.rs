//! T7: the root is replaced, by the whole server.

mod commands;
mod fleet;
#[cfg(feature = "failpoints")]
mod kills;
pub(super) mod machine;
mod model;
mod over_http;

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::{ADA, Fallible, PASSWORD, eventually};

/// A little more than a phase lasts at least.
const A_PHASE: Duration = Duration::from_secs(5 * 60 + 1);

async fn shown(admin: &mut Client) -> Fallible<Value> {
    // The clock is moved by more than a login stays fresh.
    admin.log_in(ADA, PASSWORD).await?;
    Ok(admin.get("/api/v1/ca").await?.expect(200)?.json)
}

async fn reaches(admin: &Client, phase: &str) -> Fallible {
    eventually(async || {
        let mut admin = admin.clone();
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(shown(&mut admin).await?.get("phase") == Some(&json!(phase)))
    })
    .await
}
