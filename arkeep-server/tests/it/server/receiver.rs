//! Whoever is told: an HTTP server that writes down what it is sent, and answers as a test wants.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Fallible;

/// What came in.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Received {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> String {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    }
}

/// A receiver on a port of its own.
#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) url: String,
    seen: watch::Sender<Vec<Received>>,
    answer: Arc<Mutex<Answer>>,
}

/// What it answers.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Status(u16),
    /// To this address.
    Redirect(String),
    /// Nothing, ever.
    Silence,
}

impl Receiver {
    pub(super) async fn start() -> Fallible<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver = Self {
            url: format!("http://{}/hook", listener.local_addr()?),
            seen: watch::Sender::default(),
            answer: Arc::new(Mutex::new(Answer::Status(204))),
        };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(receiver)
    }

    pub(super) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    pub(super) fn seen(&self) -> Vec<Received> {
        self.seen.borrow().clone()
    }

    /// Waits until so many have come in.
    pub(super) async fn until(&self, count: usize) -> Fallible {
        let mut seen = self.seen.subscribe();
        let come = seen.wait_for(|seen| seen.len() >= count);
        tokio::time::timeout(Duration::from_secs(30), come).await??;
        Ok(())
    }

    /// The types of what came in, in order.
    pub(super) fn types(&self) -> Vec<String> {
        let of = |one: Received| {
            one.json()
                .get("type")
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        self.seen().into_iter().filter_map(of).collect()
    }
}

async fn take(
    State(receiver): State<Receiver>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let received = Received {
        path: format!("{method} {uri}"),
        headers,
        body: body.to_vec(),
    };
    receiver.seen.send_modify(|seen| seen.push(received));
    let answer = receiver
        .answer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status)
            .unwrap_or_default()
            .into_response(),
        Answer::Redirect(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
        }
        Answer::Silence => std::future::pending().await,
    }
}
