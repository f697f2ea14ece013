use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arkeep_core::JobId;
use arkeep_core::job::Progress;
use tokio::sync::Notify;

/// How far each running job has come. The latest is all that is kept.
#[derive(Debug, Default)]
pub struct ProgressBoard {
    latest: Mutex<BTreeMap<JobId, Progress>>,
    changed: Notify,
}

impl ProgressBoard {
    pub(super) fn set(&self, job: JobId, progress: Progress) {
        self.lock().insert(job, progress);
        self.changed.notify_one();
    }

    pub(super) fn clear(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Takes what changed since the last call.
    #[must_use]
    pub fn take(&self) -> BTreeMap<JobId, Progress> {
        std::mem::take(&mut *self.lock())
    }

    /// Resolves when there is something to take.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Progress>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
