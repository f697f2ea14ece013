//! One value, from a thread to a future.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The two ends of a fresh channel for one value.
pub(super) fn completion<T>() -> (Sender<T>, Receiver<T>) {
    let cell = Arc::new(Mutex::new(Cell {
        value: None,
        closed: false,
        waker: None,
    }));
    (Sender(Arc::clone(&cell)), Receiver(cell))
}

struct Cell<T> {
    value: Option<T>,
    closed: bool,
    waker: Option<Waker>,
}

/// Sends the value; dropped without one, it sends word of that.
pub(super) struct Sender<T>(Arc<Mutex<Cell<T>>>);

impl<T> Sender<T> {
    pub(super) fn send(self, value: T) {
        lock(&self.0).value = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut cell = lock(&self.0);
            cell.closed = true;
            cell.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Receives the value, or nothing when the sender was dropped without one.
pub(super) struct Receiver<T>(Arc<Mutex<Cell<T>>>);

impl<T> Receiver<T> {
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut cell = lock(&self.0);
        if cell.closed {
            return Poll::Ready(cell.value.take());
        }
        cell.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What was sent so far.
    #[cfg(test)]
    pub(super) fn now(&self) -> Option<T> {
        lock(&self.0).value.take()
    }
}

fn lock<T>(cell: &Mutex<Cell<T>>) -> MutexGuard<'_, Cell<T>> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}
