//! Replacing the root without losing an agent.
//!
//! A root cannot be exchanged in one step: whoever was not there at that moment would trust only
//! what is gone. So it goes in three, and each waits for everybody:
//!
//! | phase                 | trusted     | signs | goes on when                                   |
//! |-----------------------|-------------|-------|------------------------------------------------|
//! | [`Phase::Announced`]  | old and new | old   | every agent has said that it trusts both       |
//! | [`Phase::Issuing`]    | old and new | new   | every agent has a certificate of the new root  |
//! | [`Phase::Settled`]    | new         | new   |                                                |
//!
//! [`Rotation::next`] decides, and is a pure function: the caller makes what it returns durable
//! first, and acts on it afterwards. A crash in between is found at the next start, where the phase
//! says which roots to load. An agent that stays away holds the rotation up, and an administrator
//! who will not wait for it says so; it then has to enrol anew.

use std::time::Duration;

use arkeep_core::{AgentId, Timestamp};

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The phase.
    pub phase: Phase,
    /// When it began.
    pub since: Timestamp,
}

/// Which roots are trusted, and which signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// There is one root.
    Settled,
    /// Two are trusted; the old one signs.
    Announced,
    /// Two are trusted; the new one signs.
    Issuing,
}

impl Phase {
    /// Every phase, in the order in which a rotation passes them.
    pub const ALL: [Self; 3] = [Self::Settled, Self::Announced, Self::Issuing];

    /// The word that stands for it in JSON and in a store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Announced => "announced",
            Self::Issuing => "issuing",
        }
    }
}

/// An agent that was not withdrawn, as far as a rotation is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetMember {
    /// The agent.
    pub agent: AgentId,
    /// Whether the trust bundle it last said it holds is the one in force.
    pub trusts_all: bool,
    /// When its newest certificate was issued, if it has one.
    pub certified_at: Option<Timestamp>,
}

impl Rotation {
    /// The state of a CA that has never been replaced.
    #[must_use]
    pub const fn settled(since: Timestamp) -> Self {
        Self {
            phase: Phase::Settled,
            since,
        }
    }

    /// The agents that the next step waits for.
    #[must_use]
    pub fn waits_for(&self, fleet: &[FleetMember]) -> Vec<AgentId> {
        // An agent without a certificate has yet to enrol, and will learn of both roots then.
        let behind = |member: &&FleetMember| match (self.phase, member.certified_at) {
            (Phase::Settled, _) | (_, None) => false,
            (Phase::Announced, Some(_)) => !member.trusts_all,
            // A replica that lagged may have gone on with the old root for so long.
            (Phase::Issuing, Some(at)) => at <= self.ready_at(),
        };
        fleet
            .iter()
            .filter(behind)
            .map(|member| member.agent)
            .collect()
    }

    /// From when on every replica acts by this phase. Each looks for a new one at least once in
    /// [`REPLICAS_LAG`].
    #[must_use]
    pub fn ready_at(&self) -> Timestamp {
        match self.phase {
            Phase::Settled => self.since,
            Phase::Announced | Phase::Issuing => self.since.plus(REPLICAS_LAG),
        }
    }

    /// The next phase, if everybody is ready for it.
    ///
    /// From [`Phase::Settled`] on, the caller makes a new root first. With [`Patience::None`]
    /// no agent is waited for: those that are behind must enrol anew.
    ///
    /// # Errors
    ///
    /// [`NotYet`], which says what for. Nothing may be changed then.
    pub fn next(
        &self,
        fleet: &[FleetMember],
        patience: Patience,
        now: Timestamp,
    ) -> Result<Self, NotYet> {
        if now < self.ready_at() {
            return Err(NotYet::TooSoon(self.ready_at()));
        }
        let behind = self.waits_for(fleet);
        if patience == Patience::Full && !behind.is_empty() {
            return Err(NotYet::Behind(behind));
        }
        let phase = match self.phase {
            Phase::Settled => Phase::Announced,
            Phase::Announced => Phase::Issuing,
            Phase::Issuing => Phase::Settled,
        };
        Ok(Self { phase, since: now })
    }
}

/// Whether to wait for agents that are behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Wait for every one.
    Full,
    /// Go on without them. They must enrol anew.
    None,
}

/// How long a replica may take to act by a new phase.
pub const REPLICAS_LAG: Duration = Duration::from_secs(5 * 60);

/// It is too early for the next phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotYet {
    /// Not every replica need have seen this phase. Ask again at that time.
    #[error("the phase began so shortly ago that not every replica acts by it; wait until {0}")]
    TooSoon(Timestamp),

    /// These agents are behind. Wait for them, or go on without.
    #[error("{} agents are behind", .0.len())]
    Behind(Vec<AgentId>),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arkeep_core::SystemEntropy;
    use proptest::prelude::*;

    use super::*;

    /// A root, by its number.
    type Root = u32;

    #[derive(Debug)]
    struct Agent {
        id: AgentId,
        trusts: BTreeSet<Root>,
        certified: (Root, Timestamp),
        said: BTreeSet<Root>,
    }

    /// What is on the server's disk, and what a replica acts by.
    #[derive(Debug, Clone)]
    struct Server {
        rotation: Rotation,
        oldest: Root,
    }

    impl Server {
        fn trusted(&self) -> BTreeSet<Root> {
            match self.rotation.phase {
                Phase::Settled => BTreeSet::from([self.oldest]),
                Phase::Announced | Phase::Issuing => BTreeSet::from([self.oldest, self.oldest + 1]),
            }
        }

        fn signs(&self) -> Root {
            match self.rotation.phase {
                Phase::Settled | Phase::Announced => self.oldest,
                Phase::Issuing => self.oldest + 1,
            }
        }

        fn enter(&mut self, next: Rotation) {
            if (self.rotation.phase, next.phase) == (Phase::Issuing, Phase::Settled) {
                self.oldest += 1;
            }
            self.rotation = next;
        }

        fn can_talk_to(&self, agent: &Agent) -> bool {
            agent.trusts.contains(&self.signs()) && self.trusted().contains(&agent.certified.0)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// The clock goes on.
        Pass(u64),
        /// An administrator asks for the next phase.
        Rotate,
        /// A replica looks for the phase, or restarts.
        Reload,
        /// An agent connects, takes over the bundle, and says so.
        Talk(usize),
        /// It took the bundle over, and was killed before it said so.
        TalkAndDie(usize),
        /// It asks for its next certificate.
        Renew(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1_u64..400).prop_map(Step::Pass),
            Just(Step::Rotate),
            Just(Step::Reload),
            (0_usize..AGENTS).prop_map(Step::Talk),
            (0_usize..AGENTS).prop_map(Step::TalkAndDie),
            (0_usize..AGENTS).prop_map(Step::Renew),
        ];
        prop::collection::vec(step, 0..200)
    }

    const AGENTS: usize = 4;

    proptest! {
        /// T7
        #[test]
        fn nobody_is_ever_locked_out(steps in steps()) {
            let mut now = Timestamp::from_unix_seconds(1_000_000);
            let mut disk = Server { rotation: Rotation::settled(now), oldest: 0 };
            let mut replica = disk.clone();
            let mut agents: Vec<_> = (0..AGENTS).map(|_| Agent {
                id: AgentId::mint(now, &SystemEntropy),
                trusts: BTreeSet::from([0]),
                certified: (0, now),
                said: BTreeSet::from([0]),
            }).collect();
            for step in steps {
                match step {
                    Step::Pass(seconds) => now = now.plus(Duration::from_secs(seconds)),
                    Step::Rotate => {
                        let fleet: Vec<_> = agents.iter().map(|agent| FleetMember {
                            agent: agent.id,
                            trusts_all: agent.said == disk.trusted(),
                            certified_at: Some(agent.certified.1),
                        }).collect();
                        if let Ok(next) = disk.rotation.next(&fleet, Patience::Full, now) {
                            disk.enter(next);
                        }
                    }
                    Step::Reload => replica = disk.clone(),
                    Step::Talk(n) => {
                        agents[n].trusts = replica.trusted();
                        agents[n].said = replica.trusted();
                    }
                    Step::TalkAndDie(n) => agents[n].trusts = replica.trusted(),
                    Step::Renew(n) => {
                        agents[n].trusts = replica.trusted();
                        agents[n].certified = (replica.signs(), now);
                    }
                }
                // Each replica keeps its promise to look often enough.
                if now >= disk.rotation.ready_at() {
                    replica = disk.clone();
                }
                for agent in &agents {
                    prop_assert!(disk.can_talk_to(agent), "{agent:?} and {disk:?}");
                    prop_assert!(replica.can_talk_to(agent), "{agent:?} and {replica:?}");
                }
            }
        }
    }

    /// T7
    #[test]
    fn waits_for_an_agent_that_is_away() {
        let began = Timestamp::from_unix_seconds(1_000_000);
        let later = began.plus(REPLICAS_LAG);
        let away = FleetMember {
            agent: AgentId::mint(began, &SystemEntropy),
            trusts_all: false,
            certified_at: Some(began),
        };
        let announced = Rotation {
            phase: Phase::Announced,
            since: began,
        };

        let refused = announced.next(&[away], Patience::Full, later);
        let forced = announced.next(&[away], Patience::None, later);
        let hurried = announced.next(&[], Patience::None, began);

        assert_eq!(refused, Err(NotYet::Behind(vec![away.agent])));
        assert_eq!(forced.map(|next| next.phase), Ok(Phase::Issuing));
        assert_eq!(hurried, Err(NotYet::TooSoon(later)));
    }

    /// T7
    #[test]
    fn does_not_wait_for_an_agent_that_has_yet_to_enrol() {
        let began = Timestamp::from_unix_seconds(1_000_000);
        let to_come = FleetMember {
            agent: AgentId::mint(began, &SystemEntropy),
            trusts_all: false,
            certified_at: None,
        };

        for phase in Phase::ALL {
            let rotation = Rotation {
                phase,
                since: began,
            };
            assert_eq!(rotation.waits_for(&[to_come]), []);
        }
    }
}
