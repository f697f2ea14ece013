//! What other replicas do to the agents that are connected here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arkeep_core::job::Fence;
use arkeep_core::{AgentId, JobId, StoreError};
use arkeep_transport::session::{Cancel, Generation};
use tokio::time::sleep;

use super::Dispatcher;
use crate::http::services::Fleet as _;
use crate::store::elsewhere::{AgentNotices, Elsewhere, Outlook};

impl Dispatcher {
    /// Does here what other replicas ask of agents, for as long as it is polled: at each notice,
    /// and twice a second whether there was one or not, so that a notice that is lost costs half a
    /// second.
    ///
    /// # Security
    ///
    /// While the store does not answer, streams stay open, and nothing that comes over them is
    /// taken in: that asks the store as well.
    pub async fn watch(&self, elsewhere: Arc<dyn Elsewhere>, notices: &mut dyn AgentNotices) {
        let mut watch = Watch {
            dispatcher: self,
            elsewhere,
            asked: HashSet::new(),
        };
        let mut told = None;
        loop {
            // Of a wait that is dropped half-way a notice might be lost.
            let mut next = notices.next();
            loop {
                if let Err(error) = watch.look(told).await {
                    tracing::warn!(%error, "what other replicas do to agents cannot be read");
                }
                tokio::select! {
                    about = &mut next => {
                        told = about;
                        break;
                    }
                    () = sleep(PAUSE) => told = None,
                }
            }
        }
    }
}

struct Watch<'a> {
    dispatcher: &'a Dispatcher,
    elsewhere: Arc<dyn Elsewhere>,
    /// Whom the agents were asked to end already.
    asked: HashSet<(JobId, Fence)>,
}

impl Watch<'_> {
    /// Looks at one agent, or at all that are connected.
    async fn look(&mut self, about: Option<AgentId>) -> Result<(), StoreError> {
        let roster = &self.dispatcher.0.roster;
        let connected = roster.connected(about);
        if connected.is_empty() {
            return Ok(());
        }
        let agents: Vec<_> = connected.iter().map(|(agent, _)| *agent).collect();
        let outlooks = self.elsewhere.outlook(&agents).await?;
        for (agent, generation) in connected {
            match outlooks.iter().find(|outlook| outlook.agent == agent) {
                None => self.dismiss(agent),
                Some(outlook) if outlook.is_revoked => self.dismiss(agent),
                Some(outlook) => self.attend(outlook, generation, about.is_some()).await?,
            }
        }
        Ok(())
    }

    fn dismiss(&self, agent: AgentId) {
        tracing::info!(%agent, "an agent was revoked or removed at another server");
        self.dispatcher.hang_up(agent);
    }

    async fn attend(
        &mut self,
        outlook: &Outlook,
        generation: Generation,
        told: bool,
    ) -> Result<(), StoreError> {
        let roster = &self.dispatcher.0.roster;
        let agent = outlook.agent;
        if outlook.generation > generation.0 {
            roster.end(agent, generation);
            return Ok(());
        }
        if outlook.must_cancel {
            self.cancel(agent).await?;
        }
        // Who was told may have lost a job, which only a look at all of them shows.
        if outlook.has_work || told {
            roster.wake(agent);
        }
        Ok(())
    }

    async fn cancel(&mut self, agent: AgentId) -> Result<(), StoreError> {
        let inner = &self.dispatcher.0;
        let held = inner.parts.stores.jobs.held(agent).await?;
        for job in held {
            let what = (job.id, job.fence);
            if job.cancel_requested_at.is_none() || self.asked.contains(&what) {
                continue;
            }
            let Some(line) = inner.roster.line(agent) else {
                return Ok(());
            };
            let (job, fence) = what;
            match line.cancel(Cancel { job, fence }) {
                Ok(()) => {
                    if self.asked.len() >= MOST_REMEMBERED {
                        self.asked.clear();
                    }
                    self.asked.insert(what);
                }
                // Asked again in a moment, and at its next sign of life.
                Err(error) => tracing::debug!(%agent, %job, %error, "a cancellation waits"),
            }
        }
        Ok(())
    }
}

/// How long a notice that was lost delays what it would have told.
const PAUSE: Duration = Duration::from_millis(500);
/// Being asked twice harms nobody.
const MOST_REMEMBERED: usize = 10_000;
