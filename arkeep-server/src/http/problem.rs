//! What went wrong, as the caller is told (RFC 9457).

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A refusal or a failure: what the caller is told, and what only the log is told.
///
/// Handlers return it as their error. It becomes a document where the answer leaves the server, in
/// `envelope`, which knows the request's id.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`Problem`], for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request cannot be read.
    BadRequest,
    /// Nobody is logged in, or not any more.
    Unauthorized,
    /// The second factor is missing or wrong.
    MfaRequired,
    /// Whoever is logged in may not do this.
    Forbidden,
    /// The login is too old for this.
    StepUpRequired,
    /// There is nothing under this address.
    NotFound,
    /// There is something, and it does not do this.
    MethodNotAllowed,
    /// It does not fit what is there.
    Conflict,
    /// The thing has changed since it was read.
    PreconditionFailed,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// The request can be read and makes no sense.
    ValidationFailed,
    /// Too many attempts.
    RateLimited,
    /// Something that is needed does not answer now.
    Unavailable,
    /// Somebody who was asked did not answer in time.
    GatewayTimeout,
    /// A fault of this program.
    Internal,
}

/// Which part of a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field, as a path such as `schedule.cron` or `sources[0].path`.
    pub field: String,
    /// What is wrong with it. Never what was sent: that may be a secret in the wrong place.
    pub detail: String,
    /// Where a judge found it, and by which rule.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
}

/// What a judge of a text says beyond one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule that was broken, by its stable name.
    pub rule: &'static str,
    /// The bytes of the field that broke it; nothing when the field as a whole is meant.
    pub span: Option<[usize; 2]>,
    /// What to write instead.
    pub hint: String,
}

impl Problem {
    /// Tells the caller `detail`.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// One field that was read and makes no sense.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Code::ValidationFailed, "the request makes no sense").at(field, detail)
    }

    /// Something that does not exist, or not for this caller.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "there is nothing under this address")
    }

    /// Names a field that was not accepted.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            field: field.into(),
            detail: detail.into(),
            finding: None,
        });
        self
    }

    /// Names fields that were not accepted.
    #[must_use]
    pub(super) fn with(mut self, errors: Vec<FieldError>) -> Self {
        self.errors.extend(errors);
        self
    }

    /// Moves the fields that were named below another one.
    #[must_use]
    pub(super) fn below(mut self, parent: &str) -> Self {
        for error in &mut self.errors {
            error.field = match error.field.as_str() {
                "" => parent.to_owned(),
                item if item.starts_with('[') => format!("{parent}{item}"),
                member => format!("{parent}.{member}"),
            };
        }
        self
    }

    /// Tells the caller when to come back.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// Tells the log why.
    #[must_use]
    pub fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    /// The kind.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What the caller is told.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The fields that were not accepted.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// For the log: the cause and its causes, in one line.
    pub(super) fn cause(&self) -> Option<String> {
        use fmt::Write as _;

        let cause = self.cause.as_deref()?;
        let mut text = cause.to_string();
        let mut deeper = cause.source();
        while let Some(error) = deeper {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {error}");
            deeper = error.source();
        }
        Some(text)
    }

    /// The document, with the id under which the log knows the request.
    pub(super) fn document(&self, request_id: &str) -> Response {
        let status = self.code.status();
        let document = Document {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id,
            errors: &self.errors,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (status, body).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(pause) = self.retry_after.or(self.code.pause()) {
            let seconds = HeaderValue::from(pause.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// Carries the problem to `envelope`, which writes the document.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl Code {
    /// The HTTP status that goes with it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized | Self::MfaRequired => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::StepUpRequired => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ValidationFailed => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    // 429 and 503 always say when to come back.
    const fn pause(self) -> Option<Duration> {
        match self {
            Self::RateLimited => Some(Duration::from_secs(30)),
            Self::Unavailable => Some(Duration::from_secs(2)),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: Code,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

pub(super) const PROBLEM_JSON: &str = "application/problem+json";
