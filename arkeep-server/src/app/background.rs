//! The work behind the requests, each piece at its own pace until the server stops.

use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::RevocationCache;
use arkeep_core::job::{JobKind, JobState};
use arkeep_core::{StoreError, Timestamp};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::setup_token;
use super::tls::OwnCertificate;
use crate::dispatch::{Change, Dispatcher, Scheduler};
use crate::http::audit::AuditLog;
use crate::http::services::Api;
use crate::store::feed::{RevocationNotices, keep_current};
use crate::store::jobs::JobFilter;
use crate::store::{Neighbours, Page};
use crate::token_keys::TokenKeys;

/// What works behind the requests.
pub(super) struct Background {
    pub(super) api: Api,
    pub(super) token_keys: Arc<TokenKeys>,
    pub(super) revocations: Arc<RevocationCache>,
    pub(super) notices: Box<dyn RevocationNotices>,
    pub(super) neighbours: Option<Neighbours>,
    pub(super) dispatcher: Dispatcher,
    pub(super) certificate: Option<Arc<OwnCertificate>>,
    pub(super) scheduler: Scheduler,
    pub(super) changes: Receiver<Change>,
}

impl Background {
    /// Begins. Every piece ends with its round when `stop` says so.
    pub(super) fn start(self, tasks: &TaskTracker, stop: &CancellationToken) {
        let Self {
            api,
            token_keys,
            revocations,
            notices,
            neighbours,
            dispatcher,
            certificate,
            scheduler,
            changes,
        } = self;
        let (keeper, authority) = (Arc::clone(&api.keeper), Arc::clone(&api.authority));
        tasks.spawn(follow(revocations, notices, stop.clone()));
        tasks.spawn({
            let stop = stop.clone();
            async move { token_keys.work(stop).await }
        });
        if let Some(neighbours) = neighbours {
            tasks.spawn(watch(dispatcher, neighbours, stop.clone()));
        }
        tasks.spawn(tally(api.clone(), changes, stop.clone()));
        tasks.spawn(settle(Arc::clone(&api.audit), stop.clone()));
        tasks.spawn(every(stop.clone(), Duration::from_secs(5), {
            let api = api.clone();
            async move || round(&api, &scheduler).await
        }));
        tasks.spawn(every(stop.clone(), Duration::from_secs(5), {
            let (api, began) = (api.clone(), api.clock.now());
            async move || look_out(&api, began).await
        }));
        tasks.spawn(every(stop.clone(), Duration::from_secs(5), {
            let api = api.clone();
            async move || tidy(&api).await
        }));
        tasks.spawn({
            let (messenger, stop) = (api.messenger.clone(), stop.clone());
            async move { messenger.work(stop).await }
        });
        tasks.spawn(every(
            stop.clone(),
            Duration::from_secs(60 * 60),
            async move || match forget(&api).await {
                Ok(count) => tracing::debug!(count, "forgot logins and deliveries that are over"),
                Err(error) => tracing::warn!(%error, "logins and deliveries that are over cannot be forgotten"),
            },
        ));
        tasks.spawn({
            let (keeper, stop) = (Arc::clone(&keeper), stop.clone());
            async move { keeper.work(stop).await }
        });
        tasks.spawn({
            let stop = stop.clone();
            async move { authority.work(stop).await }
        });
        tasks.spawn(every(
            stop.clone(),
            Duration::from_secs(5),
            async move || keeper.follow(),
        ));
        if let Some(certificate) = certificate {
            tasks.spawn(every(
                stop.clone(),
                Duration::from_secs(5),
                async move || {
                    if let Err(error) = certificate.keep_current().await {
                        tracing::error!(%error, "the certificate for HTTPS cannot be renewed");
                    }
                },
            ));
        }
    }
}

/// Counts that were kept back from the audit log, each minute and at the end.
async fn settle(audit: Arc<AuditLog>, stop: CancellationToken) {
    let each = Arc::clone(&audit);
    every(stop, Duration::from_secs(60), async move || {
        each.settle().await;
    })
    .await;
    audit.settle().await;
}

async fn follow(
    revocations: Arc<RevocationCache>,
    mut notices: Box<dyn RevocationNotices>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = keep_current(&revocations, notices.as_mut()) => {}
    }
}

async fn watch(dispatcher: Dispatcher, neighbours: Neighbours, stop: CancellationToken) {
    let Neighbours { store, mut notices } = neighbours;
    tokio::select! {
        () = stop.cancelled() => {}
        () = dispatcher.watch(store, notices.as_mut()) => {}
    }
}

async fn tidy(api: &Api) {
    let file = &api.facts.setup_token_file;
    if let Err(error) = setup_token::tidy(api.stores.instance.as_ref(), file).await {
        tracing::warn!(%error, "the setup token was used elsewhere, and its file stays");
    }
}

// What was leased and never begun goes back, what is past its deadline or will never be ended by
// its agent ends, what is due begins.
async fn round(api: &Api, scheduler: &Scheduler) {
    let reclaimed = reclaim(api).await.and(api.abandon().await);
    let scheduled = scheduler.round().await.map(|_| ());
    match reclaimed.and(scheduled) {
        Ok(()) => api.pulse.beat(),
        Err(error) => tracing::warn!(%error, "jobs and schedules cannot be looked at"),
    }
}

/// Notes what does not happen: backups that are overdue, agents that are not heard of.
async fn look_out(api: &Api, began: Timestamp) {
    let (watch, now) = (&api.stores.watch, api.clock.now());
    let mut looked = watch.watch_policies(now).await;
    // Agents that were online when the server ended need time to come back.
    if now.since(began) >= RETURN {
        looked = looked.and(watch.watch_agents(now).await);
    }
    if let Err(error) = looked {
        tracing::warn!(%error, "it is not known what is overdue");
    }
}

/// Sessions, revocations, tokens of programs and deliveries that count no more.
async fn forget(api: &Api) -> Result<u64, StoreError> {
    let now = api.clock.now();
    let sessions = api.sessions.prune(now).await?;
    let tokens = api.api_tokens.prune(now).await?;
    let old = now.minus(KEPT_DELIVERIES);
    let deliveries = api.stores.deliveries.prune_deliveries(old).await?;
    let logins = match &api.relying_party {
        Some(party) => party.prune(now).await?,
        None => 0,
    };
    Ok([sessions, tokens, logins, deliveries].iter().sum())
}

async fn reclaim(api: &Api) -> Result<(), StoreError> {
    for (job, state) in api.stores.queue.reclaim(api.clock.now()).await? {
        tracing::info!(%job, %state, "a job was taken back or ended by its deadline");
        if let Some(job) = api.stores.jobs.find(job).await? {
            api.metrics.job_ended(&job);
            api.fleet.wake(job.agent);
        }
    }
    Ok(())
}

/// Counts jobs as they end; before that, finds out when each policy last succeeded.
async fn tally(api: Api, mut changes: Receiver<Change>, stop: CancellationToken) {
    if let Err(error) = last_successes(&api).await {
        tracing::warn!(%error, "when policies last succeeded is known from their next success on");
    }
    loop {
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.recv() => changed,
        };
        match changed {
            Ok(Change::Job(id)) => match api.stores.jobs.find(id).await {
                Ok(Some(job)) => api.metrics.job_ended(&job),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a job is missing in the metrics"),
            },
            Ok(_) => {}
            Err(RecvError::Lagged(count)) => {
                tracing::warn!(count, "changes were missed; the metrics may lack some jobs");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn last_successes(api: &Api) -> Result<(), StoreError> {
    let policies = || Page::first(Page::MAX_LIMIT).unwrap_or_default();
    let mut page = policies();
    loop {
        let listed = api.stores.policies.list(None, &page).await?;
        for policy in listed.items {
            let filter = JobFilter {
                policy: Some(policy.id),
                kind: Some(JobKind::Backup),
                state: Some(JobState::Succeeded),
                ..JobFilter::default()
            };
            let newest = Page::first(1).unwrap_or_default();
            for mut job in api.stores.jobs.list(&filter, &newest).await?.items {
                // One that ended before a wrong clock was seen through.
                job.ended_at = job.ended_at.map(|ended| ended.min(api.clock.now()));
                api.metrics.policy_succeeded(&job);
            }
        }
        match listed.next {
            Some(next) => page = policies().after(next),
            None => return Ok(()),
        }
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

/// An agent is offline after 90 seconds, and tries to come back at least once a minute.
const RETURN: Duration = Duration::from_secs(150);

/// How long it can be seen what became of a delivery.
const KEPT_DELIVERIES: Duration = Duration::from_secs(30 * 24 * 60 * 60);
