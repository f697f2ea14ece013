use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arkeep_core::job::{Fence, Progress};
use arkeep_core::{AgentId, JobId};
use arkeep_transport::session::{Answer, Generation, HeldJob, RequestId};
use tokio::sync::{Notify, oneshot};

use super::Line;

/// Who is connected here, what they are known to hold, and who waits for their answers.
///
/// Nothing here outlives the process, and nothing needs to.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: HashMap<AgentId, Session>,
    banned: HashSet<AgentId>,
    jobs: HashMap<JobId, Known>,
    questions: HashMap<RequestId, (AgentId, oneshot::Sender<Answer>)>,
}

#[derive(Debug)]
struct Session {
    generation: Generation,
    line: Arc<dyn Line>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct Known {
    agent: AgentId,
    fence: Fence,
    progress: Option<Progress>,
}

impl Roster {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so a poisoned state is whole all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session in, in place of an older one. Returns what wakes it, or nothing when the
    /// agent was hung up on or has a newer one.
    pub(super) fn enter(
        &self,
        agent: AgentId,
        generation: Generation,
        line: &Arc<dyn Line>,
    ) -> Option<Arc<Notify>> {
        let mut state = self.state();
        let newer = |held: &Session| held.generation > generation;
        if state.banned.contains(&agent) || state.sessions.get(&agent).is_some_and(newer) {
            return None;
        }
        let wake = Arc::new(Notify::new());
        let session = Session {
            generation,
            line: Arc::clone(line),
            wake: Arc::clone(&wake),
        };
        if let Some(older) = state.sessions.insert(agent, session) {
            older.line.close();
        }
        Some(wake)
    }

    /// Forgets a session; a newer one of the same agent stays. Returns whether it was there.
    pub(super) fn leave(&self, agent: AgentId, generation: Generation) -> bool {
        let mut state = self.state();
        let same = |held: &Session| held.generation == generation;
        let is_there = state.sessions.get(&agent).is_some_and(same);
        if is_there {
            state.sessions.remove(&agent);
            state.jobs.retain(|_, known| known.agent != agent);
        }
        is_there
    }

    /// Ends what the agent has open, and takes it in no more.
    pub(super) fn ban(&self, agent: AgentId) {
        let mut state = self.state();
        state.banned.insert(agent);
        state.jobs.retain(|_, known| known.agent != agent);
        if let Some(session) = state.sessions.remove(&agent) {
            session.line.close();
        }
    }

    /// Ends a session that is not the agent's newest, wherever that is.
    pub(super) fn end(&self, agent: AgentId, generation: Generation) {
        let state = self.state();
        let session = state.sessions.get(&agent);
        if let Some(session) = session.filter(|held| held.generation == generation) {
            // Its stream ends, and takes it out of here.
            session.line.close();
        }
    }

    /// Who is connected, or whether one of them is.
    pub(super) fn connected(&self, only: Option<AgentId>) -> Vec<(AgentId, Generation)> {
        let state = self.state();
        match only {
            Some(agent) => {
                let session = state.sessions.get(&agent);
                let found = session.map(|session| (agent, session.generation));
                found.into_iter().collect()
            }
            None => {
                let all = state.sessions.iter();
                all.map(|(agent, session)| (*agent, session.generation))
                    .collect()
            }
        }
    }

    pub(super) fn is_banned(&self, agent: AgentId) -> bool {
        self.state().banned.contains(&agent)
    }

    pub(super) fn line(&self, agent: AgentId) -> Option<Arc<dyn Line>> {
        let state = self.state();
        let session = state.sessions.get(&agent)?;
        Some(Arc::clone(&session.line))
    }

    pub(super) fn wake(&self, agent: AgentId) {
        if let Some(session) = self.state().sessions.get(&agent) {
            session.wake.notify_one();
        }
    }

    /// Notes that the agent has the job. Returns whether that is news.
    pub(super) fn holds(&self, agent: AgentId, held: HeldJob) -> bool {
        let mut state = self.state();
        let known = state.jobs.get(&held.job);
        if known.is_some_and(|known| known.agent == agent && known.fence == held.fence) {
            return false;
        }
        let known = Known {
            agent,
            fence: held.fence,
            progress: None,
        };
        state.jobs.insert(held.job, known);
        true
    }

    pub(super) fn forget(&self, job: JobId) {
        self.state().jobs.remove(&job);
    }

    /// The jobs that the agent is known to have.
    pub(super) fn held_by(&self, agent: AgentId) -> Vec<(JobId, Fence)> {
        let state = self.state();
        let of_agent = state.jobs.iter().filter(|(_, known)| known.agent == agent);
        of_agent.map(|(job, known)| (*job, known.fence)).collect()
    }

    /// Notes how far a job has come, if the agent is known to have it.
    pub(super) fn advance(&self, agent: AgentId, held: HeldJob, progress: Progress) -> bool {
        match self.state().jobs.get_mut(&held.job) {
            Some(known) if known.agent == agent && known.fence == held.fence => {
                known.progress = Some(progress);
                true
            }
            _ => false,
        }
    }

    pub(super) fn progress(&self, job: JobId) -> Option<Progress> {
        self.state().jobs.get(&job)?.progress.clone()
    }

    /// Waits for the agent's answer until the guard is dropped.
    pub(super) fn expect_answer(
        &self,
        id: RequestId,
        from: AgentId,
        answer: oneshot::Sender<Answer>,
    ) -> Expected<'_> {
        self.state().questions.insert(id, (from, answer));
        Expected { roster: self, id }
    }

    /// Hands an answer to whoever asked that agent, if they still wait.
    pub(super) fn answered(&self, id: RequestId, by: AgentId, answer: Answer) {
        let mut state = self.state();
        if state.questions.get(&id).is_none_or(|(from, _)| *from != by) {
            return;
        }
        if let Some((_, waiting)) = state.questions.remove(&id) {
            // Whoever gave up in this moment has dropped the other end.
            let _ = waiting.send(answer);
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("sessions", &self.sessions.len())
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

/// A question that is forgotten when nobody waits for its answer any more.
pub(super) struct Expected<'a> {
    roster: &'a Roster,
    id: RequestId,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.roster.state().questions.remove(&self.id);
    }
}
