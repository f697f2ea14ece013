//! What a job had to say: all at once, or as it is said.

use std::convert::Infallible;
use std::time::Duration;

use arkeep_core::JobId;
use arkeep_core::Timestamp;
use arkeep_core::job::{LogLevel, LogSource};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use serde::Serialize;

use super::super::params::{Id, Params};
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use crate::store::logs::StoredLine;

#[derive(Serialize)]
struct LineBody {
    seq: u64,
    attempt: u32,
    at: Timestamp,
    level: LogLevel,
    source: LogSource,
    text: String,
}

impl From<StoredLine> for LineBody {
    fn from(line: StoredLine) -> Self {
        Self {
            seq: line.seq,
            attempt: line.attempt,
            at: line.at,
            level: line.level,
            source: line.source,
            text: line.text,
        }
    }
}

#[derive(Serialize)]
struct LogBody {
    items: Vec<LineBody>,
    /// Where to go on, with `?after=`; null at the end of what there is.
    next_cursor: Option<String>,
}

pub(super) async fn show(
    State(api): State<Api>,
    Id(job): Id<JobId>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after: u64 = params.take("after")?.unwrap_or(0);
    let limit: u32 = params.take("limit")?.unwrap_or(MAX_LINES);
    params.finish()?;
    if !(1..=MAX_LINES).contains(&limit) {
        let problem = Problem::new(Code::BadRequest, "the query cannot be read");
        return Err(problem.at("limit", "must be 1 to 1000"));
    }
    if api.stores.jobs.find(job).await?.is_none() {
        return Err(Problem::not_found());
    }
    if wants_events(&headers) {
        // A browser that was cut off says where.
        let resumed = headers
            .get("last-event-id")
            .and_then(|id| id.to_str().ok()?.parse().ok());
        let follower = Follower {
            api,
            headers,
            job,
            after: resumed.unwrap_or(after),
        };
        return Ok(Sse::new(follower.events())
            .keep_alive(KeepAlive::default())
            .into_response());
    }
    let lines = api.stores.logs.read(job, after, limit).await?;
    let full = lines.len() >= limit as usize;
    let next_cursor = lines
        .last()
        .filter(|_| full)
        .map(|line| line.seq.to_string());
    let items = lines.into_iter().map(LineBody::from).collect();
    Ok(axum::Json(LogBody { items, next_cursor }).into_response())
}

fn wants_events(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|kind| kind.trim().starts_with("text/event-stream"))
        })
    })
}

struct Follower {
    api: Api,
    /// Who asked.
    headers: HeaderMap,
    job: JobId,
    after: u64,
}

impl Follower {
    /// Every line after `after`, and then `end`: when the job has ended, or the server stops.
    ///
    /// Without `end` it ends when whoever asked may read no more: the token has expired, or was
    /// revoked. With a new one the client goes on from the last id that it saw.
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        let batches = stream::unfold(Some(self), |follower| async {
            let mut follower = follower?;
            match follower.next().await {
                Ok(Some(lines)) => Some((lines, Some(follower))),
                // The client comes back with the last id that it saw.
                Ok(None) => Some((vec![Event::default().event("end").data("{}")], None)),
                Err(problem) if problem.code() == Code::Unauthorized => None,
                Err(problem) => {
                    tracing::warn!(code = ?problem.code(), "a log cannot be followed any more");
                    None
                }
            }
        });
        batches.flat_map(|events| stream::iter(events.into_iter().map(Ok)))
    }

    async fn next(&mut self) -> Result<Option<Vec<Event>>, Problem> {
        loop {
            // A stream outlives neither the token that opened it nor its revocation.
            self.api.identify(&self.headers).await?;
            // Asked before the lines are read: what an ended job had to say is there by then.
            let ended = match self.api.stores.jobs.find(self.job).await? {
                Some(job) => job.state.is_terminal(),
                None => return Ok(None),
            };
            let lines = self
                .api
                .stores
                .logs
                .read(self.job, self.after, MAX_LINES)
                .await?;
            if let Some(last) = lines.last() {
                self.after = last.seq;
                return Ok(Some(lines.into_iter().filter_map(event).collect()));
            }
            if ended {
                return Ok(None);
            }
            tokio::select! {
                () = self.api.stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

fn event(line: StoredLine) -> Option<Event> {
    let id = line.seq.to_string();
    let event = Event::default()
        .event("line")
        .id(id)
        .json_data(LineBody::from(line));
    event.ok()
}

/// Lines in one answer.
const MAX_LINES: u32 = 1_000;

/// How long to wait before looking again. Lines may be stored by another replica.
const PAUSE: Duration = Duration::from_millis(300);
