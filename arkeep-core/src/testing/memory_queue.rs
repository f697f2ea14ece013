use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::job::{Fence, JobEvent, JobKind, JobReport, JobState, ReportBody};
use crate::queue::{Applied, CancelOutcome, ClaimedJob, Enqueued, JobQueue, NewJob};
use crate::{AgentId, JobId, PolicyId, StoreError, Timestamp};

/// A [`JobQueue`] in this process's memory. It forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryQueue(Mutex<Jobs>);

#[derive(Debug, Default)]
struct Jobs {
    by_id: BTreeMap<JobId, Job>,
    ticks: HashMap<(PolicyId, JobKind, Timestamp), JobId>,
}

#[derive(Debug)]
struct Job {
    new: NewJob,
    state: JobState,
    deadline: Option<Timestamp>,
    attempt: u32,
    fence: Fence,
    lease_until: Option<Timestamp>,
    applied_sequence: u64,
    late: Option<(u32, u64)>,
}

impl MemoryQueue {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // No method leaves the jobs half-changed, so what another thread left is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn may_change(&self, event: &JobEvent, now: Timestamp) -> Option<JobState> {
        self.state.after(event, now).ok()
    }

    /// Whether later requests may be counted in it.
    fn takes_more(&self) -> bool {
        self.state == JobState::Queued && self.attempt == 0
    }

    /// Whether it stands in the way of another one.
    fn is_ahead_of(&self, other: &NewJob) -> bool {
        other.kind.folds()
            && other.policy.is_some()
            && other.policy == self.new.policy
            && other.kind == self.new.kind
            && matches!(self.state, JobState::Leased | JobState::Running)
    }

    fn is_past_deadline(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Ends the job or queues it again, if its time has come.
    fn reclaim(&mut self, now: Timestamp) -> Option<JobState> {
        let deadline = self
            .deadline
            .map(|deadline| JobEvent::DeadlinePassed { deadline });
        let lease = self.lease_until.map(|until| JobEvent::LeaseLost { until });
        let next = [deadline, lease]
            .iter()
            .flatten()
            .find_map(|event| self.may_change(event, now))?;
        self.state = next;
        self.lease_until = None;
        Some(next)
    }

    /// What the holder that is heard says.
    fn move_on(&mut self, report: &JobReport, now: Timestamp) -> Applied {
        if self.state == JobState::Queued {
            // The lease ran out and nobody else took the job: its last holder has it again.
            self.state = JobState::Leased;
        }
        let event = match &report.body {
            ReportBody::Started => JobEvent::Started,
            ReportBody::Finished { outcome, .. } => JobEvent::Finished(*outcome),
        };
        if let Some(next) = self.may_change(&event, now) {
            self.state = next;
        }
        Applied::Moved(self.state)
    }

    /// What is said when it does not count any more.
    fn keep_late(&mut self, report: &JobReport) -> Applied {
        let ReportBody::Finished { outcome, .. } = &report.body else {
            return Applied::Late(None);
        };
        let name = (report.attempt, report.sequence);
        if self.late == Some(name) {
            return Applied::Duplicate;
        }
        self.late = Some(name);
        Applied::Late(Some(*outcome))
    }
}

#[async_trait]
impl JobQueue for MemoryQueue {
    async fn enqueue(&self, new: &NewJob) -> Result<Enqueued, StoreError> {
        let mut jobs = self.jobs();
        let tick = new
            .policy
            .filter(|_| new.kind.folds())
            .map(|policy| (policy, new.kind, new.scheduled_for));
        if let Some(tick) = tick {
            if let Some(known) = jobs.ticks.get(&tick) {
                return Ok(Enqueued::Known(*known));
            }
            let waiting = jobs.by_id.values_mut().find(|job| {
                job.new.policy == new.policy && job.new.kind == new.kind && job.takes_more()
            });
            if let Some(job) = waiting {
                job.deadline = job.deadline.zip(new.deadline).map(|(a, b)| a.max(b));
                let id = job.new.id;
                jobs.ticks.insert(tick, id);
                return Ok(Enqueued::Folded(id));
            }
            jobs.ticks.insert(tick, new.id);
        }
        let job = Job {
            new: new.clone(),
            state: JobState::Queued,
            deadline: new.deadline,
            attempt: 0,
            fence: Fence(0),
            lease_until: None,
            applied_sequence: 0,
            late: None,
        };
        jobs.by_id.insert(new.id, job);
        Ok(Enqueued::Created(new.id))
    }

    async fn claim(
        &self,
        agent: AgentId,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Option<ClaimedJob>, StoreError> {
        let mut jobs = self.jobs();
        let all = &jobs.by_id;
        let oldest = all.values().find(|job| {
            job.new.agent == agent
                && job.state == JobState::Queued
                && !job.is_past_deadline(now)
                && !all.values().any(|other| other.is_ahead_of(&job.new))
        });
        let id = oldest.map(|job| job.new.id);
        Ok(id.and_then(|id| jobs.by_id.get_mut(&id)).map(|job| {
            job.state = JobState::Leased;
            job.attempt += 1;
            job.fence = Fence(job.fence.0 + 1);
            job.lease_until = Some(now.plus(lease));
            job.applied_sequence = 0;
            ClaimedJob {
                id: job.new.id,
                kind: job.new.kind,
                policy: job.new.policy,
                attempt: job.attempt,
                fence: job.fence,
                deadline: job.deadline,
                parameters: job.new.parameters.clone(),
            }
        }))
    }

    async fn apply(
        &self,
        agent: AgentId,
        report: &JobReport,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let mut jobs = self.jobs();
        let own = jobs.by_id.get_mut(&report.job);
        let Some(job) = own.filter(|job| job.new.agent == agent) else {
            return Ok(Applied::Unknown);
        };
        let is_holder = job.fence == report.fence && job.attempt == report.attempt;
        if !is_holder {
            return Ok(job.keep_late(report));
        }
        if report.sequence <= job.applied_sequence {
            return Ok(Applied::Duplicate);
        }
        job.applied_sequence = report.sequence;
        Ok(if job.state.is_terminal() {
            job.keep_late(report)
        } else {
            job.move_on(report, now)
        })
    }

    async fn extend(
        &self,
        agent: AgentId,
        job: JobId,
        fence: Fence,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut jobs = self.jobs();
        let held = jobs.by_id.get_mut(&job).filter(|job| {
            job.new.agent == agent
                && job.fence == fence
                && job.attempt > 0
                && !job.state.is_terminal()
        });
        Ok(held.is_some_and(|job| {
            if job.state == JobState::Queued {
                job.state = JobState::Leased;
            }
            job.lease_until = Some(until);
            true
        }))
    }

    async fn cancel(&self, job: JobId, now: Timestamp) -> Result<CancelOutcome, StoreError> {
        let mut jobs = self.jobs();
        let Some(job) = jobs.by_id.get_mut(&job) else {
            return Ok(CancelOutcome::NotFound);
        };
        Ok(match job.may_change(&JobEvent::Withdrawn, now) {
            Some(next) => {
                job.state = next;
                CancelOutcome::Cancelled
            }
            None if job.state == JobState::Running => {
                CancelOutcome::Requested(job.new.agent, job.fence)
            }
            None => CancelOutcome::AlreadyEnded(job.state),
        })
    }

    async fn reclaim(&self, now: Timestamp) -> Result<Vec<(JobId, JobState)>, StoreError> {
        let mut jobs = self.jobs();
        Ok(jobs
            .by_id
            .iter_mut()
            .filter_map(|(id, job)| job.reclaim(now).map(|state| (*id, state)))
            .collect())
    }
}
