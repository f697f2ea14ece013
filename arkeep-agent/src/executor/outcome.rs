use arkeep_core::job::{DestinationResult, HookResult, HookState, JobError, Outcome};
use arkeep_core::policy::HookPhase;

/// What came of a job, from what came of its parts.
///
/// `asked` is the number of destinations that the job has. A backup is proven by snapshots alone;
/// other work by the engine's word.
#[must_use]
pub fn outcome(
    asked: usize,
    results: &[DestinationResult],
    hooks: &[HookResult],
    proof: Proof,
) -> Outcome {
    let proven = |result: &DestinationResult| match proof {
        Proof::Snapshot => result.snapshot_id.is_some(),
        Proof::Word => true,
    };
    let whole = |result: &DestinationResult| result.state == Outcome::Succeeded && proven(result);
    let some = |result: &DestinationResult| {
        matches!(result.state, Outcome::Succeeded | Outcome::Partial) && proven(result)
    };
    let hooks_went_well = hooks.iter().all(|hook| hook.state == HookState::Succeeded);
    if results
        .iter()
        .any(|result| result.state == Outcome::Cancelled)
        || hooks
            .iter()
            .any(|hook| hook.phase == HookPhase::Before && hook.state == HookState::Cancelled)
    {
        Outcome::Cancelled
    } else if asked > 0 && results.len() == asked && results.iter().all(whole) && hooks_went_well {
        Outcome::Succeeded
    } else if results.iter().any(some) {
        Outcome::Partial
    } else {
        Outcome::Failed
    }
}

/// What it takes to believe that a destination was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A snapshot that the repository lists.
    Snapshot,
    /// That the engine says so.
    Word,
}

/// Why a job was not a success, in one error: that of its parts when they agree.
#[must_use]
pub fn error(results: &[DestinationResult], hooks: &[HookResult]) -> Option<JobError> {
    let bad_hook = hooks.iter().find(|hook| hook.state != HookState::Succeeded);
    if let Some(hook) = bad_hook.filter(|hook| hook.phase == HookPhase::Before) {
        return Some(hook_error(hook));
    }
    let mut errors = results
        .iter()
        .filter_map(|result| Some((result.destination_id, result.error.as_ref()?)));
    let Some((first_id, first)) = errors.next() else {
        return bad_hook.map(hook_error);
    };
    let others: Vec<_> = errors.filter(|(_, error)| *error != first).collect();
    if others.is_empty() {
        return Some(first.clone());
    }
    let mut detail = format!("destination {first_id}: {}", first.detail);
    for (id, error) in others {
        detail.push_str(&format!("; destination {id}: {}", error.detail));
    }
    Some(JobError {
        code: "destinations_failed".to_owned(),
        detail,
    })
}

fn hook_error(hook: &HookResult) -> JobError {
    let name = &hook.name;
    let phase = match hook.phase {
        HookPhase::Before => "before",
        HookPhase::After => "after",
        HookPhase::OnFailure => "on_failure",
    };
    let (code, what) = match hook.state {
        HookState::Refused => ("hook_refused", format!("was refused: {}", hook.output)),
        HookState::TimedOut => (
            "hook_timed_out",
            "ran out of time and was killed".to_owned(),
        ),
        HookState::Cancelled => ("cancelled", "was cancelled".to_owned()),
        HookState::Failed | HookState::Succeeded => match hook.exit_code {
            Some(code) => ("hook_failed", format!("failed with exit code {code}")),
            None => ("hook_failed", "failed".to_owned()),
        },
    };
    JobError {
        code: code.to_owned(),
        detail: format!("the {phase} hook \"{name}\" {what}"),
    }
}

#[cfg(test)]
mod tests {
    use arkeep_core::testing::SeededEntropy;
    use arkeep_core::{DestinationId, Timestamp};

    use super::*;

    fn result(state: Outcome, snapshot: bool) -> DestinationResult {
        let now = Timestamp::UNIX_EPOCH;
        DestinationResult {
            destination_id: DestinationId::mint(now, &SeededEntropy::new(1)),
            state,
            snapshot_id: snapshot.then(|| "0123abcd".parse().unwrap()),
            bytes_processed: 0,
            bytes_added: 0,
            files_new: 0,
            files_changed: 0,
            files_unmodified: 0,
            started_at: now,
            ended_at: now,
            error: None,
        }
    }

    fn hook(phase: HookPhase, state: HookState) -> HookResult {
        HookResult {
            name: "dump".to_owned(),
            phase,
            state,
            exit_code: None,
            output: String::new(),
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn backup(asked: usize, results: &[DestinationResult], hooks: &[HookResult]) -> Outcome {
        outcome(asked, results, hooks, Proof::Snapshot)
    }

    const DONE: HookState = HookState::Succeeded;

    /// S4
    #[test]
    fn success_needs_a_snapshot_in_every_destination() {
        let good = || result(Outcome::Succeeded, true);

        assert_eq!(backup(1, &[good()], &[]), Outcome::Succeeded);
        assert_eq!(backup(2, &[good(), good()], &[]), Outcome::Succeeded);
        assert_eq!(backup(2, &[good()], &[]), Outcome::Partial);
        assert_eq!(
            backup(1, &[result(Outcome::Succeeded, false)], &[]),
            Outcome::Failed
        );
        assert_eq!(
            backup(2, &[good(), result(Outcome::Succeeded, false)], &[]),
            Outcome::Partial
        );
    }

    /// S4
    #[test]
    fn nothing_asked_and_nothing_done_is_no_success() {
        assert_eq!(backup(0, &[], &[]), Outcome::Failed);
        assert_eq!(backup(1, &[], &[]), Outcome::Failed);
        assert_eq!(outcome(0, &[], &[], Proof::Word), Outcome::Failed);
    }

    /// S4
    #[test]
    fn an_incomplete_snapshot_is_partial() {
        assert_eq!(
            backup(1, &[result(Outcome::Partial, true)], &[]),
            Outcome::Partial
        );
        assert_eq!(
            backup(1, &[result(Outcome::Partial, false)], &[]),
            Outcome::Failed
        );
    }

    /// H10
    #[test]
    fn a_hook_that_did_not_succeed_is_never_green() {
        for state in [HookState::Failed, HookState::TimedOut, HookState::Refused] {
            let before = [hook(HookPhase::Before, state)];
            assert_eq!(backup(1, &[], &before), Outcome::Failed);
            assert!(error(&[], &before).is_some());

            let after = [hook(HookPhase::Before, DONE), hook(HookPhase::After, state)];
            let good = [result(Outcome::Succeeded, true)];
            assert_eq!(backup(1, &good, &after), Outcome::Partial);
            assert!(error(&good, &after).is_some());
        }
    }

    #[test]
    fn what_was_stopped_is_cancelled() {
        let stopped = [
            result(Outcome::Succeeded, true),
            result(Outcome::Cancelled, false),
        ];
        assert_eq!(backup(2, &stopped, &[]), Outcome::Cancelled);

        let before = [hook(HookPhase::Before, HookState::Cancelled)];
        assert_eq!(backup(1, &[], &before), Outcome::Cancelled);
    }

    #[test]
    fn one_reason_is_given_as_it_is_and_many_are_listed() {
        let because = |detail: &str| DestinationResult {
            error: Some(JobError {
                code: "restic_failed".to_owned(),
                detail: detail.to_owned(),
            }),
            ..result(Outcome::Failed, false)
        };

        let same = error(&[because("full"), because("full")], &[]).unwrap();
        assert_eq!(
            (same.code.as_str(), same.detail.as_str()),
            ("restic_failed", "full")
        );

        let two = error(&[because("full"), because("gone")], &[]).unwrap();
        assert_eq!(two.code, "destinations_failed");
        assert!(two.detail.contains("full") && two.detail.contains("gone"));
    }
}
