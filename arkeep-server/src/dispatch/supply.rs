//! Agents get their jobs, again if need be.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arkeep_core::job::{Assignment, Fence, JobError, JobState};
use arkeep_core::{AgentId, JobId, StoreError};
use arkeep_transport::gateway::PushError;
use arkeep_transport::session::{Cancel, HeldJob};
use tokio::sync::Notify;

use super::assignment::{BuildError, Outgoing};
use super::{Change, Inner, LEASE, Line, MOST_HELD};
use crate::store::jobs::Job;

impl Inner {
    /// Gives the agent its jobs whenever it is woken, until its stream ends.
    pub(super) async fn supply(
        self: Arc<Self>,
        agent: AgentId,
        line: Arc<dyn Line>,
        wake: Arc<Notify>,
    ) {
        loop {
            tokio::select! {
                // An old session whose stream has ended takes no more jobs than it must.
                biased;
                () = line.closed() => return,
                () = wake.notified() => {}
            }
            if let Err(error) = self.supply_once(agent, line.as_ref()).await {
                // Its next sign of life wakes it again.
                tracing::warn!(%agent, %error, "jobs could not be given out");
            }
        }
    }

    async fn supply_once(&self, agent: AgentId, line: &dyn Line) -> Result<(), StoreError> {
        let held = self.parts.stores.jobs.held(agent).await?;
        self.stop_what_has_ended(agent, &held, line);
        for _ in held.len()..MOST_HELD {
            if self.draining.load(Ordering::Relaxed) {
                return Ok(());
            }
            let now = self.parts.clock.now();
            let claimed = self.parts.stores.queue.claim(agent, LEASE, now).await?;
            let Some(claimed) = claimed else {
                return Ok(());
            };
            self.tell(Change::Job(claimed.id));
            if !self.send(&Outgoing::first(agent, claimed)).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tells the agent to stop what ended without it: a deadline, an administrator.
    fn stop_what_has_ended(&self, agent: AgentId, held: &[Job], line: &dyn Line) {
        let open: HashSet<_> = held.iter().map(|job| (job.id, job.fence)).collect();
        for (job, fence) in self.roster.held_by(agent) {
            if !open.contains(&(job, fence)) {
                self.stop(job, fence, line);
            }
        }
    }

    fn stop(&self, job: JobId, fence: Fence, line: &dyn Line) {
        self.roster.forget(job);
        if let Err(error) = line.cancel(Cancel { job, fence }) {
            tracing::debug!(%job, %error, "a cancellation was not sent");
        }
    }

    /// Compares what the agent says it holds with what it should, and mends the difference.
    ///
    /// A `greeting` lists everything that the agent's disk holds. A job that runs and is not in it
    /// will never end by itself.
    pub(super) async fn reconcile(
        &self,
        agent: AgentId,
        says: &[HeldJob],
        line: &dyn Line,
        greeting: bool,
    ) -> Result<(), StoreError> {
        let stores = &self.parts.stores;
        let now = self.parts.clock.now();
        for held in says {
            let until = now.plus(LEASE);
            if stores
                .queue
                .extend(agent, held.job, held.fence, until)
                .await?
            {
                self.roster.holds(agent, *held);
            } else {
                self.stop(held.job, held.fence, line);
            }
        }
        for job in stores.jobs.held(agent).await? {
            let is_held = says
                .iter()
                .any(|held| held.job == job.id && held.fence == job.fence);
            if is_held && job.cancel_requested_at.is_some() {
                let (job, fence) = (job.id, job.fence);
                let _ = line.cancel(Cancel { job, fence });
            } else if is_held {
                continue;
            } else if job.state == JobState::Leased {
                let until = now.plus(LEASE);
                let (queue, id, fence) = (&stores.queue, job.id, job.fence);
                if queue.extend(agent, id, fence, until).await?
                    && !self.send(&Outgoing::again(job)).await?
                {
                    return Ok(());
                }
            } else if greeting {
                self.give_up(job.id, job.fence, &lost()).await?;
            }
        }
        Ok(())
    }

    /// Sends a job. Returns `false` when the agent can take no more now.
    async fn send(&self, job: &Outgoing) -> Result<bool, StoreError> {
        let built = match self.build(job).await {
            Ok(built) => built,
            Err(BuildError::Hopeless(why)) => {
                self.give_up(job.job, job.fence, &why).await?;
                return Ok(true);
            }
            Err(BuildError::Store(error)) => return Err(error),
        };
        // Before it is sent: what comes back is judged by it, after a restart too.
        let noted = self
            .parts
            .stores
            .jobs
            .note_assignment(job.job, job.fence, &built.sent)
            .await?;
        if !noted {
            return Ok(true);
        }
        match self.push(job.agent, &built.assignment) {
            Ok(()) => Ok(true),
            Err(PushError::Message(error)) => {
                tracing::error!(job = %job.job, %error, "a job cannot be sent");
                self.give_up(job.job, job.fence, &unsendable()).await?;
                Ok(true)
            }
            // Still leased: it is sent again when the agent comes back or gives a sign of life.
            Err(_) => Ok(false),
        }
    }

    /// Pushes over the agent's newest line.
    ///
    /// Whoever claimed the job may belong to a session that a newer one has replaced since. The
    /// newer one's greeting was answered before the claim, so nobody else would send the job.
    fn push(&self, agent: AgentId, assignment: &Assignment) -> Result<(), PushError> {
        let newest = || self.roster.line(agent).ok_or(PushError::Closed);
        match newest()?.assign(assignment) {
            // An older line is closed after the newer one is in the roster.
            Err(PushError::Closed) => newest()?.assign(assignment),
            other => other,
        }
    }

    async fn give_up(&self, job: JobId, fence: Fence, why: &JobError) -> Result<(), StoreError> {
        let now = self.parts.clock.now();
        let jobs = &self.parts.stores.jobs;
        if jobs.give_up(job, fence, why, now).await? {
            tracing::warn!(%job, code = why.code, "a job was given up: {}", why.detail);
            self.roster.forget(job);
            self.tell(Change::Job(job));
        }
        Ok(())
    }
}

fn lost() -> JobError {
    JobError {
        code: "lost_by_agent".to_owned(),
        detail: "the agent came back and knows nothing of the job: its state directory was lost"
            .to_owned(),
    }
}

fn unsendable() -> JobError {
    JobError {
        code: "too_large".to_owned(),
        detail: "the job does not fit into a message: the policy has too many sources or excludes"
            .to_owned(),
    }
}
