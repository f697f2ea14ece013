//! S16: a page of jobs costs the same, however many there are.

use std::time::Duration;

use arkeep_core::AgentId;
use arkeep_core::job::{JobKind, JobState};
use arkeep_server::store::jobs::{JobFilter, JobStore};
use arkeep_server::store::{Cursor, Page};
use tokio::time::Instant;

use super::opening::raw;
use super::{Sandbox, Tested};

/// S16
#[tokio::test]
async fn a_page_costs_the_same_among_many_jobs_as_among_few() -> Tested {
    let (few, many) = (filled(1_000).await?, filled(100_000).await?);
    let (sandbox, agent) = &few;
    let newest = JobStore::list(&sandbox.store, &JobFilter::default(), &Page::default()).await?;
    // Old enough for a whole page of the few.
    let since = newest.items[49].created_at;
    let any = JobFilter::default();
    let deep = Page::default().after(Cursor::at(newest.items[49].id.as_uuid()));
    let filters = [
        ("all", any.clone(), Page::default()),
        ("the next page", any.clone(), deep),
        (
            "of an agent",
            JobFilter {
                agent: Some(*agent),
                ..any.clone()
            },
            Page::default(),
        ),
        (
            "in a state",
            JobFilter {
                state: Some(JobState::Failed),
                ..any.clone()
            },
            Page::default(),
        ),
        (
            "of a kind",
            JobFilter {
                kind: Some(JobKind::Verify),
                ..any.clone()
            },
            Page::default(),
        ),
        (
            "since a moment",
            JobFilter {
                since: Some(since),
                ..any
            },
            Page::default(),
        ),
    ];

    for (name, mut filter, page) in filters {
        let among_few = fastest(&few.0, &filter, &page).await?;
        if filter.agent.is_some() {
            filter.agent = Some(many.1);
        }
        let among_many = fastest(&many.0, &filter, &page).await?;
        // A walk over all rows takes a hundred times as long; the rest is noise.
        assert!(
            among_many < among_few * 5 + Duration::from_millis(5),
            "{name}: {among_many:?} among many, {among_few:?} among few"
        );
    }
    Ok(())
}

async fn fastest(
    sandbox: &Sandbox,
    filter: &JobFilter,
    page: &Page,
) -> Result<Duration, arkeep_core::StoreError> {
    let mut fastest = Duration::MAX;
    for _ in 0..30 {
        let begun = Instant::now();
        let listed = JobStore::list(&sandbox.store, filter, page).await?;
        fastest = fastest.min(begun.elapsed());
        assert_eq!(listed.items.len(), 50, "only whole pages compare");
    }
    Ok(fastest)
}

/// A store with this many jobs. The hundred oldest failed, at another thing and on another agent
/// than all others: without an index, whoever looks for them walks through the rest.
async fn filled(jobs: u32) -> Result<(Sandbox, AgentId), Box<dyn std::error::Error>> {
    let sandbox = Sandbox::new().await;
    let (agent, other) = (sandbox.agent().await.id, sandbox.agent().await.id);
    let mut connection = raw(&sandbox).await?;
    sqlx::query(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < $1) \
         INSERT INTO jobs (id, kind, state, agent_id, scheduled_for, source, parameters, folds, \
         created_at) SELECT printf('%08x-%04x-7000-8000-%012x', n / 65536, n % 65536, n), \
         CASE WHEN n <= 100 THEN 'verify' ELSE 'backup' END, \
         CASE WHEN n <= 100 THEN 'failed' ELSE 'succeeded' END, \
         CASE WHEN n <= 100 THEN $2 ELSE $3 END, n, 'schedule', '{}', 1, n FROM n",
    )
    .bind(jobs)
    .bind(agent.to_string())
    .bind(other.to_string())
    .execute(&mut connection)
    .await?;
    Ok((sandbox, agent))
}
