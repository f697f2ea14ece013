use arkeep_core::job::JobError;

use super::end::End;
use crate::outbox::SoFar;

/// Cuts what an engine or a hook may have written without end, so that the report of a job can
/// always travel: a message of more than 4 MiB would never arrive.
pub(super) fn fit(end: &mut End, done: &mut SoFar) {
    let hooks = done.hooks.len().max(1);
    for hook in &mut done.hooks {
        cut(&mut hook.output, (ALL_OUTPUT / hooks).min(OUTPUT));
        cut(&mut hook.name, NAME);
    }
    let results = done.results.len().max(1);
    let errors = done
        .results
        .iter_mut()
        .filter_map(|result| result.error.as_mut());
    for error in errors {
        cut_error(error, (ALL_DETAILS / results).min(DETAIL));
    }
    if let Some(error) = &mut end.error {
        cut_error(error, DETAIL);
    }
}

fn cut_error(error: &mut JobError, limit: usize) {
    cut(&mut error.detail, limit);
}

fn cut(text: &mut String, limit: usize) {
    if text.len() <= limit {
        return;
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text.push('…');
}

const NAME: usize = 256;
const OUTPUT: usize = 80 << 10;
const ALL_OUTPUT: usize = 2 << 20;
const DETAIL: usize = 16 << 10;
const ALL_DETAILS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use arkeep_core::job::{
        DestinationResult, HookResult, HookState, JobReport, Outcome, ReportBody,
    };
    use arkeep_core::policy::HookPhase;
    use arkeep_core::testing::SeededEntropy;
    use arkeep_core::{DestinationId, JobId, Timestamp};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// G10: a report that is too long to travel would be said for ever and never heard.
    #[test]
    fn the_longest_report_can_travel() -> Result<(), Box<dyn std::error::Error>> {
        let entropy = SeededEntropy::new(1);
        let long = "ä".repeat(200_000);
        let error = Some(JobError {
            code: "restic_failed".to_owned(),
            detail: long.clone(),
        });
        let hook = HookResult {
            name: long.clone(),
            phase: HookPhase::Before,
            state: HookState::Failed,
            exit_code: None,
            output: long,
            started_at: NOW,
            ended_at: NOW,
        };
        let result = DestinationResult {
            destination_id: DestinationId::mint(NOW, &entropy),
            state: Outcome::Failed,
            snapshot_id: None,
            bytes_processed: 0,
            bytes_added: 0,
            files_new: 0,
            files_changed: 0,
            files_unmodified: 0,
            started_at: NOW,
            ended_at: NOW,
            error: error.clone(),
        };
        let mut end = End {
            outcome: Outcome::Failed,
            error,
        };
        let mut done = SoFar {
            results: vec![result; 100],
            hooks: vec![hook; 192],
        };

        fit(&mut end, &mut done);

        let report = JobReport {
            job: JobId::mint(NOW, &entropy),
            attempt: 1,
            fence: arkeep_core::job::Fence(1),
            sequence: 2,
            at: NOW,
            body: ReportBody::Finished {
                outcome: end.outcome,
                error: end.error,
                results: done.results,
                hooks: done.hooks,
            },
        };
        let bytes = arkeep_transport::wire::encode_report(&report)?;
        assert_eq!(arkeep_transport::wire::decode_report(&bytes)?, report);
        Ok(())
    }
}
