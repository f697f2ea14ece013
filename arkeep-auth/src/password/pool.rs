use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::PasswordError;

/// A few threads at low priority, and a short queue before them.
///
/// A hash that began is finished, also when nobody waits for it any more: a client that hangs up
/// frees no place for the next one. What had not begun is dropped.
///
/// The threads end with the last clone of the pool.
#[derive(Debug, Clone)]
pub struct HashPool {
    jobs: SyncSender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl HashPool {
    /// Starts `threads` threads, at least one, with room for `queue` hashes to wait.
    pub fn start(threads: usize, queue: usize) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::sync_channel::<Job>(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads.max(1) {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new()
                .name("password-hash".to_owned())
                .spawn(move || work(&waiting))?;
        }
        Ok(Self { jobs })
    }

    /// One thread less than there are cores, and at least one.
    #[must_use]
    pub fn default_threads() -> usize {
        thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
    }

    /// Runs `hash` on one of the threads.
    pub(super) async fn run<T, F>(&self, hash: F) -> Result<T, PasswordError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            if !answer.is_closed() {
                answer.send(hash()).ok();
            }
        });
        self.jobs.try_send(job).map_err(|_| PasswordError::Busy)?;
        answered.await.map_err(|_| PasswordError::Hashing)
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    // On Linux niceness belongs to the thread. Where it is refused, hashing is merely less polite.
    rustix::process::nice(LOW_PRIORITY).ok();
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(job) = next else { return };
        // A thread that dies would take a place of the pool with it.
        panic::catch_unwind(AssertUnwindSafe(job)).ok();
    }
}

const LOW_PRIORITY: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    /// A8
    #[tokio::test]
    async fn a_full_queue_is_said_at_once_and_a_begun_hash_keeps_its_place() -> TestResult {
        let pool = HashPool::start(1, 1)?;
        let (begun, has_begun) = std::sync::mpsc::channel::<()>();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let running = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move || {
                    begun.send(()).ok();
                    released.recv().ok();
                })
                .await
            }
        });
        tokio::task::spawn_blocking(move || has_begun.recv()).await??;
        // The client hangs up. Its hash goes on, one more may wait, and there is no room for a third.
        running.abort();
        assert!(running.await.is_err_and(|end| end.is_cancelled()));
        assert!(pool.jobs.try_send(Box::new(|| {})).is_ok());

        assert_eq!(pool.run(|| 8).await, Err(PasswordError::Busy));

        release.send(())?;
        Ok(())
    }

    /// A8
    #[tokio::test]
    async fn a_panic_costs_no_thread() -> TestResult {
        let pool = HashPool::start(1, 4)?;

        let failed = pool.run(|| panic::<()>("as a test does")).await;

        assert_eq!(failed, Err(PasswordError::Hashing));
        assert_eq!(pool.run(|| 7).await, Ok(7));
        Ok(())
    }

    fn panic<T>(why: &str) -> T {
        std::panic::resume_unwind(Box::new(why.to_owned()))
    }
}
