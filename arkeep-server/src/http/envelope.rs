//! What is done to every request and every answer.
//!
//! A request gets an id, an address that we believe, and a limit of time. An answer gets the
//! headers that keep browsers out of trouble, and if it is a [`Problem`] it becomes a document here
//! and nowhere else. A handler that panics costs one request, not the server.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arkeep_core::id::uuid_v7;
use arkeep_core::{Clock, Entropy};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::address::{ClientAddress, Peer};
use super::metrics::Metrics;
use super::problem::{Code, Problem};
use crate::config::Cidr;

/// What the outermost layer needs to know.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) metrics: Arc<Metrics>,
    /// Networks whose forwarded addresses are believed.
    pub(crate) trusted_proxies: Vec<Cidr>,
    /// Whether browsers see HTTPS.
    pub(crate) https: bool,
}

/// Under which the log knows a request.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

pub(super) async fn envelope(
    State(edge): State<Arc<Edge>>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let id: Arc<str> = uuid_v7(edge.clock.now(), edge.entropy.as_ref())
        .to_string()
        .into();
    let method = request.method().clone();
    // The pattern, not the address: addresses are chosen by strangers.
    let route = match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned(),
        None => UNKNOWN_ROUTE.to_owned(),
    };
    let span = tracing::info_span!("request", %id, %method, %route);

    let answered = match request.extensions().get::<Peer>() {
        None => Err(Problem::new(Code::Internal, "nobody is at the other end")),
        Some(Peer(peer)) => {
            let client = ClientAddress::judge(peer.ip(), request.headers(), &edge.trusted_proxies);
            request.extensions_mut().insert(client);
            request.extensions_mut().insert(RequestId(Arc::clone(&id)));
            run(request, next).instrument(span.clone()).await
        }
    };

    let mut response = span.in_scope(|| match answered {
        Ok(response) => finished(response, &id),
        Err(problem) => written(&problem, &id),
    });
    dress(response.headers_mut(), &id, edge.https);
    edge.metrics
        .http(&method, &route, response.status(), began.elapsed());
    response
}

// A client that hangs up takes its question along, and never half of a change: what has begun to
// change something goes on without anybody who waits for it.
async fn run(request: Request, next: Next) -> Result<Response, Problem> {
    let answer = if request.method().is_safe() {
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
        answer.map(Result::ok).boxed()
    } else {
        let answer = tokio::spawn(next.run(request).in_current_span());
        answer.map(Result::ok).boxed()
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Some(response)) => Ok(response),
        Ok(None) => Err(Problem::new(
            Code::Internal,
            "a fault of this server; the log knows more",
        )),
        Err(_) => Err(Problem::new(
            Code::Unavailable,
            "it took too long; try again",
        )),
    }
}

// Refusals of the framework itself have no document yet.
fn finished(mut response: Response, id: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None if response.headers().contains_key(OWN_DOCUMENT) => {
            response.headers_mut().remove(OWN_DOCUMENT);
            return response;
        }
        None => foreign(status),
    };
    let mut document = written(&problem, id);
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            document.headers_mut().append(name, value.clone());
        }
    }
    document
}

/// What a refusal of the framework is called.
pub(super) fn foreign(status: StatusCode) -> Problem {
    match status {
        StatusCode::NOT_FOUND => Problem::not_found(),
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(Code::MethodNotAllowed, "this address does not do that")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::PayloadTooLarge, "the body is too large")
        }
        status if status.is_client_error() => {
            Problem::new(Code::BadRequest, "the request cannot be read")
        }
        _ => Problem::new(Code::Internal, "a fault of this server; the log knows more"),
    }
}

fn written(problem: &Problem, id: &str) -> Response {
    let cause = problem.cause().unwrap_or_default();
    match problem.code() {
        Code::Internal => tracing::error!(code = ?problem.code(), cause, "request failed"),
        Code::Unavailable | Code::GatewayTimeout => {
            tracing::warn!(code = ?problem.code(), cause, "request failed");
        }
        code => tracing::debug!(?code, cause, "request refused"),
    }
    problem.document(id)
}

fn dress(headers: &mut HeaderMap, id: &str, https: bool) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if https {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Marks an answer of status 400 or more that is no problem document, such as an unhealthy state.
/// Never leaves the server.
pub(super) const OWN_DOCUMENT: HeaderName = HeaderName::from_static("x-arkeep-own-document");

/// What an address without a route counts as.
pub(super) const UNKNOWN_ROUTE: &str = "unknown";

/// How long an answer may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);

const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use arkeep_core::{SystemClock, SystemEntropy};
    use axum::Router;
    use axum::body::Body;
    use axum::http::Method;
    use axum::middleware;
    use axum::routing::{get, post};
    use tokio::sync::{Notify, oneshot};
    use tower::Service as _;

    use super::*;

    /// Says that it has begun, waits, and says that it is through.
    struct Work {
        begun: Notify,
        go_on: Notify,
        through: std::sync::Mutex<Option<oneshot::Sender<()>>>,
    }

    impl Work {
        async fn work(&self) {
            let through = self.through.lock().unwrap().take();
            self.begun.notify_one();
            self.go_on.notified().await;
            if let Some(through) = through {
                let _ = through.send(());
            }
        }
    }

    /// Whether work that was begun comes through when the client hangs up.
    async fn comes_through(method: Method) -> bool {
        let (sender, through) = oneshot::channel();
        let work = Arc::new(Work {
            begun: Notify::new(),
            go_on: Notify::new(),
            through: std::sync::Mutex::new(Some(sender)),
        });
        let handler = {
            let work = Arc::clone(&work);
            move || async move { work.work().await }
        };
        let edge = Arc::new(Edge {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            metrics: Arc::new(Metrics::new()),
            trusted_proxies: Vec::new(),
            https: false,
        });
        let mut router = Router::new()
            .route("/", post(handler.clone()))
            .route("/", get(handler))
            .layer(middleware::from_fn_with_state(edge, envelope));
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        let peer = Peer(SocketAddr::from(([127, 0, 0, 1], 1)));
        request.extensions_mut().insert(peer);

        let client = tokio::spawn(async move { router.call(request).await });
        work.begun.notified().await;
        client.abort();
        let _ = client.await;
        work.go_on.notify_one();
        through.await.is_ok()
    }

    /// A3, T5
    #[tokio::test]
    async fn a_change_comes_through_when_its_client_hangs_up() {
        assert!(comes_through(Method::POST).await);
        assert!(!comes_through(Method::GET).await);
    }
}
