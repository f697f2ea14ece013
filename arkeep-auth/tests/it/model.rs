//! The protocol against a model of it: two users, two replicas, any order of events.
//!
//! The model knows which tokens are alive, in a dozen lines that can be read. After each event every
//! access token that was ever issued is shown to both replicas: to the one that took the event at
//! once, to the other after it has heard. What is dead is refused and what is alive is let in.
#![expect(
    clippy::indexing_slicing,
    reason = "the model made the indexes, and a test may panic"
)]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::session::{LogOut, LoginError, RefreshError, TokenPair};
use arkeep_auth::token::{KeySet, SigningKey, VerificationKey};
use arkeep_auth::{RefreshToken, Role, SessionId};
use arkeep_core::{StoreError, SystemEntropy, Timestamp, UserId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use crate::fixture::{House, PASSWORD, noon};

const EMAILS: [&str; 2] = ["ada@example.com", "bob@example.com"];
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone)]
enum Event {
    LogIn {
        user: usize,
    },
    /// Of any refresh token that was ever given out, often of the newest.
    Refresh {
        token: usize,
    },
    LogOutByCookie {
        token: usize,
    },
    LogOutByBearer {
        token: usize,
    },
    LogOutEverywhere {
        user: usize,
    },
    EndOne {
        token: usize,
    },
    Disable {
        user: usize,
    },
    Enable {
        user: usize,
    },
    ChangeRole {
        user: usize,
        role: Role,
    },
    Wait {
        time: Duration,
    },
    ClockStepsBack,
    Prune,
    Restart,
    RotateKeys,
}

fn event() -> impl Strategy<Value = Event> {
    let user = 0..EMAILS.len();
    // The newest tokens more often than the rest.
    let token = prop_oneof![3 => 0..3_usize, 1 => 0..50_usize];
    let role = prop_oneof![Just(Role::Viewer), Just(Role::Operator), Just(Role::Admin)];
    let times = [
        Duration::from_secs(1),
        Duration::from_secs(11),
        MINUTE * 16,
        DAY,
        DAY * 6,
    ];
    prop_oneof![
        5 => user.clone().prop_map(|user| Event::LogIn { user }),
        8 => token.clone().prop_map(|token| Event::Refresh { token }),
        1 => token.clone().prop_map(|token| Event::LogOutByCookie { token }),
        1 => token.clone().prop_map(|token| Event::LogOutByBearer { token }),
        1 => user.clone().prop_map(|user| Event::LogOutEverywhere { user }),
        1 => token.prop_map(|token| Event::EndOne { token }),
        1 => user.clone().prop_map(|user| Event::Disable { user }),
        2 => user.clone().prop_map(|user| Event::Enable { user }),
        1 => (user, role).prop_map(|(user, role)| Event::ChangeRole { user, role }),
        4 => prop::sample::select(times.to_vec()).prop_map(|time| Event::Wait { time }),
        1 => Just(Event::ClockStepsBack),
        1 => Just(Event::Prune),
        1 => Just(Event::Restart),
        1 => Just(Event::RotateKeys),
    ]
}

/// What is true, as far as anybody outside can know.
struct Model {
    now: Timestamp,
    users: Vec<User>,
    families: Vec<Family>,
    refresh: Vec<Refresh>,
    access: Vec<Access>,
}

struct User {
    id: UserId,
    enabled: bool,
    role: Role,
    /// Counted by the model itself.
    taken_back: u32,
}

struct Family {
    user: usize,
    session: SessionId,
    opened: Timestamp,
    ended: Option<Timestamp>,
    logged_out: bool,
    forgotten: bool,
}

struct Refresh {
    token: RefreshToken,
    family: usize,
    given: Timestamp,
    spent: Option<Spent>,
}

struct Spent {
    at: Timestamp,
    successor: usize,
}

struct Access {
    text: String,
    family: usize,
    issued: Timestamp,
    role: Role,
    epoch: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Rotated,
    Again(usize),
    Theft,
    Refused,
}

impl Model {
    fn refresh_of(&self, token: usize) -> Option<usize> {
        // 0 is the newest.
        let count = self.refresh.len();
        (count > 0).then(|| count - 1 - token % count)
    }

    fn expect(&self, index: usize) -> Expected {
        let token = &self.refresh[index];
        let family = &self.families[token.family];
        let over = self.now >= family.opened.plus(DAY * 30);
        if family.ended.is_some() || family.forgotten || over {
            return Expected::Refused;
        }
        if !self.users[family.user].enabled {
            return Expected::Refused;
        }
        match &token.spent {
            None if self.now >= token.given.plus(DAY * 7) => Expected::Refused,
            None => Expected::Rotated,
            Some(spent) => {
                let unused = self.refresh[spent.successor].spent.is_none();
                if unused && self.now < spent.at.plus(Duration::from_secs(10)) {
                    Expected::Again(spent.successor)
                } else {
                    Expected::Theft
                }
            }
        }
    }

    fn is_alive(&self, token: &Access) -> bool {
        let family = &self.families[token.family];
        let user = &self.users[family.user];
        let leeway = Duration::from_secs(5);
        let in_time = self.now.plus(leeway) >= token.issued
            && self.now < token.issued.plus(MINUTE * 15).plus(leeway);
        in_time && !family.logged_out && token.epoch == user.taken_back
    }

    fn end_all_of(&mut self, user: usize) {
        self.users[user].taken_back += 1;
        for family in self
            .families
            .iter_mut()
            .filter(|family| family.user == user)
        {
            family.ended.get_or_insert(self.now);
        }
    }

    fn end(&mut self, family: usize) {
        self.families[family].ended.get_or_insert(self.now);
        self.families[family].logged_out = true;
    }

    fn forget(&mut self) {
        for family in &mut self.families {
            let held = |ended: Timestamp| self.now < ended.plus(DAY * 2);
            let over = self.now >= family.opened.plus(DAY * 30);
            family.forgotten |= over || !family.ended.is_none_or(held);
        }
    }

    fn given(&mut self, pair: TokenPair, family: usize) {
        let user = &self.users[self.families[family].user];
        self.access.push(Access {
            text: pair.access.expose().to_owned(),
            family,
            issued: Timestamp::from_unix_seconds(self.now.as_unix_seconds()),
            role: user.role,
            epoch: user.taken_back,
        });
        self.refresh.push(Refresh {
            token: pair.refresh,
            family,
            given: self.now,
            spent: None,
        });
    }
}

struct World {
    replicas: [House; 2],
    past_keys: Vec<VerificationKey>,
    model: Model,
}

impl World {
    async fn build() -> Result<Self, Box<dyn Error>> {
        let one = House::build().await?;
        let mut users = Vec::new();
        for email in EMAILS {
            users.push(User {
                id: one.add(email, Role::Viewer).await?,
                enabled: true,
                role: Role::Viewer,
                taken_back: 0,
            });
        }
        let two = House::on(Arc::clone(&one.store), Arc::clone(&one.tokens)).await?;
        let model = Model {
            now: noon(),
            users,
            families: Vec::new(),
            refresh: Vec::new(),
            access: Vec::new(),
        };
        let mut past_keys = Vec::new();
        for key in one.tokens.jwks(noon()).keys {
            past_keys.push(VerificationKey::from_bytes(
                &URL_SAFE_NO_PAD.decode(key.x)?,
            )?);
        }
        Ok(Self {
            replicas: [one, two],
            past_keys,
            model,
        })
    }

    async fn apply(&mut self, event: &Event, at: usize) -> Result<(), TestCaseError> {
        let now = self.model.now;
        let house = &self.replicas[at];
        let model = &mut self.model;
        match *event {
            Event::LogIn { user } => {
                let outcome = house.log_in_at(EMAILS[user], PASSWORD, now).await;
                prop_assert_eq!(outcome.is_ok(), model.users[user].enabled);
                match outcome {
                    Ok(pair) => {
                        model.families.push(Family {
                            user,
                            session: pair.session.grant.session,
                            opened: now,
                            ended: None,
                            logged_out: false,
                            forgotten: false,
                        });
                        model.given(pair, model.families.len() - 1);
                    }
                    Err(error) => prop_assert!(matches!(error, LoginError::Refused)),
                }
            }
            Event::Refresh { token } => {
                let Some(index) = model.refresh_of(token) else {
                    return Ok(());
                };
                let expected = model.expect(index);
                let family = model.refresh[index].family;
                let presented = &model.refresh[index].token;
                let outcome = house.sessions.refresh(presented, &house.client, now).await;
                match (expected, outcome) {
                    (Expected::Rotated, Ok(pair)) => {
                        model.given(pair, family);
                        model.refresh[index].spent = Some(Spent {
                            at: now,
                            successor: model.refresh.len() - 1,
                        });
                    }
                    (Expected::Again(successor), Ok(pair)) => {
                        let same = model.refresh[successor].token.digest();
                        prop_assert_eq!(pair.refresh.digest(), same);
                        model.given(pair, family);
                        model.refresh.pop();
                    }
                    (Expected::Theft, Err(RefreshError::Reused { .. })) => {
                        model.families[family].ended = Some(now);
                        let user = model.families[family].user;
                        model.users[user].taken_back += 1;
                    }
                    (Expected::Refused, Err(RefreshError::Refused)) => {}
                    (expected, outcome) => {
                        return Err(TestCaseError::fail(format!("{expected:?}: {outcome:?}")));
                    }
                }
            }
            Event::LogOutByCookie { token } => {
                let Some(index) = model.refresh_of(token) else {
                    return Ok(());
                };
                let shown = LogOut {
                    refresh: Some(&model.refresh[index].token),
                    principal: None,
                };
                done(house.sessions.log_out(&shown, now).await)?;
                if !model.families[model.refresh[index].family].forgotten {
                    model.end(model.refresh[index].family);
                }
            }
            Event::LogOutByBearer { token } => {
                let count = model.access.len();
                let Some(shown) = count.checked_sub(1 + token % count.max(1)) else {
                    return Ok(());
                };
                let family = model.access[shown].family;
                let caller = house
                    .gate
                    .authenticate(&model.access[shown].text, now)
                    .await;
                if let Ok(caller) = caller {
                    let shown = LogOut {
                        refresh: None,
                        principal: Some(&caller),
                    };
                    done(house.sessions.log_out(&shown, now).await)?;
                    model.end(family);
                }
            }
            Event::EndOne { token } => {
                let Some(index) = model.refresh_of(token) else {
                    return Ok(());
                };
                let family = model.refresh[index].family;
                let of = &model.families[family];
                let id = model.users[of.user].id;
                let ended = done(house.sessions.end_one(id, of.session, now).await)?;
                prop_assert_eq!(ended, !of.forgotten);
                if ended {
                    model.end(family);
                }
            }
            Event::LogOutEverywhere { user } => {
                done(
                    house
                        .sessions
                        .log_out_everywhere(model.users[user].id, now)
                        .await,
                )?;
                model.end_all_of(user);
            }
            Event::Disable { user } => {
                house.store.set_enabled(model.users[user].id, false, now);
                done(house.cache.refresh().await)?;
                model.users[user].enabled = false;
                model.end_all_of(user);
            }
            Event::Enable { user } => {
                house.store.set_enabled(model.users[user].id, true, now);
                model.users[user].enabled = true;
            }
            Event::ChangeRole { user, role } => {
                house.store.set_role(model.users[user].id, role);
                done(house.cache.refresh().await)?;
                model.users[user].role = role;
                model.users[user].taken_back += 1;
            }
            Event::Wait { time } => model.now = now.plus(time),
            Event::ClockStepsBack => model.now = now.minus(MINUTE * 60),
            Event::Prune => {
                done(house.sessions.prune(now).await)?;
                model.forget();
            }
            Event::Restart => {
                let (store, tokens) = (Arc::clone(&house.store), Arc::clone(&house.tokens));
                self.replicas[at] = House::on(store, tokens)
                    .await
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
            }
            Event::RotateKeys => {
                let new = SigningKey::generate(&SystemEntropy);
                let public = new.verification_key();
                let keys = self
                    .past_keys
                    .iter()
                    .cloned()
                    .fold(KeySet::new(new), KeySet::honour);
                house.tokens.replace_keys(keys);
                self.past_keys.push(public);
            }
        }
        Ok(())
    }

    async fn check(&self, at: usize) -> Result<(), TestCaseError> {
        for token in &self.model.access {
            let now = self.model.now;
            let caller = self.replicas[at].gate.authenticate(&token.text, now).await;
            let alive = self.model.is_alive(token);
            prop_assert_eq!(caller.is_ok(), alive, "replica {}: {:?}", at, caller);
            if let Ok(caller) = caller {
                prop_assert_eq!(caller.role(), token.role);
            }
        }
        Ok(())
    }
}

fn done<T>(outcome: Result<T, StoreError>) -> Result<T, TestCaseError> {
    outcome.map_err(|error| TestCaseError::fail(error.to_string()))
}

proptest! {
    #![proptest_config(Config { cases: 128, failure_persistence: None, ..Config::default() })]

    /// A3, A4, A6
    #[test]
    fn what_was_taken_back_is_never_accepted_again(
        events in vec((event(), 0..2_usize), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let built = World::build().await;
            let mut world = built.map_err(|error| TestCaseError::fail(error.to_string()))?;
            for (event, at) in &events {
                world.apply(event, *at).await?;
                world.check(*at).await?;
                let other = 1 - at;
                done(world.replicas[other].cache.refresh().await)?;
                world.check(other).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}
