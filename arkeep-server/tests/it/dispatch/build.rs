use arkeep_core::job::{JobKind, JobState, Work};
use arkeep_core::repository::{Credentials, Location, RestLocation};
use arkeep_core::{ExposeSecret as _, JobId, SecretString, SnapshotId, SystemEntropy};
use arkeep_server::parameters::{RestoreParameters, TestParameters};
use arkeep_server::store::SecretChange;
use arkeep_server::store::destinations::{Destination, DestinationEdit, DestinationStore};
use arkeep_server::store::policies::Policy;
use arkeep_server::store::sealed;
use arkeep_server::store::snapshots::{Snapshot, SnapshotStore};
use arkeep_vault::Sealer as _;

use super::{PASSWORD, Server, until};
use crate::store::{NOON, SameBytes};

impl Server {
    /// Enqueues a test of the first destination of `at`, for the agent of `by`.
    pub(super) async fn enqueue_test(&self, by: &Policy, at: &Policy) -> JobId {
        let parameters = TestParameters {
            destination_id: at.destinations[0].destination_id,
        };
        let parameters = serde_json::to_string(&parameters).expect("parameters are JSON");
        self.enqueue_as(JobKind::Test, by.agent, None, &parameters)
            .await
    }

    async fn edit(&self, policy: &Policy, change: impl FnOnce(&mut DestinationEdit)) {
        let id = policy.destinations[0].destination_id;
        let found: Destination = DestinationStore::find(&self.sandbox.store, id)
            .await
            .expect("the store answers")
            .expect("a destination that was made");
        let mut edit = DestinationEdit {
            id,
            version: found.version,
            name: found.name,
            location: found.location,
            credentials: SecretChange::Keep,
            enabled: found.enabled,
            at: NOON,
        };
        change(&mut edit);
        DestinationStore::update(&self.sandbox.store, &edit, &SameBytes)
            .await
            .expect("an edit that fits");
    }

    async fn snapshot(&self, policy: &Policy) -> SnapshotId {
        let snapshot = Snapshot {
            id: SnapshotId::mint(NOON, &SystemEntropy),
            restic_id: "0123abcd".parse().expect("eight digits"),
            policy: policy.id,
            agent: policy.agent,
            destination: policy.destinations[0].destination_id,
            path: policy.destinations[0].path.clone(),
            job: None,
            taken_at: NOON,
            hostname: "db1".to_owned(),
            paths: vec!["/etc".to_owned()],
            tags: Vec::new(),
            bytes_processed: 1,
            bytes_added: 1,
            files: 1,
            verified_at: None,
            present: true,
            repository: None,
        };
        self.sandbox
            .store
            .record(&snapshot)
            .await
            .expect("the store answers")
            .expect("a new snapshot")
    }

    /// The job ends without its agent, for this reason.
    async fn ends_with(&self, job: JobId, code: &str) {
        until(async || self.job(job).await.state == JobState::Failed).await;
        let error = self.job(job).await.error.expect("a reason");
        assert_eq!(error.code, code, "{error:?}");
    }
}

/// V4
#[tokio::test]
async fn credentials_are_opened_for_the_agent_alone() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let id = policy.destinations[0].destination_id;
    let json = SecretString::from(r#"{"username":"u","password":"canary-7f3a"}"#);
    let place = sealed::destination_credentials(id);
    let blob = server.sealer.seal_str(&json, &place).expect("it is sealed");
    server
        .edit(&policy, |edit| {
            edit.location = Location::Rest(RestLocation {
                url: "http://127.0.0.1:1/".to_owned(),
            });
            edit.credentials = SecretChange::Set(blob.into_bytes());
        })
        .await;

    let (_, assignment) = server.received(&policy).await;

    let Work::Backup(work) = &assignment.work else {
        panic!("expected a backup");
    };
    let Some(Credentials::Rest(rest)) = &work.destinations[0].repository.credentials else {
        panic!("expected credentials");
    };
    assert_eq!(rest.username, "u");
    assert_eq!(rest.password.expose_secret(), "canary-7f3a");
    assert!(!format!("{assignment:?}").contains("canary-7f3a"));
    for suffix in ["", "-wal"] {
        let file = format!("{}{suffix}", server.sandbox.path().display());
        let bytes = std::fs::read(file).expect("a file");
        for secret in ["canary-7f3a", PASSWORD] {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} in the database{suffix}");
        }
    }
}

/// V2
#[tokio::test]
async fn credentials_of_another_row_do_not_open() {
    let server = Server::new().await;
    let (policy, other) = (server.policy(1).await, server.policy(1).await);
    let json = SecretString::from(r#"{"username":"u","password":"p"}"#);
    let place = sealed::destination_credentials(other.destinations[0].destination_id);
    let blob = server.sealer.seal_str(&json, &place).expect("it is sealed");
    server
        .edit(&policy, |edit| {
            edit.credentials = SecretChange::Set(blob.into_bytes());
        })
        .await;
    let job = server.enqueue(&policy).await;

    let mut agent = server.connect(policy.agent, &[]).await;

    server.ends_with(job, "secret_unreadable").await;
    assert!(agent.heard_nothing_more());
}

/// S4
#[tokio::test]
async fn a_backup_to_a_disabled_destination_ends_with_the_reason() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    server.edit(&policy, |edit| edit.enabled = false).await;
    let job = server.enqueue(&policy).await;

    server.connect(policy.agent, &[]).await;

    server.ends_with(job, "destination_disabled").await;
}

/// S4
#[tokio::test]
async fn a_disabled_destination_is_left_out_and_still_asked_for() {
    let server = Server::new().await;
    let policy = server.policy(2).await;
    server.edit(&policy, |edit| edit.enabled = false).await;

    let (_, assignment) = server.received(&policy).await;

    let Work::Backup(work) = assignment.work else {
        panic!("expected a backup");
    };
    assert_eq!(work.destinations.len(), 1);
    assert_eq!(server.job(assignment.job).await.assigned.len(), 2);
}

/// S4
#[tokio::test]
async fn a_backup_to_nowhere_ends_with_the_reason() {
    let server = Server::new().await;
    let policy = server.policy(0).await;
    let job = server.enqueue(&policy).await;

    server.connect(policy.agent, &[]).await;

    server.ends_with(job, "no_destination").await;
}

#[tokio::test]
async fn a_restore_names_the_snapshot_in_its_repository() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let parameters = RestoreParameters {
        snapshot_id: server.snapshot(&policy).await,
        target: "/var/restore".to_owned(),
        include: vec!["/etc/hosts".to_owned()],
        overwrite: true,
    };
    let parameters = serde_json::to_string(&parameters).expect("parameters are JSON");
    let elsewhere = server.sandbox.agent().await.id;
    server
        .enqueue_as(JobKind::Restore, elsewhere, Some(policy.id), &parameters)
        .await;

    let assignment = server.connect(elsewhere, &[]).await.assignment().await;

    let Work::Restore(work) = assignment.work else {
        panic!("expected a restore");
    };
    assert_eq!(work.snapshot.as_str(), "0123abcd");
    assert_eq!(work.target, "/var/restore");
    assert_eq!(work.include, ["/etc/hosts"]);
    assert!(work.overwrite);
    let repository = work.destination.repository;
    assert_eq!(repository.password.expose_secret(), PASSWORD);
    assert_eq!(repository.path, policy.destinations[0].path);
}

#[tokio::test]
async fn a_restore_of_what_is_gone_ends_with_the_reason() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let parameters = RestoreParameters {
        snapshot_id: SnapshotId::mint(NOON, &SystemEntropy),
        target: "/var/restore".to_owned(),
        include: Vec::new(),
        overwrite: false,
    };
    let parameters = serde_json::to_string(&parameters).expect("parameters are JSON");
    let job = server
        .enqueue_as(JobKind::Restore, policy.agent, Some(policy.id), &parameters)
        .await;

    server.connect(policy.agent, &[]).await;

    server.ends_with(job, "snapshot_gone").await;
}

#[tokio::test]
async fn a_test_opens_a_repository_that_a_policy_has_there() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    server.enqueue_test(&policy, &policy).await;

    let assignment = server.connect(policy.agent, &[]).await.assignment().await;

    let Work::Test(work) = assignment.work else {
        panic!("expected a test");
    };
    assert_eq!(work.repository.path, policy.destinations[0].path);
    assert_eq!(work.repository.password.expose_secret(), PASSWORD);
}

/// T4
#[tokio::test]
async fn a_test_never_hands_out_what_opens_another_agents_repository() {
    let server = Server::new().await;
    let (mine, other) = (server.policy(1).await, server.policy(1).await);
    server.enqueue_test(&mine, &other).await;

    let assignment = server.connect(mine.agent, &[]).await.assignment().await;

    let Work::Test(work) = assignment.work else {
        panic!("expected a test");
    };
    assert_eq!(work.destination, other.destinations[0].destination_id);
    assert_ne!(work.repository.path, other.destinations[0].path);
    assert_ne!(work.repository.password.expose_secret(), PASSWORD);
}
