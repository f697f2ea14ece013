//! What handlers add to the entry of the request that they serve.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use arkeep_auth::{ApiTokenId, Principal};
use arkeep_core::UserId;
use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::actions::{self, Action};

/// What is known of a request beyond its address and its answer.
#[derive(Debug, Default)]
pub(super) struct Note {
    pub(super) who: Option<Who>,
    pub(super) tried_account: Option<String>,
    pub(super) tried_token: Option<ApiTokenId>,
    pub(super) action: Option<Action>,
    pub(super) target: Option<String>,
    pub(super) changes: Map<String, Value>,
    pub(super) always: bool,
}

impl Note {
    pub(super) fn always_kept(&self) -> bool {
        self.action
            .is_some_and(|action| action == actions::TOKEN_REUSE)
    }
}

/// Who proved to be somebody.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    User(UserId),
    /// The token, and whose it is.
    Token(ApiTokenId, UserId),
}

tokio::task_local! {
    // Not an argument of every handler and of what it calls: the things that change lie deep, and
    // an entry is written whether anybody adds to it or not.
    static NOTE: Arc<Mutex<Note>>;
}

pub(super) async fn around<T>(note: Arc<Mutex<Note>>, serve: impl Future<Output = T>) -> T {
    NOTE.scope(note, serve).await
}

// Outside of a request there is no entry to add to.
fn note(add: impl FnOnce(&mut Note)) {
    let _ = NOTE.try_with(|note| add(&mut note.lock().unwrap_or_else(PoisonError::into_inner)));
}

/// The guard let this caller in, or refused them what they asked for.
pub(in crate::http) fn seen_caller(caller: &Principal) {
    note(|note| {
        note.who = Some(match caller.api_token() {
            Some(token) => Who::Token(token, caller.user()),
            None => Who::User(caller.user()),
        });
    });
}

/// In this request somebody proved to be this user.
pub(in crate::http) fn by(user: UserId) {
    note(|note| note.who = Some(Who::User(user)));
}

/// Somebody says that they are who logs in with this address. Bounded, and without what could
/// confuse whoever reads the log.
pub(in crate::http) fn tried_account(said: &str) {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let clean = said.chars().filter(|c| !odd(*c)).take(MOST_SAID).collect();
    note(|note| note.tried_account = Some(clean));
}

/// Somebody shows this token, which is not accepted.
pub(in crate::http) fn tried_token(token: ApiTokenId) {
    note(|note| note.tried_token = Some(token));
}

/// It turned out to be this, rather than what the route is named for.
pub(in crate::http) fn called(action: Action) {
    note(|note| note.action = Some(action));
}

/// It is written down also though the method is safe.
pub(in crate::http) fn always() {
    note(|note| note.always = true);
}

/// It was done to this one.
pub(in crate::http) fn upon(target: impl ToString) {
    note(|note| note.target = Some(target.to_string()));
}

/// Something is different afterwards, in the fields that the API shows.
pub(in crate::http) fn changed(before: &impl Serialize, after: &impl Serialize) {
    let (before, after) = (fields(before), fields(after));
    note(|note| {
        let names = before.keys().chain(after.keys());
        for name in names {
            let set =
                |fields: &Map<String, Value>| fields.get(name).cloned().filter(|v| !v.is_null());
            let (was, is) = (set(&before), set(&after));
            if was != is {
                let of = json!({"before": bounded(was.as_ref()), "after": bounded(is.as_ref())});
                note.changes.insert(name.clone(), of);
            }
        }
    });
}

/// Something is there that was not.
pub(in crate::http) fn added(after: &impl Serialize) {
    changed(&Map::new(), after);
}

/// Something is not there any more.
pub(in crate::http) fn removed(before: &impl Serialize) {
    changed(before, &Map::new());
}

/// A secret is another afterwards.
pub(in crate::http) fn secret(field: &str) {
    fact(field, "[changed]");
}

/// Something else that is worth knowing.
pub(in crate::http) fn fact(name: &str, value: impl Serialize) {
    let value = serde_json::to_value(value).unwrap_or_default();
    note(|note| {
        note.changes.insert(name.to_owned(), bounded(Some(&value)));
    });
}

fn fields(of: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

// A policy may have a megabyte of excludes, and may be changed every second.
fn bounded(value: Option<&Value>) -> Value {
    let Some(value) = value else {
        return Value::Null;
    };
    let text = value.to_string();
    if text.len() <= MOST_OF_A_VALUE {
        return value.clone();
    }
    let hash = digest(&SHA256, text.as_bytes());
    let hash: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Value::String(format!("[{} bytes of JSON, SHA-256 {hash}]", text.len()))
}

/// An e-mail address has no more.
const MOST_SAID: usize = 254;
const MOST_OF_A_VALUE: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    async fn noted(add: impl FnOnce()) -> Note {
        let all = Arc::new(Mutex::new(Note::default()));
        around(Arc::clone(&all), async { add() }).await;
        std::mem::take(&mut *all.lock().unwrap())
    }

    /// S12
    #[tokio::test]
    async fn only_what_differs_is_noted() {
        let before = json!({"a": 1, "b": 2, "c": null});
        let after = json!({"a": 1, "b": 3, "d": "x"});

        let note = noted(|| {
            changed(&before, &after);
            secret("password");
        })
        .await;

        let expected = json!({
            "b": {"before": 2, "after": 3},
            "d": {"before": null, "after": "x"},
            "password": "[changed]",
        });
        assert_eq!(Value::Object(note.changes), expected);
    }

    /// S12
    #[tokio::test]
    async fn a_value_is_bounded() {
        let long = "x".repeat(100_000);

        let note = noted(|| added(&json!({"excludes": [long], "name": "n"}))).await;

        let text = Value::Object(note.changes).to_string();
        assert!(text.len() < 300, "{text}");
        assert!(text.contains("100004 bytes of JSON"), "{text}");
    }

    /// S12
    #[tokio::test]
    async fn what_a_stranger_says_is_bounded_and_plain() {
        let said = format!("a\n\u{0}\u{202e}\u{1b}[2J{}", "é".repeat(10_000));

        let note = noted(|| tried_account(&said)).await;

        let kept = note.tried_account.unwrap();
        assert!(kept.starts_with("a[2Jé"), "{kept}");
        assert_eq!(kept.chars().count(), MOST_SAID);
    }

    #[tokio::test]
    async fn outside_of_a_request_nothing_is_noted() {
        secret("password");
    }
}
