//! A way to stop a hook and still hear how it ended.
//!
//! Dropping the future of [`HookRunner::run`](crate::HookRunner::run) stops the hook too, but
//! nobody is told when the last process is gone. A [`CancelSignal`] asks for the same and lets
//! the future end with a report.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A flag that is raised once and wakes whoever waits for it.
///
/// Clones share the flag.
#[derive(Clone, Default)]
pub struct CancelSignal {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    raised: bool,
    wakers: VecDeque<Waker>,
}

impl CancelSignal {
    /// A signal that nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the signal, for good.
    pub fn cancel(&self) {
        let wakers = {
            let mut shared = self.lock();
            shared.raised = true;
            std::mem::take(&mut shared.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether it was raised.
    pub fn is_cancelled(&self) -> bool {
        self.lock().raised
    }

    /// Waits until it is raised.
    pub async fn cancelled(&self) {
        poll_fn(|cx| self.poll_cancelled(cx)).await;
    }

    /// Like [`cancelled`](Self::cancelled), for a future written by hand.
    pub fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        let mut shared = self.lock();
        if shared.raised {
            return Poll::Ready(());
        }
        if !shared
            .wakers
            .iter()
            .any(|waker| waker.will_wake(cx.waker()))
        {
            // A task that is polled again brings a new waker; the oldest belong to polls long past.
            if shared.wakers.len() >= MAX_WAITERS {
                shared.wakers.pop_front().into_iter().for_each(Waker::wake);
            }
            shared.wakers.push_back(cx.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing panics while the lock is held; a poisoned flag is still a flag.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CancelSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelSignal")
            .field("raised", &self.is_cancelled())
            .finish()
    }
}

const MAX_WAITERS: usize = 64;
