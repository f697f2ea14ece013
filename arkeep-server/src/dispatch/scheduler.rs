use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arkeep_core::job::{JobKind, JobSource};
use arkeep_core::policy::{CatchUp, Schedule};
use arkeep_core::queue::{Enqueued, JobQueue, NewJob};
use arkeep_core::{Clock, Entropy, JobId, PolicyId, StoreError, Timestamp};

use super::ticks::Ticks;
use crate::http::services::Fleet;
use crate::store::policies::Policy;
use crate::store::schedule::Mark;
use crate::store::{JobStore, Page, PolicyStore, ScheduleStore};

/// What a [`Scheduler`] stands on.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named for the port that it is")]
pub struct SchedulerParts {
    pub policies: Arc<dyn PolicyStore>,
    pub jobs: Arc<dyn JobStore>,
    pub queue: Arc<dyn JobQueue>,
    pub marks: Arc<dyn ScheduleStore>,
    pub fleet: Arc<dyn Fleet>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// Makes jobs of ticks.
///
/// Any number of replicas may do so at once: the queue makes one job for each policy, kind and
/// tick. A scheduler that was away finds the latest tick that it missed, and that one stands for
/// the others, if the policy catches up.
#[derive(Debug)]
pub struct Scheduler(SchedulerParts);

type Marks = HashMap<(PolicyId, JobKind), Mark>;

impl Scheduler {
    /// Stands on these.
    #[must_use]
    pub const fn new(parts: SchedulerParts) -> Self {
        Self(parts)
    }

    /// Looks at every schedule once, and queues what is due. Returns how many jobs it made.
    ///
    /// A round that was cut off anywhere is made up for by the next one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a store does not answer.
    pub async fn round(&self) -> Result<usize, StoreError> {
        let marks = self.0.marks.marks().await?;
        let marks: Marks = marks
            .into_iter()
            .map(|mark| ((mark.policy, mark.kind), mark))
            .collect();
        let mut made = 0;
        let mut page = Page::default();
        loop {
            let listed = self.0.policies.list(None, &page).await?;
            for policy in &listed.items {
                for (kind, schedule) in schedules(policy) {
                    made += usize::from(self.look(policy, kind, schedule, &marks).await?);
                }
            }
            match listed.next {
                Some(next) => page = page.after(next),
                None => return Ok(made),
            }
        }
    }

    async fn look(
        &self,
        policy: &Policy,
        kind: JobKind,
        schedule: Option<&Schedule>,
        marks: &Marks,
    ) -> Result<bool, StoreError> {
        let parts = &self.0;
        let mark = marks.get(&(policy.id, kind));
        let Some(schedule) = schedule.filter(|_| policy.enabled) else {
            // When it counts again, it counts from then on.
            if mark.is_some() {
                parts.marks.forget(policy.id, kind).await?;
            }
            return Ok(false);
        };
        let now = parts.clock.now();
        let up_to = |up_to| Mark {
            policy: policy.id,
            kind,
            schedule: schedule.clone(),
            up_to,
        };
        let Some(mark) = mark.filter(|mark| mark.schedule == *schedule) else {
            parts.marks.advance(&up_to(now)).await?;
            return Ok(false);
        };
        let window = policy.settings.window.as_ref();
        let Ok(ticks) = Ticks::new(policy.id, schedule, window) else {
            tracing::error!(policy = %policy.id, "the policy's schedule cannot be understood");
            return Ok(false);
        };
        let Some(tick) = ticks.latest_due(mark.up_to, now) else {
            return Ok(false);
        };
        let is_late = now.since(ticks.due(tick)) > PUNCTUAL;
        let made = match policy.settings.catch_up {
            CatchUp::None if is_late => {
                tracing::info!(policy = %policy.id, %tick, "a tick was missed and is not made up for");
                false
            }
            catch_up => self.enqueue(policy, kind, tick, catch_up, now).await?,
        };
        // Afterwards: cut off in between, the next round finds the tick again, and the queue
        // knows it.
        parts.marks.advance(&up_to(tick)).await?;
        Ok(made)
    }

    async fn enqueue(
        &self,
        policy: &Policy,
        kind: JobKind,
        tick: Timestamp,
        catch_up: CatchUp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let parts = &self.0;
        if catch_up == CatchUp::None {
            for missed in parts.jobs.miss(policy.id, kind, tick, now).await? {
                tracing::info!(policy = %policy.id, job = %missed, "its agent stayed away: missed");
            }
        }
        let deadline = policy.settings.deadline.map(Duration::from_secs);
        let job = NewJob {
            id: JobId::mint(now, parts.entropy.as_ref()),
            kind,
            agent: policy.agent,
            policy: Some(policy.id),
            scheduled_for: tick,
            deadline: deadline.map(|deadline| now.plus(deadline)),
            source: JobSource::Schedule,
            parameters: "{}".to_owned(),
            created_at: now,
        };
        let enqueued = parts.queue.enqueue(&job).await?;
        parts.fleet.wake(policy.agent);
        Ok(matches!(enqueued, Enqueued::Created(_)))
    }
}

fn schedules(policy: &Policy) -> [(JobKind, Option<&Schedule>); 2] {
    let settings = &policy.settings;
    [
        (JobKind::Backup, settings.schedule.as_ref()),
        (
            JobKind::Verify,
            settings.verify.as_ref().map(|plan| &plan.schedule),
        ),
    ]
}

/// How late a tick may be looked at and still count as on time.
const PUNCTUAL: Duration = Duration::from_secs(5 * 60);
