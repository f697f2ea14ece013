//! Changing a thing that is there: JSON Merge Patch, versions, `If-Match`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::body::{self, MergePatch};
use super::problem::{Code, Problem};

/// What the caller says the thing looks like: the versions of `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// Whatever version there is.
    Any,
    /// One of these tags.
    OneOf(Vec<String>),
}

impl IfMatch {
    /// Refuses when the thing is of another version than the caller thinks.
    pub(super) fn check(&self, version: u64) -> Result<(), Problem> {
        match self {
            Self::Any => Ok(()),
            Self::OneOf(tags) if tags.contains(&tag(version)) => Ok(()),
            Self::OneOf(_) => Err(stale()),
        }
    }

    /// The version that a write is to name: the caller's, when it named one.
    pub(super) fn version(&self, read: u64) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::OneOf(_) => Some(read),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut tags = Vec::new();
        for value in parts.headers.get_all(header::IF_MATCH) {
            let value = value.to_str().map_err(|_| stale())?;
            tags.extend(value.split(',').map(|tag| tag.trim().to_owned()));
        }
        match tags.as_slice() {
            [] => Ok(Self::Any),
            [any] if any == "*" => Ok(Self::Any),
            _ => Ok(Self::OneOf(tags)),
        }
    }
}

/// An object with the `ETag` of its version.
#[derive(Debug)]
pub(super) struct Tagged<T>(pub(super) u64, pub(super) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        if let Ok(tag) = HeaderValue::from_str(&tag(self.0)) {
            headers.insert(header::ETAG, tag);
        }
        (headers, axum::Json(self.1)).into_response()
    }
}

/// Applies a patch to what can be written of a thing, and reads the outcome.
///
/// `known` are the members that can be written. A patch that names another one is refused even if
/// it only asks for its removal, which merging would silently do.
pub(super) fn merge<T: DeserializeOwned>(
    writable: impl Serialize,
    patch: MergePatch,
    known: &[&str],
) -> Result<T, Problem> {
    if let Some(unknown) = patch.0.keys().find(|name| !known.contains(&name.as_str())) {
        let problem = Problem::new(Code::BadRequest, "the body cannot be read");
        return Err(problem.at(unknown, "unknown field"));
    }
    let mut target = serde_json::to_value(writable)
        .map_err(|error| Problem::new(Code::Internal, "it cannot be written").because(error))?;
    apply(&mut target, patch.0);
    body::convert(target)
}

/// What one member would be after a patch of it; nothing when that could not be read.
pub(super) fn outcome<T: Serialize + DeserializeOwned>(
    before: &T,
    patch: &Value,
) -> Result<Option<T>, Problem> {
    let member = "member".to_owned();
    let mut target = serde_json::to_value(before)
        .map(|before| Value::Object(Map::from_iter([(member.clone(), before)])))
        .map_err(|error| Problem::new(Code::Internal, "it cannot be written").because(error))?;
    apply(
        &mut target,
        Map::from_iter([(member.clone(), patch.clone())]),
    );
    let after = target
        .as_object_mut()
        .and_then(|target| target.remove(&member));
    // A member that was removed is the empty one.
    let after = after.unwrap_or_else(|| Value::Object(Map::new()));
    Ok(serde_json::from_value(after).ok())
}

// RFC 7396 §2. Depth is bounded by the judge of the body.
fn apply(target: &mut Value, patch: Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        match value {
            Value::Null => {
                members.remove(&name);
            }
            Value::Object(inner) => apply(members.entry(name).or_insert(Value::Null), inner),
            value => {
                members.insert(name, value);
            }
        }
    }
}

/// How often a change is made again when another one came in between.
#[derive(Debug)]
pub(super) struct Tries(usize);

impl Tries {
    /// Many for a caller who named no version, one for a caller who did.
    pub(super) fn of(if_match: &IfMatch) -> Self {
        Self(match if_match {
            IfMatch::Any => MOST_TRIES,
            IfMatch::OneOf(_) => 1,
        })
    }

    /// Whether the change is to be made again.
    pub(super) fn again<T>(&mut self, changed: &Result<T, Problem>) -> bool {
        self.0 = self.0.saturating_sub(1);
        let is_stale = |problem: &Problem| problem.code() == Code::PreconditionFailed;
        self.0 > 0 && changed.as_ref().err().is_some_and(is_stale)
    }
}

fn tag(version: u64) -> String {
    format!("\"{version}\"")
}

/// Of changes that race, one gets through each time.
const MOST_TRIES: usize = 50;

pub(super) fn stale() -> Problem {
    Problem::new(
        Code::PreconditionFailed,
        "it has changed since it was read: read it again",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(mut target: Value, patch: Value) -> Value {
        match patch {
            Value::Object(patch) => apply(&mut target, patch),
            other => panic!("{other}"),
        }
        target
    }

    // The cases of RFC 7396, appendix A, whose patch is an object.
    #[test]
    fn merges_as_the_rfc_says() {
        for (target, patch, outcome) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            assert_eq!(
                patched(target.clone(), patch.clone()),
                outcome,
                "{target} {patch}"
            );
        }
    }

    #[test]
    fn refuses_to_remove_what_it_does_not_know() {
        let Value::Object(patch) = json!({"colour": null}) else {
            return;
        };

        let refused = merge::<Value>(json!({"name": "a"}), MergePatch(patch), &["name"]);

        assert!(refused.is_err_and(|problem| problem.code() == Code::BadRequest));
    }

    #[test]
    fn a_change_without_a_version_is_made_until_it_fits() {
        let one = IfMatch::OneOf(vec!["\"1\"".to_owned()]);
        let lost = Err::<(), _>(stale());

        let mut many = Tries::of(&IfMatch::Any);
        assert!(many.again(&lost) && many.again(&lost));
        assert!(!many.again(&Ok::<_, Problem>(())));
        assert!(!many.again(&Err::<(), _>(Problem::not_found())));
        assert!(!Tries::of(&one).again(&lost));
        let tries = std::iter::repeat_with(|| many.again(&lost));
        assert!(tries.take_while(|again| *again).count() < MOST_TRIES);
    }

    #[test]
    fn a_caller_with_an_old_version_is_refused() {
        let one = IfMatch::OneOf(vec!["\"1\"".to_owned()]);

        assert!(one.check(1).is_ok());
        assert!(
            one.check(2)
                .is_err_and(|problem| problem.code() == Code::PreconditionFailed)
        );
        assert!(IfMatch::Any.check(2).is_ok());
        assert_eq!(one.version(1), Some(1));
        assert_eq!(IfMatch::Any.version(1), None);
    }
}
