//! Bodies of requests: strict JSON, or nothing.

mod strict;

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::{Code, Problem};
use super::shape::{self, Fault, MAX_DEPTH};
use strict::Strict;

/// A body that was understood, every member of it.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

/// The body of a request that needs none: empty, or an object without members.
#[derive(Debug)]
pub(super) struct NoBody;

/// A body that may be left out.
#[derive(Debug)]
pub(super) struct MaybeJson<T>(pub(super) T);

/// A JSON Merge Patch (RFC 7396), to be applied by [`patch`](super::patch).
#[derive(Debug, Clone)]
pub(super) struct MergePatch(pub(super) serde_json::Map<String, Value>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        is_json(request.headers(), &["application/json"])?;
        read(&text(request, state).await?).map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let MaybeJson(Nothing {}) = MaybeJson::from_request(request, state).await?;
        Ok(Self)
    }
}

impl<S: Send + Sync, T: Default + DeserializeOwned> FromRequest<S> for MaybeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let json = is_json(request.headers(), &["application/json"]);
        let text = text(request, state).await?;
        if text.is_empty() {
            return Ok(Self(T::default()));
        }
        json?;
        read(&text).map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for MergePatch {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        is_json(
            request.headers(),
            &["application/merge-patch+json", "application/json"],
        )?;
        read(&text(request, state).await?).map(Self)
    }
}

/// Makes a `T` of a JSON text, and refuses whatever is not part of one.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    shape::judge(text).map_err(misshapen)?;
    if !text.trim_start().starts_with('{') {
        let problem = Problem::new(Code::BadRequest, "the body cannot be read");
        return Err(problem.at("", "must be an object"));
    }
    let value = serde_json::from_str(text)
        .map_err(|error| misshapen(Fault::Syntax(error.line(), error.column())))?;
    convert(value)
}

/// Makes a `T` of a value that was read before.
pub(super) fn convert<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Strict(value)).map_err(|error| misread(&error))
}

/// The same for a value that lies in a field: faults are named below that.
pub(super) fn convert_at<T: DeserializeOwned>(field: &str, value: Value) -> Result<T, Problem> {
    convert(value).map_err(|problem| problem.below(field))
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn is_json(headers: &HeaderMap, accepted: &[&str]) -> Result<(), Problem> {
    let refused = || {
        Problem::new(
            Code::UnsupportedMediaType,
            format!("the body must be {}", accepted.join(" or ")),
        )
    };
    let sent = headers.get(header::CONTENT_TYPE).ok_or_else(refused)?;
    let sent = sent.to_str().map_err(|_| refused())?.to_ascii_lowercase();
    let mut parts = sent.split(';').map(str::trim);
    if !parts.next().is_some_and(|kind| accepted.contains(&kind)) {
        return Err(refused());
    }
    match parts.all(|part| part == "charset=utf-8" || part == "charset=\"utf-8\"") {
        true => Ok(()),
        false => Err(refused()),
    }
}

async fn text<S: Send + Sync>(request: Request, state: &S) -> Result<String, Problem> {
    let read = tokio::time::timeout(PATIENCE, Bytes::from_request(request, state)).await;
    let bytes = read
        .map_err(|_| Problem::new(Code::BadRequest, "the body did not arrive in time"))?
        .map_err(|refused| match refused.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(Code::PayloadTooLarge, "the body may have 1 MiB at most")
            }
            _ => Problem::new(Code::BadRequest, "the body ended early"),
        })?;
    String::from_utf8(bytes.into())
        .map_err(|_| Problem::new(Code::BadRequest, "the body is not UTF-8").at("", "not UTF-8"))
}

fn misshapen(fault: Fault) -> Problem {
    let problem = Problem::new(Code::BadRequest, "the body cannot be read");
    match fault {
        Fault::Duplicate(path) => problem.at(path, "comes twice"),
        Fault::TooDeep(path) => problem.at(path, format!("lies deeper than {MAX_DEPTH} levels")),
        Fault::Syntax(line, column) => {
            problem.at("", format!("not JSON at line {line}, column {column}"))
        }
    }
}

// serde reports in sentences. What they quote of the input is left out: a password in the wrong
// field would stand in the answer.
fn misread(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = match error.path().to_string() {
        root if root == "." => String::new(),
        path => path,
    };
    let text = error.inner().to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);

    if let Some(rest) = text.strip_prefix("unknown field `") {
        let name = rest.split('`').next().unwrap_or_default();
        // The path ends with the unknown field already when it lies in a structure.
        let path = if last(&path) == name {
            path
        } else {
            join(&path, name)
        };
        return Problem::new(Code::BadRequest, "the body cannot be read").at(path, "unknown field");
    }
    if let Some(rest) = text.strip_prefix("missing field `") {
        let name = rest.split('`').next().unwrap_or_default();
        return Problem::invalid(join(&path, name), "is required");
    }
    let detail = if text.starts_with("invalid ") || text.starts_with("unknown variant") {
        match text.rsplit_once("expected ") {
            Some((_, wanted)) => format!("must be {wanted}"),
            None => "is not a value of this field".to_owned(),
        }
    } else {
        text.to_owned()
    };
    Problem::invalid(path, detail)
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// How much a body may hold.
pub(super) const MAX_BODY: usize = 1 << 20;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read into")]
    struct Outer {
        name: String,
        inner: Vec<Inner>,
        id: Option<arkeep_core::AgentId>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read into")]
    struct Inner {
        count: u32,
        kind: Option<arkeep_core::job::JobKind>,
    }

    fn told(text: &str) -> String {
        match read::<Outer>(text) {
            Ok(read) => format!("{read:?}"),
            Err(problem) => {
                let fields = problem
                    .errors()
                    .iter()
                    .map(|e| format!(" {}: {}", e.field, e.detail));
                format!("{:?}{}", problem.code(), fields.collect::<String>())
            }
        }
    }

    /// S15
    #[test]
    fn names_the_field() {
        for (text, answer) in [
            (
                r#"{"name":"a","inner":[],"x":1}"#,
                "BadRequest x: unknown field",
            ),
            (
                r#"{"name":"a","inner":[{"count":1,"x":2}]}"#,
                "BadRequest inner[0].x: unknown field",
            ),
            (
                r#"{"name":"a","name":"b","inner":[]}"#,
                "BadRequest name: comes twice",
            ),
            (r#"{"inner":[]}"#, "ValidationFailed name: is required"),
            (
                r#"{"name":"a","inner":[{}]}"#,
                "ValidationFailed inner[0].count: is required",
            ),
            (
                r#"{"name":7,"inner":[]}"#,
                "ValidationFailed name: must be a string",
            ),
            (
                r#"{"name":"a","inner":[{"count":-1}]}"#,
                "ValidationFailed inner[0].count: must be u32",
            ),
            (
                r#"{"name":"a","inner":[[1,null]]}"#,
                "ValidationFailed inner[0]: must be an object",
            ),
            (
                r#"{"name":"a","inner":[],"id":"x"}"#,
                "ValidationFailed id: not a UUID",
            ),
        ] {
            assert_eq!(told(text), answer, "{text}");
        }
    }

    /// V4
    #[test]
    fn never_quotes_what_was_sent() {
        for text in [
            r#"{"name":"a","inner":"hunter2"}"#,
            r#"{"name":"a","inner":[{"count":"hunter2"}]}"#,
            r#"{"name":"a","inner":[{"count":1,"kind":"hunter2"}]}"#,
            r#"{"name":"a","inner":[{"count":1,"kind":"expected hunter2"}]}"#,
            r#"{"name":"a","inner":[],"id":"hunter2"}"#,
            r#""hunter2""#,
            r#"{"name":"hunter2"#,
        ] {
            let answer = told(text);

            assert!(!answer.contains("hunter2"), "{answer}");
        }
    }
}
