//! From a job's names to everything that its agent must know.

use arkeep_core::job::{
    Assignment, BackupWork, DestinationWork, Fence, ForgetWork, JobError, JobKind, RestoreWork,
    VerifyWork, Work,
};
use arkeep_core::queue::ClaimedJob;
use arkeep_core::repository::{
    Credentials, Location, RcloneCredentials, RelativePath, Repository, RestCredentials,
    S3Credentials, SftpCredentials,
};
use arkeep_core::{
    AgentId, DestinationId, ExposeSecret as _, PolicyId, SecretString, StoreError, Timestamp,
};
use serde::de::DeserializeOwned;

use super::Inner;
use crate::parameters::{RestoreParameters, TestParameters};
use crate::store::address::address;
use crate::store::destinations::Destination;
use crate::store::jobs::{Job, Sent, SentRepository};
use crate::store::policies::{Policy, PolicyDestination};
use crate::store::{Page, sealed};

/// A job that is to be sent, for the first time or again.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) job: arkeep_core::JobId,
    pub(super) agent: AgentId,
    pub(super) kind: JobKind,
    pub(super) policy: Option<PolicyId>,
    pub(super) attempt: u32,
    pub(super) fence: Fence,
    pub(super) deadline: Option<Timestamp>,
    pub(super) parameters: String,
}

impl Outgoing {
    pub(super) fn first(agent: AgentId, claimed: ClaimedJob) -> Self {
        Self {
            job: claimed.id,
            agent,
            kind: claimed.kind,
            policy: claimed.policy,
            attempt: claimed.attempt,
            fence: claimed.fence,
            deadline: claimed.deadline,
            parameters: claimed.parameters,
        }
    }

    pub(super) fn again(job: Job) -> Self {
        Self {
            job: job.id,
            agent: job.agent,
            kind: job.kind,
            policy: job.policy,
            attempt: job.attempt,
            fence: job.fence,
            deadline: job.deadline,
            parameters: job.parameters,
        }
    }
}

/// An assignment, and what its results will be read by.
pub(super) struct Built {
    pub(super) assignment: Assignment,
    pub(super) sent: Sent,
}

/// A job did not become an assignment.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// It never will: the job ends with this.
    #[error("{}", .0.detail)]
    Hopeless(JobError),

    /// It may later.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn hopeless(code: &str, detail: impl Into<String>) -> BuildError {
    BuildError::Hopeless(JobError {
        code: code.to_owned(),
        detail: detail.into(),
    })
}

impl Inner {
    /// Looks up what the job names, and opens the secrets that it takes.
    pub(super) async fn build(&self, job: &Outgoing) -> Result<Built, BuildError> {
        let (work, sent) = match job.kind {
            JobKind::Backup => self.backup(job).await?,
            JobKind::Restore => self.restore(job).await?,
            JobKind::Verify => self.verify(job).await?,
            JobKind::Forget => self.forget(job).await?,
            JobKind::Test => self.test(job).await?,
            JobKind::Drill => return Err(hopeless("unsupported", "drills cannot be run yet")),
        };
        let assignment = Assignment {
            job: job.job,
            attempt: job.attempt,
            fence: job.fence,
            policy: job.policy,
            deadline: job.deadline,
            work,
        };
        Ok(Built { assignment, sent })
    }

    async fn backup(&self, job: &Outgoing) -> Result<(Work, Sent), BuildError> {
        let policy = self.policy_of(job.policy).await?;
        let destinations = self.repositories(&policy).await?;
        let mut sent = sent_to(&policy, &destinations);
        let settings = policy.settings;
        if settings.sources.is_empty() {
            return Err(hopeless(
                "no_sources",
                "the policy names nothing to back up",
            ));
        }
        sent.sources.clone_from(&settings.sources);
        sent.tags.clone_from(&settings.tags);
        let work = BackupWork {
            destinations,
            sources: settings.sources,
            excludes: settings.excludes,
            exclude_larger_than: settings.exclude_larger_than,
            one_file_system: settings.one_file_system,
            tags: settings.tags,
            hooks: settings.hooks,
            limits: settings.limits,
        };
        Ok((Work::Backup(Box::new(work)), sent))
    }

    async fn verify(&self, job: &Outgoing) -> Result<(Work, Sent), BuildError> {
        let policy = self.policy_of(job.policy).await?;
        let destinations = self.repositories(&policy).await?;
        let sent = sent_to(&policy, &destinations);
        let plan = policy.settings.verify.as_ref();
        let work = VerifyWork {
            destinations,
            read_data_percent: plan.map_or(0, |plan| plan.read_data_percent.min(100)),
        };
        Ok((Work::Verify(Box::new(work)), sent))
    }

    async fn forget(&self, job: &Outgoing) -> Result<(Work, Sent), BuildError> {
        let policy = self.policy_of(job.policy).await?;
        let common = &policy.settings.retention;
        let retention = |pair: &PolicyDestination| {
            let own = pair.retention.as_ref();
            own.unwrap_or(common).clone()
        };
        let mut retentions = policy.destinations.iter().map(retention);
        let first = retentions.next().unwrap_or_default();
        if retentions.any(|other| other != first) {
            return Err(hopeless(
                "mixed_retention",
                "the policy's destinations keep different snapshots; give them one retention",
            ));
        }
        if first.keeps_nothing() {
            return Err(hopeless(
                "no_retention",
                "the policy's retention would remove every snapshot",
            ));
        }
        let destinations = self.repositories(&policy).await?;
        let sent = sent_to(&policy, &destinations);
        let work = ForgetWork {
            destinations,
            retention: first,
            plan_only: false,
        };
        Ok((Work::Forget(Box::new(work)), sent))
    }

    async fn restore(&self, job: &Outgoing) -> Result<(Work, Sent), BuildError> {
        let wanted: RestoreParameters = parameters(job)?;
        let snapshot = self
            .parts
            .stores
            .snapshots
            .find(wanted.snapshot_id)
            .await?
            .ok_or_else(|| gone("snapshot", &wanted.snapshot_id))?;
        let policy = self.policy_of(Some(snapshot.policy)).await?;
        let destination = self.destination(snapshot.destination).await?;
        let destination = self.repository(&policy, &destination, snapshot.path)?;
        let sent = sent_there(&destination);
        let work = RestoreWork {
            destination,
            snapshot: snapshot.restic_id,
            target: wanted.target,
            include: wanted.include,
            overwrite: wanted.overwrite,
            limits: policy.settings.limits,
        };
        Ok((Work::Restore(Box::new(work)), sent))
    }

    async fn test(&self, job: &Outgoing) -> Result<(Work, Sent), BuildError> {
        let wanted: TestParameters = parameters(job)?;
        let destination = self.destination(wanted.destination_id).await?;
        let work = match self.policy_at(job.agent, destination.id).await? {
            Some((policy, path)) => self.repository(&policy, &destination, path)?,
            // The agent has no repository there. It says how far it comes without one.
            None => DestinationWork {
                destination: destination.id,
                repository: Repository {
                    credentials: self.credentials(&destination)?,
                    location: destination.location,
                    path: RelativePath::default(),
                    password: self.throwaway_password(),
                },
            },
        };
        let sent = sent_there(&work);
        Ok((Work::Test(Box::new(work)), sent))
    }

    /// A policy of the agent with a repository at the destination. Another agent's would hand out
    /// the password of what that one has there.
    async fn policy_at(
        &self,
        agent: AgentId,
        destination: DestinationId,
    ) -> Result<Option<(Policy, RelativePath)>, StoreError> {
        let mut page = Page::default();
        loop {
            let listed = self.parts.stores.policies.list(Some(agent), &page).await?;
            for policy in listed.items {
                let mut pairs = policy.destinations.iter();
                let pair = pairs.find(|pair| pair.destination_id == destination);
                if let Some(path) = pair.map(|pair| pair.path.clone()) {
                    return Ok(Some((policy, path)));
                }
            }
            match listed.next {
                Some(next) => page = page.after(next),
                None => return Ok(None),
            }
        }
    }

    async fn policy_of(&self, id: Option<PolicyId>) -> Result<Policy, BuildError> {
        let policy = match id {
            Some(id) => self.parts.stores.policies.find(id).await?,
            None => None,
        };
        policy.ok_or_else(|| hopeless("policy_gone", "the policy was removed"))
    }

    async fn destination(&self, id: DestinationId) -> Result<Destination, BuildError> {
        let found = self.parts.stores.destinations.find(id).await?;
        let destination = found.ok_or_else(|| gone("destination", &id))?;
        if destination.enabled {
            Ok(destination)
        } else {
            let name = &destination.name;
            Err(hopeless(
                "destination_disabled",
                format!("the destination \"{name}\" is disabled"),
            ))
        }
    }

    /// The repositories of those destinations that are enabled. One that is left out is one that
    /// [`sent_to`] names, so that nothing is called a success without it.
    async fn repositories(&self, policy: &Policy) -> Result<Vec<DestinationWork>, BuildError> {
        let mut works = Vec::with_capacity(policy.destinations.len());
        let mut left_out = None;
        for pair in &policy.destinations {
            match self.destination(pair.destination_id).await {
                Ok(destination) => {
                    works.push(self.repository(policy, &destination, pair.path.clone())?);
                }
                Err(BuildError::Hopeless(why)) => left_out = Some(why),
                Err(other) => return Err(other),
            }
        }
        if works.is_empty() {
            return Err(match left_out {
                Some(why) => BuildError::Hopeless(why),
                None => hopeless("no_destination", "the policy names no destination"),
            });
        }
        Ok(works)
    }

    fn repository(
        &self,
        policy: &Policy,
        destination: &Destination,
        path: RelativePath,
    ) -> Result<DestinationWork, BuildError> {
        let password = self
            .parts
            .sealer
            .open_bytes(
                &policy.repository_password,
                &sealed::policy_repository_password(policy.id),
            )
            .ok()
            .and_then(|opened| text(opened.expose_secret()))
            .ok_or_else(|| unreadable("the policy's repository password"))?;
        Ok(DestinationWork {
            destination: destination.id,
            repository: Repository {
                location: destination.location.clone(),
                path,
                credentials: self.credentials(destination)?,
                password,
            },
        })
    }

    fn credentials(&self, destination: &Destination) -> Result<Option<Credentials>, BuildError> {
        let Some(stored) = &destination.credentials else {
            return Ok(None);
        };
        let binding = sealed::destination_credentials(destination.id);
        let cannot = || unreadable(&format!("the credentials of \"{}\"", destination.name));
        let opened = self
            .parts
            .sealer
            .open_bytes(stored, &binding)
            .map_err(|_| cannot())?;
        let json = opened.expose_secret();
        let credentials = match destination.location {
            Location::Local(_) => return Ok(None),
            Location::Rest(_) => read::<RestCredentials>(json).map(Credentials::Rest),
            Location::S3(_) => read::<S3Credentials>(json).map(Credentials::S3),
            Location::Sftp(_) => read::<SftpCredentials>(json).map(Credentials::Sftp),
            Location::Rclone(_) => read::<RcloneCredentials>(json).map(Credentials::Rclone),
        };
        credentials.map(Some).ok_or_else(cannot)
    }

    fn throwaway_password(&self) -> SecretString {
        let mut random = [0; 16];
        self.parts.entropy.fill(&mut random);
        SecretString::from(uuid::Uuid::from_bytes(random).simple().to_string())
    }
}

/// Every repository of the policy, with the addresses of those that are sent.
fn sent_to(policy: &Policy, works: &[DestinationWork]) -> Sent {
    let repository = |pair: &PolicyDestination| SentRepository {
        destination_id: pair.destination_id,
        path: pair.path.clone(),
        address: works
            .iter()
            .find(|work| work.destination == pair.destination_id)
            .map(|work| address(&work.repository.location, &pair.path)),
    };
    Sent {
        repositories: policy.destinations.iter().map(repository).collect(),
        ..Sent::default()
    }
}

fn sent_there(work: &DestinationWork) -> Sent {
    let Repository { location, path, .. } = &work.repository;
    let repository = SentRepository {
        destination_id: work.destination,
        path: path.clone(),
        address: Some(address(location, path)),
    };
    Sent {
        repositories: vec![repository],
        ..Sent::default()
    }
}

fn parameters<T: DeserializeOwned>(job: &Outgoing) -> Result<T, BuildError> {
    serde_json::from_str(&job.parameters)
        .map_err(|_| hopeless("unreadable", "what the job is to do cannot be read"))
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    // The error is dropped: it would quote what it could not read.
    serde_json::from_slice(json).ok()
}

fn text(bytes: &[u8]) -> Option<SecretString> {
    str::from_utf8(bytes).ok().map(SecretString::from)
}

fn gone(what: &str, id: &dyn std::fmt::Display) -> BuildError {
    hopeless(
        &format!("{what}_gone"),
        format!("the {what} {id} was removed"),
    )
}

fn unreadable(what: &str) -> BuildError {
    hopeless(
        "secret_unreadable",
        format!("{what} cannot be opened with the server's keys; set it again"),
    )
}
