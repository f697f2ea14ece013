use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use arkeep_core::{AgentId, StoreError, Timestamp};

use crate::identity::Serial;
use crate::token::{JoinTokenId, OfferedToken};

use super::{
    EnrollmentStore, Issuance, Lapse, Occasion, OfferError, RecordError, RedeemError, Standing,
    TokenClaim,
};

/// Enrolments in this process, for tests and for trying things out.
#[derive(Debug, Default)]
pub struct MemoryEnrollments(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tokens: HashMap<JoinTokenId, Token>,
    agents: HashMap<AgentId, Agent>,
}

#[derive(Debug)]
struct Token {
    offered: OfferedToken,
    spent: bool,
}

#[derive(Debug, Default)]
struct Agent {
    /// When each certificate was issued.
    serials: HashMap<Serial, Timestamp>,
    waiting: bool,
    approved: bool,
    withdrawn: bool,
}

impl MemoryEnrollments {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so a poisoned state is whole all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn stands(&self, agent: AgentId, serial: Serial) -> bool {
        self.agents
            .get(&agent)
            .is_some_and(|agent| !agent.withdrawn && agent.serials.contains_key(&serial))
    }
}

#[async_trait]
impl EnrollmentStore for MemoryEnrollments {
    async fn offer(&self, token: &OfferedToken) -> Result<(), OfferError> {
        let mut state = self.state();
        if state.agents.entry(token.agent).or_default().withdrawn {
            return Err(OfferError::Withdrawn);
        }
        state
            .tokens
            .retain(|_, other| other.spent || other.offered.agent != token.agent);
        let offered = token.clone();
        let spent = false;
        state.tokens.insert(token.id, Token { offered, spent });
        Ok(())
    }

    async fn redeem(&self, claim: &TokenClaim, now: Timestamp) -> Result<AgentId, RedeemError> {
        let mut state = self.state();
        let State { tokens, agents } = &mut *state;
        let token = tokens
            .get_mut(&claim.id)
            .filter(|token| token.offered.digest == claim.digest)
            .ok_or(RedeemError::Refused)?;
        let agent = token.offered.agent;
        if agents.get(&agent).is_none_or(|agent| agent.withdrawn) {
            return Err(RedeemError::Refused);
        }
        if token.spent {
            return Err(RedeemError::Used);
        }
        if now >= token.offered.expires_at {
            return Err(RedeemError::Expired);
        }
        token.spent = true;
        Ok(agent)
    }

    async fn record(&self, issuance: &Issuance) -> Result<(), RecordError> {
        let mut state = self.state();
        if let Occasion::Renewed { with } = issuance.occasion
            && !state.stands(issuance.agent, with)
        {
            return Err(RecordError::Withdrawn);
        }
        let agent = state.agents.entry(issuance.agent).or_default();
        if agent.withdrawn {
            return Err(RecordError::Withdrawn);
        }
        if issuance.occasion == Occasion::Enrolled {
            agent.serials.clear();
        }
        agent.serials.insert(issuance.serial, issuance.issued_at);
        agent.waiting = false;
        agent.approved = false;
        Ok(())
    }

    async fn standing(&self, agent: AgentId, serial: Serial) -> Result<Standing, StoreError> {
        Ok(if self.state().stands(agent, serial) {
            Standing::Good
        } else {
            Standing::Refused
        })
    }

    async fn confirm(&self, agent: AgentId, serial: Serial) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(agent) = state.agents.get_mut(&agent)
            && let Some(issued_at) = agent.serials.get(&serial).copied()
        {
            agent
                .serials
                .retain(|other, issued| *other == serial || *issued > issued_at);
        }
        Ok(())
    }

    async fn lapse(
        &self,
        agent: AgentId,
        serial: Serial,
        _now: Timestamp,
    ) -> Result<Lapse, StoreError> {
        let mut state = self.state();
        if !state.stands(agent, serial) {
            return Ok(Lapse::Refused);
        }
        let agent = state.agents.entry(agent).or_default();
        if agent.approved {
            return Ok(Lapse::Approved);
        }
        agent.waiting = true;
        Ok(Lapse::Waiting)
    }

    async fn approve(&self, agent: AgentId, _now: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state();
        Ok(match state.agents.get_mut(&agent) {
            Some(agent) if agent.waiting && !agent.withdrawn => {
                agent.waiting = false;
                agent.approved = true;
                true
            }
            _ => false,
        })
    }

    async fn withdraw(&self, agent: AgentId, _now: Timestamp) -> Result<(), StoreError> {
        let mut state = self.state();
        state.agents.entry(agent).or_default().withdrawn = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::enrollment::EnrollmentFixture;

    #[derive(Debug, Default)]
    struct Fixture(MemoryEnrollments);

    #[async_trait]
    impl EnrollmentFixture for Fixture {
        fn store(&self) -> &dyn EnrollmentStore {
            &self.0
        }
    }

    crate::enrollment_store_conformance!(async { Fixture::default() });
}
