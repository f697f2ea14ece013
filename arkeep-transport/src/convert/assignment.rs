use arkeep_core::job::{
    Assignment, BackupWork, DestinationWork, ForgetWork, RestoreWork, VerifyWork, Work,
};
use arkeep_core::policy::{Hook, Hooks, Limits, Retention, Source};

use crate::proto;
use crate::proto::assignment::Work as ProtoWork;
use crate::session::HeldJob;

use super::{Invalid, bytes, destination_id, each, moment, policy_id, present};

impl TryFrom<&Assignment> for proto::Assignment {
    type Error = Invalid;

    fn try_from(assignment: &Assignment) -> Result<Self, Invalid> {
        Ok(Self {
            job: Some((&HeldJob::from(assignment)).into()),
            policy_id: assignment.policy.map(|id| bytes(id.as_uuid())),
            deadline: assignment.deadline.map(|at| at.as_unix_millis()),
            work: Some((&assignment.work).try_into()?),
        })
    }
}

impl TryFrom<proto::Assignment> for Assignment {
    type Error = Invalid;

    fn try_from(assignment: proto::Assignment) -> Result<Self, Invalid> {
        let held: HeldJob = present(assignment.job, "job")?.try_into()?;
        Ok(Self {
            job: held.job,
            attempt: held.attempt,
            fence: held.fence,
            policy: assignment
                .policy_id
                .map(|id| policy_id(&id, "policy_id"))
                .transpose()?,
            deadline: assignment
                .deadline
                .map(|at| moment(at, "deadline"))
                .transpose()?,
            work: present(assignment.work, "work")?.try_into()?,
        })
    }
}

impl TryFrom<&Work> for ProtoWork {
    type Error = Invalid;

    fn try_from(work: &Work) -> Result<Self, Invalid> {
        Ok(match work {
            Work::Backup(backup) => Self::Backup(proto::BackupWork {
                destinations: backup.destinations.iter().map(Into::into).collect(),
                sources: backup.sources.iter().map(Into::into).collect(),
                excludes: backup.excludes.clone(),
                exclude_larger_than: backup.exclude_larger_than,
                one_file_system: backup.one_file_system,
                tags: backup.tags.clone(),
                hooks: Some((&backup.hooks).into()),
                limits: Some((&backup.limits).into()),
            }),
            Work::Restore(restore) => Self::Restore(proto::RestoreWork {
                destination: Some((&restore.destination).into()),
                snapshot: restore.snapshot.as_str().to_owned(),
                target: restore.target.clone(),
                include: restore.include.clone(),
                overwrite: restore.overwrite,
                limits: Some((&restore.limits).into()),
            }),
            Work::Verify(verify) => Self::Verify(proto::VerifyWork {
                destinations: verify.destinations.iter().map(Into::into).collect(),
                read_data_percent: verify.read_data_percent.into(),
            }),
            Work::Forget(forget) => Self::Forget(proto::ForgetWork {
                destinations: forget.destinations.iter().map(Into::into).collect(),
                retention: Some((&forget.retention).into()),
                plan_only: forget.plan_only,
            }),
            Work::Test(test) => Self::Test(test.as_ref().into()),
            _ => return Err(Invalid("work")),
        })
    }
}

impl TryFrom<ProtoWork> for Work {
    type Error = Invalid;

    fn try_from(work: ProtoWork) -> Result<Self, Invalid> {
        Ok(match work {
            ProtoWork::Backup(backup) => Self::Backup(Box::new(BackupWork {
                destinations: each(backup.destinations, TryInto::try_into)?,
                sources: each(backup.sources, TryInto::try_into)?,
                excludes: backup.excludes,
                exclude_larger_than: backup.exclude_larger_than,
                one_file_system: backup.one_file_system,
                tags: backup.tags,
                hooks: present(backup.hooks, "hooks")?.into(),
                limits: present(backup.limits, "limits")?.into(),
            })),
            ProtoWork::Restore(restore) => Self::Restore(Box::new(RestoreWork {
                destination: present(restore.destination, "destination")?.try_into()?,
                snapshot: restore.snapshot.parse().map_err(|_| Invalid("snapshot"))?,
                target: restore.target,
                include: restore.include,
                overwrite: restore.overwrite,
                limits: present(restore.limits, "limits")?.into(),
            })),
            ProtoWork::Verify(verify) => Self::Verify(Box::new(VerifyWork {
                destinations: each(verify.destinations, TryInto::try_into)?,
                read_data_percent: u8::try_from(verify.read_data_percent)
                    .ok()
                    .filter(|percent| *percent <= 100)
                    .ok_or(Invalid("read_data_percent"))?,
            })),
            ProtoWork::Forget(forget) => Self::Forget(Box::new(ForgetWork {
                destinations: each(forget.destinations, TryInto::try_into)?,
                retention: present(forget.retention, "retention")?.into(),
                plan_only: forget.plan_only,
            })),
            ProtoWork::Test(test) => Self::Test(Box::new(test.try_into()?)),
        })
    }
}

impl From<&DestinationWork> for proto::DestinationWork {
    fn from(work: &DestinationWork) -> Self {
        Self {
            destination_id: bytes(work.destination.as_uuid()),
            repository: Some((&work.repository).into()),
        }
    }
}

impl TryFrom<proto::DestinationWork> for DestinationWork {
    type Error = Invalid;

    fn try_from(work: proto::DestinationWork) -> Result<Self, Invalid> {
        Ok(Self {
            destination: destination_id(&work.destination_id, "destination_id")?,
            repository: present(work.repository, "repository")?.try_into()?,
        })
    }
}

impl From<&Source> for proto::Source {
    fn from(source: &Source) -> Self {
        Self {
            source: Some(match source {
                Source::Path(path) => proto::source::Source::Path(path.clone()),
                Source::DockerVolume(name) => proto::source::Source::DockerVolume(name.clone()),
            }),
        }
    }
}

impl TryFrom<proto::Source> for Source {
    type Error = Invalid;

    fn try_from(source: proto::Source) -> Result<Self, Invalid> {
        Ok(match present(source.source, "source")? {
            proto::source::Source::Path(path) => Self::Path(path),
            proto::source::Source::DockerVolume(name) => Self::DockerVolume(name),
        })
    }
}

impl From<&Hooks> for proto::Hooks {
    fn from(hooks: &Hooks) -> Self {
        let all = |list: &[Hook]| list.iter().map(Into::into).collect();
        Self {
            before: all(&hooks.before),
            after: all(&hooks.after),
            on_failure: all(&hooks.on_failure),
        }
    }
}

impl From<proto::Hooks> for Hooks {
    fn from(hooks: proto::Hooks) -> Self {
        let all = |list: Vec<proto::Hook>| list.into_iter().map(Into::into).collect();
        Self {
            before: all(hooks.before),
            after: all(hooks.after),
            on_failure: all(hooks.on_failure),
        }
    }
}

impl From<&Hook> for proto::Hook {
    fn from(hook: &Hook) -> Self {
        Self {
            name: hook.name.clone(),
            exec: hook.exec.clone().map(|arguments| proto::Argv { arguments }),
            shell: hook.shell.clone(),
            timeout: hook.timeout,
            signature: hook.signature.clone(),
        }
    }
}

impl From<proto::Hook> for Hook {
    fn from(hook: proto::Hook) -> Self {
        Self {
            name: hook.name,
            exec: hook.exec.map(|argv| argv.arguments),
            shell: hook.shell,
            timeout: hook.timeout,
            signature: hook.signature,
        }
    }
}

impl From<&Limits> for proto::Limits {
    fn from(limits: &Limits) -> Self {
        Self {
            upload_kib: limits.upload_kib,
            download_kib: limits.download_kib,
            cpus: limits.cpus,
            io_nice: limits.io_nice,
        }
    }
}

impl From<proto::Limits> for Limits {
    fn from(limits: proto::Limits) -> Self {
        Self {
            upload_kib: limits.upload_kib,
            download_kib: limits.download_kib,
            cpus: limits.cpus,
            io_nice: limits.io_nice,
        }
    }
}

impl From<&Retention> for proto::Retention {
    fn from(retention: &Retention) -> Self {
        Self {
            keep_last: retention.keep_last,
            hourly: retention.hourly,
            daily: retention.daily,
            weekly: retention.weekly,
            monthly: retention.monthly,
            yearly: retention.yearly,
            within: retention.within,
        }
    }
}

impl From<proto::Retention> for Retention {
    fn from(retention: proto::Retention) -> Self {
        Self {
            keep_last: retention.keep_last,
            hourly: retention.hourly,
            daily: retention.daily,
            weekly: retention.weekly,
            monthly: retention.monthly,
            yearly: retention.yearly,
            within: retention.within,
        }
    }
}
