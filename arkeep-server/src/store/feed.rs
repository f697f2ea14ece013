//! Keeping a replica's copy of the revocations true.
//!
//! A replica decides by its copy for a second at most ([`RevocationCache::MAX_AGE`]), and asks the
//! database for every request from then on. This keeps the copy younger: it is read again at each
//! notice that something was revoked elsewhere, and four times a second whether there was one or not, so
//! that a notice that is lost costs a quarter of a second.

use std::fmt;
use std::future::pending;
use std::time::Duration;

use arkeep_auth::RevocationCache;
use async_trait::async_trait;
use tokio::time::sleep;

/// Tells when something may have been revoked elsewhere.
///
/// [`NoNotices`] is for a store that only this process writes to;
/// [`PostgresNotices`](super::postgres::PostgresNotices) hears what other replicas commit.
#[async_trait]
pub trait RevocationNotices: fmt::Debug + Send {
    /// Waits for the next notice. Several at once may be one.
    ///
    /// A notice may be lost with a connection; who calls reads again after a while in any case.
    async fn next(&mut self);
}

/// Never tells anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNotices;

#[async_trait]
impl RevocationNotices for NoNotices {
    async fn next(&mut self) {
        pending::<()>().await;
    }
}

/// Keeps `cache` true for as long as it is polled.
///
/// # Security
///
/// A store that cannot be read leaves the copy to grow old, and an old copy lets nobody in by itself.
pub async fn keep_current(cache: &RevocationCache, notices: &mut dyn RevocationNotices) {
    loop {
        let mut next = notices.next();
        loop {
            if let Err(error) = cache.refresh().await {
                tracing::warn!(%error, "what is revoked cannot be read: each request asks for itself");
            }
            tokio::select! {
                () = &mut next => break,
                () = sleep(PAUSE) => {}
            }
        }
    }
}

// A second old, and every request asks the store. A quarter leaves room for a slow one.
const PAUSE: Duration = Duration::from_millis(250);
