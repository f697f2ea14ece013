//! The work behind the requests, each piece at its own pace until the server stops.

use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::RevocationCache;
use arkeep_vault::RingFile;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tls::OwnCertificate;
use crate::dispatch::Scheduler;
use crate::http::services::Api;

/// What works behind the requests.
pub(super) struct Background {
    pub(super) api: Api,
    pub(super) revocations: Arc<RevocationCache>,
    pub(super) ring: Arc<RingFile>,
    pub(super) certificate: Option<Arc<OwnCertificate>>,
    pub(super) scheduler: Scheduler,
}

impl Background {
    /// Begins. Every piece ends with its round when `stop` says so.
    pub(super) fn start(self, tasks: &TaskTracker, stop: &CancellationToken) {
        let Self {
            api,
            revocations,
            ring,
            certificate,
            scheduler,
        } = self;
        // A second old, and every request asks the store. Half of that leaves room for a slow one.
        tasks.spawn(every(stop.clone(), RevocationCache::MAX_AGE / 4, async move || {
            if let Err(error) = revocations.refresh().await {
                tracing::warn!(%error, "what is revoked cannot be read: each request asks for itself");
            }
        }));
        tasks.spawn(every(stop.clone(), Duration::from_secs(5), {
            let api = api.clone();
            async move || reclaim(&api).await
        }));
        tasks.spawn(every(
            stop.clone(),
            Duration::from_secs(5),
            async move || {
                if let Err(error) = scheduler.round().await {
                    tracing::warn!(%error, "schedules cannot be looked at");
                }
            },
        ));
        tasks.spawn(every(
            stop.clone(),
            Duration::from_secs(60 * 60),
            async move || match api.sessions.prune(api.clock.now()).await {
                Ok(count) => tracing::debug!(count, "forgot sessions that are over"),
                Err(error) => tracing::warn!(%error, "sessions that are over cannot be forgotten"),
            },
        ));
        tasks.spawn(every(
            stop.clone(),
            Duration::from_secs(30),
            async move || {
                if let Err(error) = ring.refresh() {
                    tracing::error!(%error, "the key ring cannot be read again");
                }
            },
        ));
        if let Some(certificate) = certificate {
            tasks.spawn(every(
                stop.clone(),
                OwnCertificate::RENEWAL,
                async move || {
                    if let Err(error) = certificate.renew().await {
                        tracing::error!(%error, "the certificate for HTTPS cannot be renewed");
                    }
                },
            ));
        }
    }
}

// What was leased and never begun goes back, and what is past its deadline ends.
async fn reclaim(api: &Api) {
    match api.stores.queue.reclaim(api.clock.now()).await {
        Ok(changed) => {
            for (job, state) in changed {
                tracing::info!(%job, %state, "a job was taken back or ended by its deadline");
                match api.stores.jobs.find(job).await {
                    Ok(Some(job)) => api.fleet.wake(job.agent),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "its agent is told later"),
                }
            }
            api.pulse.beat();
        }
        Err(error) => tracing::warn!(%error, "jobs whose time is over cannot be looked for"),
    }
}

async fn every(stop: CancellationToken, pause: Duration, mut round: impl AsyncFnMut()) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => round().await,
        }
    }
}
