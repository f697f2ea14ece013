use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arkeep_core::AgentId;

use crate::identity::{AgentIdentity, Serial};

use super::connection::Connection;
use super::ending::{Ending, Reason};

/// Who is connected to this process, and who must not be.
///
/// Everything that ends somebody's connection passes through here, under one lock: whoever is
/// revoked while shaking hands is found either by [`admit`](Self::admit) or by
/// [`revoked`](Self::revoked).
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_number: u64,
    connections: HashMap<u64, Arc<Connection>>,
    sessions: HashMap<AgentId, (u64, Arc<Ending>)>,
    /// Withdrawn for ever: ids are never used again.
    revoked: HashSet<AgentId>,
    /// Certificates that the store has refused; it never changes its mind on one.
    refused: HashSet<Serial>,
}

/// A place in the registry. Whoever holds it gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u64);

impl State {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn connections_of(&self, agent: AgentId) -> impl Iterator<Item = &Connection> {
        self.connections
            .values()
            .map(Arc::as_ref)
            .filter(move |connection| connection.agent() == Some(agent))
    }
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so a poisoned state is whole all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a connection, unless its agent was revoked in the meantime.
    pub(super) fn admit(&self, connection: &Arc<Connection>) -> Option<Number> {
        let mut state = self.state();
        if connection
            .agent()
            .is_some_and(|agent| state.revoked.contains(&agent))
        {
            return None;
        }
        let number = state.number();
        state.connections.insert(number, Arc::clone(connection));
        Some(Number(number))
    }

    pub(super) fn release(&self, Number(number): Number) {
        self.state().connections.remove(&number);
    }

    /// Whether a handshake can be refused without asking the store.
    pub(super) fn is_unwelcome(&self, identity: &AgentIdentity) -> bool {
        let state = self.state();
        state.revoked.contains(&identity.agent()) || state.refused.contains(&identity.serial())
    }

    /// Remembers that the store refused a certificate.
    pub(super) fn refuse(&self, identity: &AgentIdentity) {
        let mut state = self.state();
        // Forgetting costs one look-up in the store each.
        if state.refused.len() >= REFUSED {
            state.refused.clear();
        }
        state.refused.insert(identity.serial());
        for connection in state.connections.values() {
            if connection
                .identity()
                .is_some_and(|who| who.serial() == identity.serial())
            {
                connection.ending().end(Reason::Refused);
            }
        }
    }

    pub(super) fn revoked(&self, agent: AgentId) {
        let mut state = self.state();
        state.revoked.insert(agent);
        if let Some((_, session)) = state.sessions.get(&agent) {
            session.end(Reason::Refused);
        }
        for connection in state.connections_of(agent) {
            connection.ending().end(Reason::Refused);
        }
    }

    /// Ends what an agent has open with another certificate than this.
    pub(super) fn superseded(&self, agent: AgentId, by: Serial) {
        let state = self.state();
        for connection in state.connections_of(agent) {
            if connection.identity().is_some_and(|who| who.serial() != by) {
                connection.ending().end(Reason::Refused);
            }
        }
    }

    /// Begins a session, and ends the one that the agent had.
    pub(super) fn enter(&self, agent: AgentId, ending: &Arc<Ending>) -> Number {
        let mut state = self.state();
        let number = state.number();
        if let Some((_, older)) = state.sessions.insert(agent, (number, Arc::clone(ending))) {
            older.end(Reason::Superseded);
        }
        if state.revoked.contains(&agent) {
            ending.end(Reason::Refused);
        }
        Number(number)
    }

    /// Ends a session; a newer one of the same agent stays.
    pub(super) fn leave(&self, agent: AgentId, Number(number): Number) {
        let mut state = self.state();
        if state
            .sessions
            .get(&agent)
            .is_some_and(|(held, _)| *held == number)
        {
            state.sessions.remove(&agent);
        }
    }

    pub(super) fn end_all(&self, reason: Reason) {
        let state = self.state();
        for (_, session) in state.sessions.values() {
            session.end(reason);
        }
        for connection in state.connections.values() {
            connection.ending().end(reason);
        }
    }

    pub(super) fn connected(&self) -> Vec<AgentId> {
        self.state().sessions.keys().copied().collect()
    }

    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        let state = self.state();
        state
            .connections
            .values()
            .map(|connection| connection.address())
            .collect()
    }
}

const REFUSED: usize = 10_000;
