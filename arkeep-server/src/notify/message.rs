use arkeep_core::{DeliveryId, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::store::deliveries::Event;

/// What is told: the body of a webhook, and what other kinds of channel are made of.
///
/// It is made of what is stored alone, so that it is the same however often it is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    /// What kind of event it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The delivery's id, by which a receiver knows one that it has seen.
    pub id: DeliveryId,
    /// One line for people.
    pub title: String,
    /// More, for people.
    pub text: String,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The same for programs.
    pub data: Value,
}

impl Message {
    /// Puts an event into words.
    #[must_use]
    pub fn of(id: DeliveryId, mut event: Event) -> Self {
        let (title, text) = words(&event);
        spell_times(&mut event.data);
        Self {
            kind: event.kind,
            id,
            title,
            text,
            occurred_at: event.occurred_at,
            data: event.data,
        }
    }
}

/// The tables count milliseconds; the contract writes times out.
fn spell_times(data: &mut Value) {
    for (name, value) in data.as_object_mut().into_iter().flatten() {
        if let (true, Some(millis)) = (name.ends_with("_at"), value.as_i64()) {
            *value = Timestamp::from_unix_millis(millis).to_string().into();
        }
    }
}

fn words(event: &Event) -> (String, String) {
    let data = &event.data;
    match event.kind.as_str() {
        "job.succeeded" => job(data, "succeeded"),
        "job.partial" => job(data, "is incomplete"),
        "job.failed" => job(data, "failed"),
        "job.missed" => job(data, "did not run"),
        "policy.overdue" => (
            format!("No good snapshot of {}", said(data, "/policy", "a policy")),
            format!(
                "{} on {} has none as young as it should have. {}",
                said(data, "/policy", "The policy"),
                said(data, "/agent", "an agent"),
                match time(data, "/last_good_at") {
                    Some(at) => format!("The last one is of {at}."),
                    None => "There never was one.".to_owned(),
                }
            ),
        ),
        "agent.offline" => (
            format!("{} is offline", said(data, "/agent", "An agent")),
            seen(data, "It was last heard of at"),
        ),
        "agent.online" => (
            format!("{} is back", said(data, "/agent", "An agent")),
            seen(data, "It had been silent since"),
        ),
        "security.token_reuse" => (
            format!("A login of {} was stolen", said(data, "/email", "a user")),
            format!(
                "A refresh token that had been used was shown again. All sessions and tokens of {} \
                 are ended. Before that, the session was used from {}.",
                said(data, "/email", "the user"),
                said(data, "/address", "an unknown address"),
            ),
        ),
        other => (other.to_owned(), String::new()),
    }
}

fn job(data: &Value, how: &str) -> (String, String) {
    let kind = said(data, "/kind", "job");
    let agent = said(data, "/agent", "an agent");
    let title = match data.pointer("/policy").and_then(Value::as_str) {
        Some(policy) => format!("{kind} of {policy} on {agent} {how}"),
        None => format!("{kind} on {agent} {how}"),
    };
    let text = match data.pointer("/error/detail").and_then(Value::as_str) {
        Some(detail) => plain(detail),
        None => format!("Job {}.", said(data, "/job_id", "of no id")),
    };
    (capital(&title), text)
}

fn seen(data: &Value, before: &str) -> String {
    match time(data, "/last_seen_at") {
        Some(at) => format!("{before} {at}."),
        None => String::new(),
    }
}

fn time(data: &Value, pointer: &str) -> Option<Timestamp> {
    data.pointer(pointer)
        .and_then(Value::as_i64)
        .map(Timestamp::from_unix_millis)
}

fn said(data: &Value, pointer: &str, otherwise: &str) -> String {
    let said = data.pointer(pointer).and_then(Value::as_str);
    plain(said.unwrap_or(otherwise))
}

/// What an agent says may hold anything.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST)
        .collect()
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => first.to_uppercase().chain(rest).collect(),
        None => String::new(),
    }
}

const MOST: usize = 1_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words_of(kind: &str, data: Value) -> (String, String) {
        words(&Event {
            kind: kind.to_owned(),
            occurred_at: Timestamp::UNIX_EPOCH,
            data,
        })
    }

    #[test]
    fn a_job_is_told_by_its_policy_and_its_error() {
        let data = json!({"job_id": "j", "kind": "backup", "policy": "nightly", "agent": "db1",
            "error": {"code": "x", "detail": "no\nroom"}});

        let (title, text) = words_of("job.failed", data);

        assert_eq!(title, "Backup of nightly on db1 failed");
        assert_eq!(text, "no room");
    }

    #[test]
    fn what_is_missing_is_left_out() {
        let (title, text) = words_of("job.succeeded", json!({"kind": "restore", "policy": null}));

        assert_eq!(title, "Restore on an agent succeeded");
        assert_eq!(text, "Job of no id.");
    }

    #[test]
    fn what_an_agent_says_is_bounded() {
        let data = json!({"error": {"detail": "x".repeat(100_000)}});

        assert!(words_of("job.failed", data).1.len() <= MOST);
    }
}
