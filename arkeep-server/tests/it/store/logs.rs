use arkeep_core::job::{JobKind, JobSource, LogLevel, LogLine, LogSource};
use arkeep_core::queue::{JobQueue, NewJob};
use arkeep_core::{AgentId, JobId, SystemEntropy};
use arkeep_server::store::logs::{JobLogStore, LOG_BOUND, LogBatch};

use super::{NOON, Sandbox, Tested};

/// S6
#[tokio::test]
async fn lines_are_read_in_the_order_in_which_they_were_said() -> Tested {
    let (sandbox, agent, job) = logged().await?;

    append(&sandbox, agent, job, 1, 1..=3).await?;
    append(&sandbox, agent, job, 1, 4..=6).await?;

    let lines = sandbox.store.read(job, 0, 100).await?;
    let seqs: Vec<_> = lines.iter().map(|line| line.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(lines[4].text, "line 5");
    assert_eq!(
        (lines[4].level, lines[4].source, lines[4].attempt),
        (LogLevel::Warn, LogSource::Restic, 1)
    );
    let rest = sandbox.store.read(job, 4, 1).await?;
    assert_eq!(rest.iter().map(|line| line.seq).collect::<Vec<_>>(), [5]);
    Ok(())
}

/// S6
#[tokio::test]
async fn a_line_that_is_said_twice_is_kept_once() -> Tested {
    let (sandbox, agent, job) = logged().await?;

    assert_eq!(append(&sandbox, agent, job, 1, 1..=3).await?, Some(3));
    assert_eq!(append(&sandbox, agent, job, 1, 1..=3).await?, Some(3));
    assert_eq!(append(&sandbox, agent, job, 1, 2..=5).await?, Some(5));

    assert_eq!(sandbox.store.read(job, 0, 100).await?.len(), 5);
    Ok(())
}

/// S6
#[tokio::test]
async fn attempts_follow_one_another() -> Tested {
    let (sandbox, agent, job) = logged().await?;

    append(&sandbox, agent, job, 1, 1..=2).await?;
    append(&sandbox, agent, job, 2, 1..=2).await?;
    append(&sandbox, agent, job, 1, 3..=3).await?;

    let lines = sandbox.store.read(job, 0, 100).await?;
    let told: Vec<_> = lines.iter().map(|line| (line.seq, line.attempt)).collect();
    assert_eq!(told, [(1, 1), (2, 1), (3, 2), (4, 2), (5, 1)]);
    Ok(())
}

/// S6
#[tokio::test]
async fn nobody_writes_into_the_log_of_anothers_job() -> Tested {
    let (sandbox, _, job) = logged().await?;
    let stranger = sandbox.agent().await.id;

    assert_eq!(append(&sandbox, stranger, job, 1, 1..=1).await?, None);
    let nothing = JobId::mint(NOON, &SystemEntropy);
    assert_eq!(append(&sandbox, stranger, nothing, 1, 1..=1).await?, None);

    assert_eq!(sandbox.store.read(job, 0, 100).await?, []);
    Ok(())
}

/// S6
#[tokio::test]
async fn head_and_tail_are_kept_within_the_bound() -> Tested {
    let (sandbox, agent, job) = logged().await?;
    let text = "x".repeat(64 << 10);
    let written = 3 * LOG_BOUND / text.len() as u64;

    for first in (1..=written).step_by(16) {
        let lines = (first..first + 16).map(|seq| line(seq, &text)).collect();
        let batch = LogBatch {
            agent,
            job,
            attempt: 1,
            lines,
        };
        sandbox.store.append(&batch).await?;
    }

    let lines = sandbox.store.read(job, 0, u32::MAX).await?;
    let kept: usize = lines.iter().map(|line| line.text.len()).sum();
    assert!(kept as u64 <= LOG_BOUND);
    assert!(kept as u64 > LOG_BOUND * 9 / 10, "{kept}");
    assert_eq!(lines.first().map(|line| line.seq), Some(1));
    assert_eq!(lines.last().map(|line| line.seq), Some(written));
    let gaps = lines
        .windows(2)
        .filter(|pair| pair[0].seq + 1 != pair[1].seq);
    assert_eq!(gaps.count(), 1);
    Ok(())
}

/// S6
#[tokio::test]
async fn a_line_longer_than_the_bound_pushes_itself_out() -> Tested {
    let (sandbox, agent, job) = logged().await?;
    let long = "x".repeat(usize::try_from(LOG_BOUND)?);
    let lines = vec![line(1, "first"), line(2, &long), line(3, "last")];
    let batch = LogBatch {
        agent,
        job,
        attempt: 1,
        lines,
    };

    let heard = sandbox.store.append(&batch).await?;

    assert_eq!(heard, Some(3));
    let lines = sandbox.store.read(job, 0, 100).await?;
    assert_eq!(
        lines.iter().map(|line| line.seq).collect::<Vec<_>>(),
        [1, 3]
    );
    Ok(())
}

async fn logged() -> Result<(Sandbox, AgentId, JobId), arkeep_core::StoreError> {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let job = NewJob {
        id: JobId::mint(NOON, &SystemEntropy),
        kind: JobKind::Backup,
        agent,
        policy: None,
        scheduled_for: NOON,
        deadline: None,
        source: JobSource::Manual,
        parameters: "{}".to_owned(),
        created_at: NOON,
    };
    sandbox.store.enqueue(&job).await?;
    Ok((sandbox, agent, job.id))
}

async fn append(
    sandbox: &Sandbox,
    agent: AgentId,
    job: JobId,
    attempt: u32,
    seqs: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, arkeep_core::StoreError> {
    let lines = seqs.map(|seq| line(seq, &format!("line {seq}"))).collect();
    let batch = LogBatch {
        agent,
        job,
        attempt,
        lines,
    };
    sandbox.store.append(&batch).await
}

fn line(seq: u64, text: &str) -> LogLine {
    LogLine {
        seq,
        at: NOON,
        level: LogLevel::Warn,
        source: LogSource::Restic,
        text: text.to_owned(),
    }
}
