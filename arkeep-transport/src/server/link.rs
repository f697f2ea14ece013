use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Request, Response, Status, Streaming};

use crate::proto::agent_link_server::AgentLink;
use crate::proto::{AgentMessage, ServerMessage};
use crate::status::Refusal;

use super::Shared;
use super::ending::Ending;
use super::judge::Admitted;
use super::session::Session;

/// Opens sessions.
#[derive(Debug)]
pub(super) struct LinkService(Arc<Shared>);

impl LinkService {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

#[tonic::async_trait]
impl AgentLink for LinkService {
    type SessionStream = Outgoing;

    async fn session(
        &self,
        mut request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Outgoing>, Status> {
        let admitted = request.extensions_mut().remove::<Admitted>();
        let admitted = admitted.ok_or(Refusal::Unwelcome)?;
        let outgoing = open(&self.0, admitted, request.into_inner());
        Ok(Response::new(outgoing))
    }
}

/// Begins a session with whoever was admitted.
pub(super) fn open(
    shared: &Arc<Shared>,
    admitted: Admitted,
    incoming: Streaming<AgentMessage>,
) -> Outgoing {
    let (outgoing, queue) = mpsc::channel(shared.config.queue.max(1));
    let (welcome, first) = oneshot::channel();
    let ending = Arc::<Ending>::default();
    let session = Session {
        shared: Arc::clone(shared),
        admitted,
        incoming,
        outgoing,
        ending: Arc::clone(&ending),
    };
    shared.sessions.spawn(session.run(welcome));
    Outgoing {
        first: Some(first),
        queue,
        ended: Box::pin(ending.token().cancelled_owned()),
        ending,
        over: false,
    }
}

/// What the server says on one session: the welcome, then the queue, then why it ended.
pub(super) struct Outgoing {
    first: Option<oneshot::Receiver<ServerMessage>>,
    queue: mpsc::Receiver<Box<ServerMessage>>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    ending: Arc<Ending>,
    over: bool,
}

impl Stream for Outgoing {
    type Item = Result<ServerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if this.ended.as_mut().poll(cx).is_ready() {
            this.over = true;
            let refusal = this.ending.reason().map_or(Refusal::Closed, Refusal::from);
            return Poll::Ready(Some(Err(refusal.into())));
        }
        if let Some(first) = &mut this.first {
            // Without a welcome the session ends, and the ending wakes this stream.
            let Poll::Ready(Ok(welcome)) = Pin::new(first).poll(cx) else {
                return Poll::Pending;
            };
            this.first = None;
            return Poll::Ready(Some(Ok(welcome)));
        }
        match this.queue.poll_recv(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(*message))),
            // Without senders the session ends, as above.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.ending.end(super::ending::Reason::Gone);
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}
