use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::enrollment::Standing;
use crate::identity::AgentIdentity;
use crate::status::Refusal;

use super::Shared;
use super::connection::{Connection, Who};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Whoever showed no certificate.
    Stranger,
    /// An agent whose certificate is current.
    Agent,
    /// An agent, also one whose certificate has expired.
    AgentOrLapsed,
}

/// Every call that there is. What is not in this table is refused.
const AUTHORITY: &[(&str, Caller)] = &[
    ("/arkeep.agent.v1.Enrollment/Enroll", Caller::Stranger),
    ("/arkeep.agent.v1.Enrollment/Renew", Caller::AgentOrLapsed),
    ("/arkeep.agent.v1.AgentLink/Session", Caller::Agent),
];

/// A caller whom the judge has let pass. Handlers take nothing else for an identity.
#[derive(Debug, Clone)]
pub(super) struct Admitted {
    pub(super) identity: AgentIdentity,
    pub(super) connection: Arc<Connection>,
}

impl Shared {
    async fn judge_call(
        &self,
        path: &str,
        connection: &Arc<Connection>,
    ) -> Result<Option<Admitted>, Refusal> {
        let (_, caller) = AUTHORITY
            .iter()
            .find(|(known, _)| *known == path)
            .ok_or(Refusal::Unwelcome)?;
        match (caller, connection.who()) {
            (Caller::Stranger, Who::Stranger) => Ok(None),
            (Caller::Agent | Caller::AgentOrLapsed, Who::Agent(identity)) => {
                if *caller == Caller::Agent {
                    self.judge_date(identity)?;
                }
                self.judge_standing(connection, identity).await?;
                Ok(Some(Admitted {
                    identity: identity.clone(),
                    connection: Arc::clone(connection),
                }))
            }
            (Caller::Stranger, Who::Agent(_))
            | (Caller::Agent | Caller::AgentOrLapsed, Who::Stranger) => Err(Refusal::Unwelcome),
        }
    }

    /// Whether the certificate has not expired.
    pub(super) fn judge_date(&self, identity: &AgentIdentity) -> Result<(), Refusal> {
        if self.parts.clock.now() <= identity.not_after() {
            Ok(())
        } else {
            Err(Refusal::Unwelcome)
        }
    }

    /// Whether the agent is welcome, by what this process knows and by the store.
    pub(super) async fn judge_standing(
        &self,
        connection: &Connection,
        identity: &AgentIdentity,
    ) -> Result<(), Refusal> {
        if connection.ending().reason().is_some() || self.registry.is_unwelcome(identity) {
            return Err(Refusal::Unwelcome);
        }
        let standing = self
            .parts
            .store
            .standing(identity.agent(), identity.serial());
        match standing.await {
            Ok(Standing::Good) => Ok(()),
            Ok(Standing::Refused) => {
                self.registry.refuse(identity);
                Err(Refusal::Unwelcome)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, agent = %identity.agent(), "the standing cannot be asked");
                Err(Refusal::Unavailable)
            }
        }
    }
}

/// Judges each call before anything else of it is looked at.
#[derive(Clone)]
pub(super) struct JudgeLayer(Arc<Shared>);

impl JudgeLayer {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl<S> Layer<S> for JudgeLayer {
    type Service = Judge<S>;

    fn layer(&self, inner: S) -> Judge<S> {
        Judge {
            inner,
            shared: Arc::clone(&self.0),
        }
    }
}

#[derive(Clone)]
pub(super) struct Judge<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for Judge<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let waiting = self.inner.clone();
        // The one that `poll_ready` has found ready.
        let mut inner = std::mem::replace(&mut self.inner, waiting);
        Box::pin(async move {
            let verdict = match request.extensions().get::<Arc<Connection>>() {
                Some(connection) => {
                    let connection = Arc::clone(connection);
                    shared.judge_call(request.uri().path(), &connection).await
                }
                None => Err(Refusal::Unwelcome),
            };
            match verdict {
                Ok(admitted) => {
                    request.extensions_mut().remove::<Admitted>();
                    if let Some(admitted) = admitted {
                        request.extensions_mut().insert(admitted);
                    }
                    inner.call(request).await
                }
                Err(refusal) => Ok(Status::from(refusal).into_http()),
            }
        })
    }
}

impl<S> fmt::Debug for Judge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}
