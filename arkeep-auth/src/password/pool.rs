use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::PasswordError;
use super::memory::Memory;

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

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

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
        F: FnOnce(&mut Memory) -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |memory: &mut Memory| {
            if !answer.is_closed() {
                answer.send(hash(memory)).ok();
            }
        });
        self.jobs.try_send(job).map_err(|_| PasswordError::Busy)?;
        answered.await.map_err(|_| PasswordError::Hashing)
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    // On Linux niceness belongs to the thread. Where it is refused, hashing is merely less polite.
    rustix::process::nice(LOW_PRIORITY).ok();
    let mut memory = Memory::default();
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(job) = next else { return };
        // A thread that dies would take a place of the pool with it.
        panic::catch_unwind(AssertUnwindSafe(|| job(&mut memory))).ok();
    }
}

const LOW_PRIORITY: i32 = 10;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

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
                pool.run(move |_| {
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
        assert!(pool.jobs.try_send(Box::new(|_| {})).is_ok());

        assert_eq!(pool.run(|_| 8).await, Err(PasswordError::Busy));

        release.send(())?;
        Ok(())
    }

    /// A8
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_more_hashes_run_at_once_than_there_are_threads() -> TestResult {
        const THREADS: usize = 3;
        let pool = HashPool::start(THREADS, 200)?;
        let at_work = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let all_busy = Arc::new(Barrier::new(THREADS));

        let mut hashes = JoinSet::new();
        for number in 0..THREADS * 60 {
            let (pool, at_work, most) = (pool.clone(), Arc::clone(&at_work), Arc::clone(&most));
            let all_busy = Arc::clone(&all_busy);
            hashes.spawn(async move {
                pool.run(move |_| {
                    let now = at_work.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    all_busy.wait();
                    at_work.fetch_sub(1, Ordering::SeqCst);
                    number
                })
                .await
            });
        }
        for hashed in hashes.join_all().await {
            hashed?;
        }

        assert_eq!(most.load(Ordering::SeqCst), THREADS);
        assert!(HashPool::default_threads() >= 1);
        Ok(())
    }

    /// A8
    #[test]
    #[cfg(target_os = "linux")]
    fn hashes_run_at_low_priority() -> TestResult {
        let pool = HashPool::start(1, 1)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;

        // Field 19 of proc_pid_stat(5); the name before it holds no blanks.
        let stat =
            runtime.block_on(pool.run(|_| std::fs::read_to_string("/proc/thread-self/stat")))??;
        let nice = stat
            .split(' ')
            .nth(18)
            .ok_or("a nineteenth field")?
            .parse::<i32>()?;

        assert!(nice >= LOW_PRIORITY, "{nice}");
        Ok(())
    }

    /// A8
    #[tokio::test]
    async fn a_panic_costs_no_thread() -> TestResult {
        let pool = HashPool::start(1, 4)?;

        let failed = pool.run(|_| panic::<()>("as a test does")).await;

        assert_eq!(failed, Err(PasswordError::Hashing));
        assert_eq!(pool.run(|_| 7).await, Ok(7));
        Ok(())
    }

    fn panic<T>(why: &str) -> T {
        std::panic::resume_unwind(Box::new(why.to_owned()))
    }
}
