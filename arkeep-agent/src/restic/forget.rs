//! Retention: which snapshots go.
//!
//! What is removed is gone, so the command is narrowed twice, by tag and by host, and asked for
//! only with something to keep. Snapshots of one policy are one series, also after its sources
//! have changed; restic's own grouping by paths would start a new one and keep the old for ever.

use arkeep_core::engine::{EngineError, ForgetReport, ForgetRequest, Observer, SnapshotFilter};
use arkeep_core::job::LogLevel;
use arkeep_core::policy::Retention;
use arkeep_core::repository::Repository;
use arkeep_core::snapshot::ResticId;
use serde::Deserialize;

use super::ResticEngine;
use super::call::{Ask, Kind};
use super::list::{filter_flags, unreadable};
use super::place::refused;
use super::stream;

impl ResticEngine {
    pub(super) async fn apply_retention(
        &self,
        at: &Repository,
        request: &ForgetRequest,
        observer: &dyn Observer,
    ) -> Result<ForgetReport, EngineError> {
        if request.retention.keeps_nothing() {
            return Err(refused(
                "the retention keeps nothing; it would remove every snapshot",
            ));
        }
        if request.filter.tags.is_empty() {
            return Err(refused(
                "retention without a tag would apply to snapshots of others",
            ));
        }
        let host = request.filter.host.clone();
        let scope = SnapshotFilter {
            tags: request.filter.tags.clone(),
            host: Some(host.unwrap_or_else(|| self.host.clone())),
        };
        let mut flags = filter_flags(&scope)?;
        flags.extend(keep_flags(&request.retention));
        flags.push("--group-by=host".to_owned());
        flags.push(match request.plan_only {
            true => "--dry-run".to_owned(),
            false => "--prune".to_owned(),
        });
        let ask = Ask {
            verb: "forget",
            flags,
            kind: Kind::Work,
            ..Ask::default()
        };
        let (sender, parsed) = stream::array::<Vec<Group>>();
        let ended = self
            .call(at, ask, observer, &mut |_, _| false, Some(sender))
            .await?;
        ended.ok()?;
        let groups = parsed
            .await
            .map_err(|_| unreadable("what it forgot", &"the reader broke off"))?
            .map_err(|error| unreadable("what it forgot", &error))?;
        let mut report = ForgetReport::default();
        for group in groups.unwrap_or_default() {
            report
                .kept
                .extend(group.keep.unwrap_or_default().into_iter().map(Id::take));
            report
                .removed
                .extend(group.remove.unwrap_or_default().into_iter().map(Id::take));
        }
        if !request.plan_only {
            observer.line(LogLevel::Info, "forgotten snapshots were pruned");
        }
        Ok(report)
    }
}

fn keep_flags(retention: &Retention) -> impl Iterator<Item = String> {
    let counts = [
        ("--keep-last", retention.keep_last),
        ("--keep-hourly", retention.hourly),
        ("--keep-daily", retention.daily),
        ("--keep-weekly", retention.weekly),
        ("--keep-monthly", retention.monthly),
        ("--keep-yearly", retention.yearly),
    ];
    // restic counts in hours at the least; what is begun is kept.
    let within = retention
        .within
        .filter(|&seconds| seconds > 0)
        .map(|seconds| format!("--keep-within={}h", seconds.div_ceil(3_600)));
    counts
        .into_iter()
        .filter_map(|(flag, count)| {
            let count = count.filter(|&count| count > 0)?;
            Some(format!("{flag}={count}"))
        })
        .chain(within)
}

#[derive(Debug, Deserialize)]
struct Group {
    #[serde(default)]
    keep: Option<Vec<Id>>,
    #[serde(default)]
    remove: Option<Vec<Id>>,
}

#[derive(Debug, Deserialize)]
struct Id {
    id: ResticId,
}

impl Id {
    fn take(self) -> ResticId {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G6
    #[test]
    fn what_keeps_nothing_is_not_asked_for() {
        let retention = Retention {
            keep_last: Some(0),
            daily: Some(7),
            within: Some(3_601),
            ..Retention::default()
        };

        assert_eq!(
            keep_flags(&retention).collect::<Vec<_>>(),
            ["--keep-daily=7", "--keep-within=2h"]
        );
    }
}
