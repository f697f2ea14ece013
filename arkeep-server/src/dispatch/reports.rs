//! What agents say of their jobs, judged and stored.

use arkeep_core::job::{DestinationResult, JobKind, JobReport, Outcome, ReportBody};
use arkeep_core::queue::Applied;
use arkeep_core::{AgentId, PolicyId, SnapshotId, StoreError};
use arkeep_transport::gateway::GatewayError;
use arkeep_transport::session::{Cancel, HeldJob};

use super::verdict::{self, Claim};
use super::{Change, Inner};
use crate::store::jobs::Job;
use crate::store::snapshots::Snapshot;

impl Inner {
    /// Stores what the agent says of a job of its own. When this returns, the agent may forget it.
    pub(super) async fn take_in(
        &self,
        agent: AgentId,
        report: JobReport,
    ) -> Result<(), GatewayError> {
        let stores = &self.parts.stores;
        let found = stores.jobs.find(report.job).await?;
        let job = found
            .filter(|job| job.agent == agent)
            .ok_or(GatewayError::NotFound)?;
        let mut report = judged(&job, report);
        bounded(&job, &mut report);
        // Before the job moves: whatever is repeated after a crash in between is recorded once.
        self.list_snapshots(&job, &report).await?;
        let now = self.parts.clock.now();
        let applied = stores.queue.apply(agent, &report, now).await?;
        let held = HeldJob::from(&report);
        match applied {
            Applied::Unknown => return Err(GatewayError::NotFound),
            Applied::Moved(state) if state.is_terminal() => {
                tracing::info!(job = %job.id, %state, "a job has ended");
                self.roster.forget(job.id);
                self.roster.wake(agent);
            }
            Applied::Moved(_) => {
                self.roster.holds(agent, held);
            }
            Applied::Late(None) => self.stop_late(agent, held),
            Applied::Late(Some(outcome)) => {
                tracing::warn!(job = %job.id, ?outcome, "a result came after the job had ended");
                self.roster.forget(job.id);
            }
            Applied::Duplicate => {}
        }
        self.tell(Change::Job(job.id));
        Ok(())
    }

    /// It began what had been taken back.
    fn stop_late(&self, agent: AgentId, held: HeldJob) {
        if let Some(line) = self.roster.line(agent) {
            let (job, fence) = (held.job, held.fence);
            let _ = line.cancel(Cancel { job, fence });
        }
    }

    async fn list_snapshots(&self, job: &Job, report: &JobReport) -> Result<(), StoreError> {
        let ReportBody::Finished { results, .. } = &report.body else {
            return Ok(());
        };
        if job.kind != JobKind::Backup || results.iter().all(|it| it.snapshot_id.is_none()) {
            return Ok(());
        }
        let stores = &self.parts.stores;
        // Without its policy nothing opens the repository, so there is nothing to list.
        let Some(policy) = job.policy else {
            return Ok(());
        };
        let Some(agent) = stores.agents.find(job.agent).await? else {
            return Ok(());
        };
        let mut hostname = agent.facts.hostname.unwrap_or(agent.name);
        // An agent chooses its name. PostgreSQL would refuse a NUL, and the report with it.
        hostname.retain(|character| !character.is_control());
        for result in results {
            let Some(snapshot) = self.snapshot(job, policy, &hostname, result) else {
                continue;
            };
            if stores.snapshots.record(&snapshot).await?.is_none() {
                let (job, id) = (job.id, &snapshot.restic_id);
                tracing::warn!(%job, snapshot = %id, "a snapshot is not listed: its policy or destination is gone");
            }
        }
        Ok(())
    }

    /// The snapshot of a result, if the job was sent to its destination.
    fn snapshot(
        &self,
        job: &Job,
        policy: PolicyId,
        hostname: &str,
        result: &DestinationResult,
    ) -> Option<Snapshot> {
        let destination = result.destination_id;
        // What the holder was sent to do. The policy may say something else by now.
        let sent = job.sent.as_ref()?;
        let mut repositories = sent.repositories.iter();
        let repository = repositories.find(|it| it.destination_id == destination)?;
        let mut tags = vec![format!("policy:{policy}"), format!("job:{}", job.id)];
        tags.extend(sent.tags.iter().cloned());
        let parts = &self.parts;
        Some(Snapshot {
            id: SnapshotId::mint(parts.clock.now(), parts.entropy.as_ref()),
            restic_id: result.snapshot_id.clone()?,
            policy,
            agent: job.agent,
            destination,
            path: repository.path.clone(),
            job: Some(job.id),
            taken_at: result.started_at,
            hostname: hostname.to_owned(),
            paths: sent.sources.iter().map(shown).collect(),
            tags,
            bytes_processed: result.bytes_processed,
            bytes_added: result.bytes_added,
            files: result
                .files_new
                .saturating_add(result.files_changed)
                .saturating_add(result.files_unmodified),
            verified_at: None,
            present: true,
            repository: repository.address.clone(),
        })
    }
}

fn shown(source: &arkeep_core::policy::Source) -> String {
    match source {
        arkeep_core::policy::Source::Path(path) => path.clone(),
        arkeep_core::policy::Source::DockerVolume(name) => format!("docker volume {name}"),
    }
}

/// What of a report is stored: results of the destinations it was sent to, and texts that an agent
/// of ours would not exceed. A page of jobs has two hundred of them.
fn bounded(job: &Job, report: &mut JobReport) {
    let ReportBody::Finished {
        error,
        results,
        hooks,
        ..
    } = &mut report.body
    else {
        return;
    };
    results.retain(|result| job.assigned.contains(&result.destination_id));
    results.truncate(job.assigned.len().saturating_mul(2));
    let errors = results
        .iter_mut()
        .filter_map(|result| result.error.as_mut());
    for error in errors.chain(error.as_mut()) {
        shorten(&mut error.code, MOST_NAME);
        shorten(&mut error.detail, MOST_DETAIL);
    }
    hooks.truncate(MOST_HOOKS);
    for hook in hooks {
        shorten(&mut hook.name, MOST_NAME);
        shorten(&mut hook.output, MOST_OUTPUT);
    }
}

/// Keeps the beginning and the end.
fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        let mark = "\n[…]\n";
        let half = most.saturating_sub(mark.len()) / 2;
        let begin = text.floor_char_boundary(half);
        let end = text.ceil_char_boundary(text.len().saturating_sub(half));
        text.replace_range(begin..end, mark);
    }
}

/// What the runner keeps of a hook's output, and room for the mark between its two halves.
const MOST_OUTPUT: usize = 65 * 1_024;
/// More than a policy's three phases have.
const MOST_HOOKS: usize = 64;
const MOST_DETAIL: usize = 8 * 1_024;
const MOST_NAME: usize = 256;

/// The report with what the server derives in place of what the agent claims.
fn judged(job: &Job, report: JobReport) -> JobReport {
    let ReportBody::Finished {
        outcome,
        error,
        results,
        hooks,
    } = report.body
    else {
        return report;
    };
    let claim = Claim {
        outcome,
        results: &results,
        hooks: &hooks,
    };
    let derived = verdict::judge(job.kind, &job.assigned, &claim);
    let error = match derived {
        Outcome::Succeeded => None,
        _ if error.is_some() || derived == outcome => error,
        _ => Some(verdict::objection(job.kind, &job.assigned, &claim)),
    };
    JobReport {
        body: ReportBody::Finished {
            outcome: derived,
            error,
            results,
            hooks,
        },
        ..report
    }
}
