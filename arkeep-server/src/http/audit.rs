//! Every attempt and every change, in the audit log, whatever route it took.
//!
//! One layer around all routes sees each request and its answer. It writes an entry for every method
//! that is not safe, for every refusal of who somebody is or what they may do (401, 403, 429), and
//! where a login comes in by GET. A handler cannot forget that. What only a handler knows, it *adds*
//! to the entry of the request that it serves: who it found out the caller to be, and what was
//! different afterwards.
//!
//! The entry is on the disk before the answer leaves, also when the client has hung up. An answer
//! whose entry cannot be written is not given: 503 comes in its place. There is one exception, or a
//! stranger could fill the disk: see [`Flood`].
//!
//! Particulars are made of what the API shows of a thing, so a secret cannot be among them: its type
//! does not serialise. That one has changed is said by name alone.

mod actions;
mod flood;
mod note;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use arkeep_core::{AgentId, Clock, StoreError, UserId};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use serde_json::Value;
use tracing::Instrument as _;
use uuid::Uuid;

use super::address::ClientAddress;
use super::envelope::{RequestId, foreign};
use super::problem::{Code, Problem};
use crate::store::audit::{Actor, AuditStore, Changes, NewEntry, Target};
use crate::store::users::UserDirectory;

pub(super) use actions::TOKEN_REUSE;
pub use actions::{Action, TABLE, action_of};
pub use flood::Flood;
use flood::Source;
use note::{Note, Who};
pub(super) use note::{
    added, always, by, called, changed, fact, removed, secret, seen_caller, tried_account,
    tried_token, upon,
};

/// Writes the log.
#[derive(Debug)]
pub struct AuditLog {
    store: Arc<dyn AuditStore>,
    users: Arc<dyn UserDirectory>,
    clock: Arc<dyn Clock>,
    flood: Flood,
}

/// Something that an agent did or was refused, on its own port.
#[derive(Debug)]
pub(crate) struct AgentEvent {
    pub(crate) action: &'static str,
    /// None when nobody knows who it was.
    pub(crate) agent: Option<AgentId>,
    pub(crate) result: &'static str,
    pub(crate) particulars: Value,
}

/// What a request says of itself before anybody has served it.
struct Asked {
    action: Action,
    target: Option<String>,
    is_safe: bool,
    address: Option<String>,
    request_id: Option<String>,
}

/// Around every route.
pub(super) async fn record(
    State(log): State<Arc<AuditLog>>,
    request: Request,
    next: Next,
) -> Response {
    let asked = Asked::of(request.method(), request.uri(), request.extensions());
    let note = Arc::new(Mutex::new(Note::default()));
    let served = note::around(Arc::clone(&note), next.run(request));
    let answered = AssertUnwindSafe(served).catch_unwind().await;

    let note = std::mem::take(&mut *note.lock().unwrap_or_else(PoisonError::into_inner));
    let (status, result) = match &answered {
        Ok(response) => (response.status(), result(response)),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, word(Code::Internal)),
    };
    if !asked.concerns(status, &note) {
        return answered.unwrap_or_else(|panic| resume_unwind(panic));
    }
    let place = answered.as_ref().ok().and_then(made);
    // On its own feet: what was decided is written down, whoever still waits for the answer.
    let writing = async move { log.write(asked, note, place, result).await };
    let written = tokio::spawn(writing.in_current_span()).await;
    match (answered, written) {
        (Err(panic), _) => resume_unwind(panic),
        (Ok(response), Ok(Ok(()))) => response,
        (Ok(response), _) if status.is_server_error() => response,
        (Ok(_), Ok(Err(error))) => unrecorded().because(error).into_response(),
        (Ok(_), Err(error)) => unrecorded().because(error).into_response(),
    }
}

fn unrecorded() -> Problem {
    Problem::new(
        Code::Unavailable,
        "the audit log cannot be written; look whether it was done, and try again",
    )
}

impl Asked {
    fn of(method: &Method, uri: &Uri, extensions: &Extensions) -> Self {
        let pattern = extensions.get::<MatchedPath>().map(MatchedPath::as_str);
        // A HEAD is served by the route of its GET.
        let served = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let action = pattern.and_then(|path| action_of(served, path));
        let target = pattern.and_then(|pattern| id_in(pattern, uri.path()));
        let address = extensions.get::<ClientAddress>();
        Self {
            action: action.unwrap_or(actions::UNKNOWN),
            target,
            is_safe: method.is_safe(),
            address: address.map(|address| address.0.to_string()),
            request_id: extensions.get::<RequestId>().map(|id| id.0.to_string()),
        }
    }

    fn concerns(&self, status: StatusCode, note: &Note) -> bool {
        const REFUSALS: [StatusCode; 3] = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        !self.is_safe || note.always || REFUSALS.contains(&status)
    }
}

/// The id in a path, if it is one: other texts are chosen by strangers.
fn id_in(pattern: &str, path: &str) -> Option<String> {
    let mut both = pattern.split('/').zip(path.split('/'));
    let (_, text) = both.find(|(part, _)| part.starts_with('{'))?;
    Some(text.parse::<Uuid>().ok()?.to_string())
}

/// The id of what was made, which the answer's `Location` ends with.
fn made(response: &Response) -> Option<String> {
    if response.status() != StatusCode::CREATED {
        return None;
    }
    let location = response.headers().get(axum::http::header::LOCATION)?;
    let (_, id) = location.to_str().ok()?.rsplit_once('/')?;
    Some(id.parse::<Uuid>().ok()?.to_string())
}

fn result(response: &Response) -> Cow<'static, str> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return OK.into();
    }
    let problem = response.extensions().get::<Problem>();
    word(problem.map_or_else(|| foreign(status).code(), Problem::code))
}

// As the problem document spells it.
fn word(code: Code) -> Cow<'static, str> {
    let value = serde_json::to_value(code).unwrap_or_default();
    value.as_str().unwrap_or("internal").to_owned().into()
}

impl AuditLog {
    /// Writes to this store, and asks these users for their names.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        users: Arc<dyn UserDirectory>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            users,
            clock,
            flood: Flood::default(),
        }
    }

    async fn write(
        &self,
        asked: Asked,
        note: Note,
        place: Option<String>,
        result: Cow<'static, str>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let action = note.action.unwrap_or(asked.action);
        let source = match &note.who {
            Some(Who::User(user)) => Source::Known(user.to_string()),
            Some(Who::Token(token, _)) => Source::Known(token.to_string()),
            None => Source::Stranger(asked.address.clone()),
        };
        let may_fold = (result != OK || action.often) && !note.always_kept();
        if may_fold && !self.flood.admit(&source, action, &result, now) {
            return Ok(());
        }
        let target = Target {
            kind: match action.target {
                actions::ACCOUNT => "user".into(),
                kind => kind.into(),
            },
            id: match note.target.clone().or(place).or(asked.target) {
                None if action.target == actions::ACCOUNT => self.account(&note).await?,
                id => id,
            },
        };
        let actor = match &note.who {
            Some(Who::User(user)) => self.person("user", user.to_string(), *user).await?,
            Some(Who::Token(token, owner)) => {
                self.person("token", token.to_string(), *owner).await?
            }
            None => Actor {
                kind: "anonymous".into(),
                id: note.tried_token.map(|token| token.to_string()),
                name: note.tried_account.clone(),
            },
        };
        self.append(NewEntry {
            at: now,
            actor,
            action: action.name.into(),
            target,
            result,
            address: asked.address,
            request_id: asked.request_id,
            changes: note.changes.into(),
        })
        .await
    }

    /// Whose account it was about: that of who proved to be somebody, or of who they said to be.
    async fn account(&self, note: &Note) -> Result<Option<String>, StoreError> {
        match (&note.who, &note.tried_account) {
            (Some(Who::User(user) | Who::Token(_, user)), _) => Ok(Some(user.to_string())),
            (None, Some(said)) => {
                let found = self.users.find_by_email(said).await?;
                Ok(found.map(|user| user.id.to_string()))
            }
            (None, None) => Ok(None),
        }
    }

    async fn person(
        &self,
        kind: &'static str,
        id: String,
        user: UserId,
    ) -> Result<Actor, StoreError> {
        let found = self.users.find(user).await?;
        Ok(Actor {
            kind: kind.into(),
            id: Some(id),
            name: found.map(|user| user.email),
        })
    }

    /// Writes down what an agent did, or counts what it is refused without end.
    pub(crate) async fn agent(&self, event: AgentEvent) -> Result<(), StoreError> {
        let now = self.clock.now();
        let id = event.agent.map(|agent| agent.to_string());
        let source = match &id {
            Some(id) => Source::Known(id.clone()),
            None => Source::Stranger(None),
        };
        let action = Action::of_agents(event.action);
        if event.result != OK && !self.flood.admit(&source, action, event.result, now) {
            return Ok(());
        }
        self.append(NewEntry {
            at: now,
            actor: Actor {
                kind: if id.is_some() { "agent" } else { "anonymous" }.into(),
                id: id.clone(),
                name: None,
            },
            action: action.name.into(),
            target: Target::new(action.target, id),
            result: event.result.into(),
            address: None,
            request_id: None,
            changes: event.particulars.into(),
        })
        .await
    }

    async fn append(&self, new: NewEntry) -> Result<(), StoreError> {
        match self.store.append(&new).await {
            Ok(entry) => {
                // Another place where the head of the chain is noted.
                tracing::debug!(seq = entry.seq, hash = %entry.hash, action = %entry.says.action, "audited");
                Ok(())
            }
            Err(error) => {
                tracing::error!(
                    action = %new.action, result = %new.result, actor = ?new.actor,
                    target = ?new.target, address = ?new.address, %error,
                    "an entry of the audit log was not written"
                );
                Err(error)
            }
        }
    }

    /// Writes down how often what was not written down has happened. Run it every minute, and at
    /// the end.
    pub async fn settle(&self) {
        for folded in self.flood.take() {
            let (kind, id) = match &folded.source {
                Source::Known(id) => ("known", Some(id.clone())),
                Source::Stranger(_) => ("anonymous", None),
            };
            let address = match folded.source {
                Source::Stranger(address) => address,
                Source::Known(_) => None,
            };
            let entry = NewEntry {
                at: self.clock.now(),
                actor: Actor {
                    kind: kind.into(),
                    id,
                    name: None,
                },
                action: folded.action.name.into(),
                target: Target {
                    kind: folded.action.target.into(),
                    id: None,
                },
                result: folded.result,
                address,
                request_id: None,
                changes: Changes::from(folded.particulars),
            };
            // The log has it, with the numbers; the next round has the next.
            if self.append(entry).await.is_err() {
                return;
            }
        }
    }
}

const OK: &str = "ok";
