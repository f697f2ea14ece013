use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arkeep_core::repository::Repository;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// One job at a time for each repository, in the order in which they asked.
#[derive(Debug, Default)]
pub(super) struct Repositories {
    turns: Mutex<BTreeMap<String, Weak<Turn<()>>>>,
}

/// The repositories are this job's until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _turns: Vec<OwnedMutexGuard<()>>,
}

impl Repositories {
    /// Waits until all of these repositories are free, and takes them.
    ///
    /// They are taken in one order whatever the order of the job, so that two jobs never wait for
    /// each other.
    pub(super) async fn take(&self, repositories: impl Iterator<Item = &Repository>) -> Held {
        let mut keys: Vec<String> = repositories.map(key).collect();
        keys.sort();
        keys.dedup();
        let mut turns = Vec::with_capacity(keys.len());
        for key in keys {
            turns.push(self.turn(key).lock_owned().await);
        }
        Held { _turns: turns }
    }

    fn turn(&self, key: String) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        match turns.get(&key).and_then(Weak::upgrade) {
            Some(turn) => turn,
            None => {
                let turn = Arc::new(Turn::new(()));
                turns.insert(key, Arc::downgrade(&turn));
                turn
            }
        }
    }
}

/// What makes two repositories the same: their place, not what opens them.
fn key(repository: &Repository) -> String {
    format!("{:?} {}", repository.location, repository.path.as_str())
}

#[cfg(test)]
mod tests {
    use arkeep_core::SecretString;
    use arkeep_core::repository::{LocalLocation, Location};

    use super::*;

    fn repository(path: &str, password: &str) -> Repository {
        Repository {
            location: Location::Local(LocalLocation {
                path: path.to_owned(),
                must_be_mounted: false,
            }),
            path: "p".parse().unwrap(),
            credentials: None,
            password: SecretString::from(password),
        }
    }

    /// G14
    #[tokio::test]
    async fn a_repository_has_one_job_at_a_time() {
        let repositories = Repositories::default();
        let (one, other) = (repository("/a", "x"), repository("/b", "x"));
        let same = repository("/a", "another password");

        let first = repositories.take([&one].into_iter()).await;
        let mut second = Box::pin(repositories.take([&other, &same].into_iter()));

        assert!(futures_pending(&mut second).await);
        drop(first);
        second.await;
    }

    async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
        tokio::select! {
            biased;
            _ = future => false,
            () = tokio::task::yield_now() => true,
        }
    }
}
