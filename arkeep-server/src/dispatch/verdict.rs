//! Is a success a success?
//!
//! An agent says what came of a job. It may be mistaken, or not be ours any more. What the server
//! calls a success is therefore derived here, from what was asked for and what was shown for it,
//! and the agent's word can only make it worse.

use arkeep_core::DestinationId;
use arkeep_core::job::{DestinationResult, HookResult, HookState, JobError, JobKind, Outcome};

/// What an agent says came of a job.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// In one word.
    pub outcome: Outcome,
    /// Destination by destination.
    pub results: &'a [DestinationResult],
    /// Hook by hook.
    pub hooks: &'a [HookResult],
}

/// What came of a job of this kind that was sent to these destinations.
///
/// A backup has succeeded when every destination has a snapshot and nothing went wrong on the way;
/// other work, when every destination says so. What was done in part is
/// [`Outcome::Partial`], and what was not shown for anything has failed.
#[must_use]
pub fn judge(kind: JobKind, assigned: &[DestinationId], claim: &Claim<'_>) -> Outcome {
    match claim.outcome {
        Outcome::Succeeded | Outcome::Partial => {}
        other => return other,
    }
    let shown = |id: &DestinationId, least: fn(Outcome) -> bool| {
        claim.results.iter().any(|result| {
            result.destination_id == *id
                && least(result.state)
                && (kind != JobKind::Backup || result.snapshot_id.is_some())
        })
    };
    let whole = |state| state == Outcome::Succeeded;
    let some = |state| matches!(state, Outcome::Succeeded | Outcome::Partial);
    let hooks_went_well = claim
        .hooks
        .iter()
        .all(|hook| hook.state == HookState::Succeeded);
    if claim.outcome == Outcome::Succeeded
        && !assigned.is_empty()
        && assigned.iter().all(|id| shown(id, whole))
        && hooks_went_well
    {
        Outcome::Succeeded
    } else if assigned.iter().any(|id| shown(id, some)) {
        Outcome::Partial
    } else {
        Outcome::Failed
    }
}

/// Why a job that its agent calls a success is none, when the agent gives no reason itself.
#[must_use]
pub fn objection(kind: JobKind, assigned: &[DestinationId], claim: &Claim<'_>) -> JobError {
    let unproven = assigned.iter().find(|id| {
        let good = |result: &&DestinationResult| {
            result.destination_id == **id
                && result.state == Outcome::Succeeded
                && (kind != JobKind::Backup || result.snapshot_id.is_some())
        };
        claim.results.iter().find(good).is_none()
    });
    let detail = match unproven {
        Some(id) => format!("destination {id} has no proof of success"),
        None if assigned.is_empty() => "the job had no destination".to_owned(),
        None => "a hook did not succeed".to_owned(),
    };
    JobError {
        code: "not_proven".to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use arkeep_core::Timestamp;
    use arkeep_core::policy::HookPhase;
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> DestinationId {
        DestinationId::from_uuid(Uuid::from_u128(number))
    }

    fn result(number: u128, state: Outcome, has_snapshot: bool) -> DestinationResult {
        DestinationResult {
            destination_id: id(number),
            state,
            snapshot_id: has_snapshot.then(|| "0123abcd".parse().unwrap()),
            bytes_processed: 0,
            bytes_added: 0,
            files_new: 0,
            files_changed: 0,
            files_unmodified: 0,
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
            error: None,
        }
    }

    fn backup(outcome: Outcome, assigned: &[u128], results: &[DestinationResult]) -> Outcome {
        let assigned: Vec<_> = assigned.iter().map(|number| id(*number)).collect();
        let claim = Claim {
            outcome,
            results,
            hooks: &[],
        };
        judge(JobKind::Backup, &assigned, &claim)
    }

    const GOOD: Outcome = Outcome::Succeeded;

    /// S4
    #[test]
    fn a_backup_needs_a_snapshot_in_every_destination() {
        let (one, two) = (result(1, GOOD, true), result(2, GOOD, true));

        assert_eq!(backup(GOOD, &[1, 2], &[one.clone(), two]), GOOD);
        assert_eq!(backup(GOOD, &[1, 2], &[one]), Outcome::Partial);
        let bare = [result(1, GOOD, false)];
        assert_eq!(backup(GOOD, &[1], &bare), Outcome::Failed);
        assert_eq!(backup(GOOD, &[1], &[]), Outcome::Failed);
    }

    /// S4
    #[test]
    fn a_backup_to_nowhere_is_never_green() {
        assert_eq!(backup(GOOD, &[], &[]), Outcome::Failed);
        let elsewhere = [result(9, GOOD, true)];
        assert_eq!(backup(GOOD, &[], &elsewhere), Outcome::Failed);
        assert_eq!(backup(GOOD, &[1], &elsewhere), Outcome::Failed);
    }

    /// S4
    #[test]
    fn one_destination_reported_twice_stands_for_one() {
        let twice = [result(1, GOOD, true), result(1, GOOD, true)];

        assert_eq!(backup(GOOD, &[1, 2], &twice), Outcome::Partial);
    }

    /// S4
    #[test]
    fn the_agents_word_can_only_make_it_worse() {
        let good = [result(1, GOOD, true)];

        for worse in [Outcome::Partial, Outcome::Failed, Outcome::Cancelled] {
            assert_eq!(backup(worse, &[1], &good), worse);
        }
        let partial = [result(1, Outcome::Partial, true)];
        assert_eq!(backup(GOOD, &[1], &partial), Outcome::Partial);
        let empty = [result(1, Outcome::Partial, false)];
        assert_eq!(backup(Outcome::Partial, &[1], &empty), Outcome::Failed);
    }

    /// H10
    #[test]
    fn a_hook_that_failed_leaves_no_success() {
        let hook = HookResult {
            name: "dump".to_owned(),
            phase: HookPhase::After,
            state: HookState::Failed,
            exit_code: Some(1),
            output: String::new(),
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
        };
        let claim = Claim {
            outcome: GOOD,
            results: &[result(1, GOOD, true)],
            hooks: &[hook],
        };

        let judged = judge(JobKind::Backup, &[id(1)], &claim);

        assert_eq!(judged, Outcome::Partial);
        let objection = objection(JobKind::Backup, &[id(1)], &claim);
        assert_eq!(objection.detail, "a hook did not succeed");
    }

    /// S4
    #[test]
    fn other_work_needs_every_destinations_word() {
        let results = [result(1, GOOD, false)];
        let claim = Claim {
            outcome: GOOD,
            results: &results,
            hooks: &[],
        };

        assert_eq!(judge(JobKind::Restore, &[id(1)], &claim), GOOD);
        let two = judge(JobKind::Verify, &[id(1), id(2)], &claim);
        assert_eq!(two, Outcome::Partial);
        assert_eq!(judge(JobKind::Test, &[id(2)], &claim), Outcome::Failed);
    }
}
