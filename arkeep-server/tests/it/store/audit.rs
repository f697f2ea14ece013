//! S12: the chain of who did what, in a real database.

use arkeep_core::Timestamp;
use arkeep_server::store::audit::{
    Actor, AuditStore as _, Changes, Fault, Head, NewEntry, Target, verify,
};
use arkeep_server::store::page::Page;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{NOON, Sandbox, Tested, after};

fn said(number: u64) -> NewEntry {
    let changes = match json!({"name": {"before": "a\u{0}b", "after": "ä"}}) {
        Value::Object(object) => object.into(),
        _ => Changes::none(),
    };
    NewEntry {
        at: after(number),
        actor: Actor {
            kind: "user".into(),
            id: Some("an id".to_owned()),
            name: number
                .is_multiple_of(2)
                .then(|| "ada@example.org".to_owned()),
        },
        action: format!("test.{number}").into(),
        target: Target {
            kind: "user".into(),
            id: None,
        },
        result: "ok".into(),
        address: Some("2001:db8::1".to_owned()),
        request_id: Some(format!("request {number}")),
        changes,
    }
}

async fn filled(length: u64) -> Result<Sandbox, Box<dyn std::error::Error>> {
    let sandbox = Sandbox::new().await;
    for number in 1..=length {
        sandbox.store.append(&said(number)).await?;
    }
    Ok(sandbox)
}

async fn faults(sandbox: &Sandbox, noted: &[Head]) -> Result<Vec<Fault>, arkeep_core::StoreError> {
    let mut faults = Vec::new();
    verify(&sandbox.store, noted, |fault| faults.push(fault)).await?;
    Ok(faults)
}

/// S12
#[tokio::test]
async fn an_entry_is_read_back_in_its_place() -> Tested {
    let sandbox = filled(5).await?;

    let all = sandbox.store.following(0, 100).await?;

    let seqs: Vec<_> = all.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    for (entry, number) in all.iter().zip(1..) {
        assert_eq!(entry.says, said(number));
        assert_eq!(entry.hash, entry.computed());
    }
    assert_eq!(sandbox.store.head().await?, all[4].head());
    assert_eq!(sandbox.store.following(3, 1).await?, all[3..4]);
    assert_eq!(faults(&sandbox, &[]).await?, []);
    Ok(())
}

/// S12
#[tokio::test]
async fn a_chain_without_entries_is_whole() -> Tested {
    let sandbox = Sandbox::new().await;

    assert_eq!(sandbox.store.head().await?, Head::START);
    assert_eq!(faults(&sandbox, &[]).await?, []);
    Ok(())
}

/// S12
#[tokio::test]
async fn pages_go_back_from_the_newest() -> Tested {
    let sandbox = filled(5).await?;
    let two = || Page::first(2).expect("in range");
    let mut page = two();
    let mut seen: Vec<Vec<u64>> = Vec::new();

    loop {
        let listed = sandbox.store.entries(&page).await?;
        seen.push(listed.items.iter().map(|entry| entry.seq).collect());
        let Some(next) = listed.next else { break };
        page = two().after(next);
    }

    assert_eq!(seen, [vec![5, 4], vec![3, 2], vec![1]]);
    Ok(())
}

/// S12: however many write at once, there is one chain without a gap.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_write_at_once_stand_one_after_the_other() -> Tested {
    let sandbox = Sandbox::new().await;

    let mut calls = JoinSet::new();
    for number in 0..50 {
        let store = sandbox.store.clone();
        calls.spawn(async move { store.append(&said(number)).await });
    }
    let mut seqs = Vec::new();
    for entry in calls.join_all().await {
        seqs.push(entry?.seq);
    }

    seqs.sort_unstable();
    assert_eq!(seqs, (1..=50).collect::<Vec<_>>());
    assert_eq!(faults(&sandbox, &[]).await?, []);
    Ok(())
}

/// S12: the program itself has no way to take anything back.
#[tokio::test]
async fn the_table_takes_neither_changes_nor_removals() -> Tested {
    let sandbox = filled(2).await?;

    for statement in ["UPDATE audit SET result = 'ok'", "DELETE FROM audit"] {
        assert!(sandbox.tamper(statement).await.is_err(), "{statement}");
    }
    assert_eq!(faults(&sandbox, &[]).await?, []);
    Ok(())
}

/// S12: any column of any row.
#[tokio::test]
async fn every_changed_column_is_found() -> Tested {
    for column in [
        "at = at + 1",
        "actor_kind = 'token'",
        "actor_id = NULL",
        "actor_name = 'eve'",
        "action = 'x'",
        "target_kind = 'x'",
        "target_id = 'x'",
        "result = 'forbidden'",
        "address = NULL",
        "request_id = 'x'",
        "changes = '{}'",
    ] {
        let sandbox = filled(3).await?;
        sandbox
            .tamper(&format!(
                "{} UPDATE audit SET {column} WHERE seq = 2",
                Sandbox::UNLOCK_AUDIT
            ))
            .await?;

        assert_eq!(
            faults(&sandbox, &[]).await?,
            [Fault::Changed(2)],
            "{column}"
        );
    }
    Ok(())
}

/// S12
#[tokio::test]
async fn what_was_removed_or_moved_is_found() -> Tested {
    for (statements, expected) in [
        (
            "DELETE FROM audit WHERE seq = 1",
            vec![Fault::Missing(1, 1)],
        ),
        (
            "DELETE FROM audit WHERE seq IN (2, 3)",
            vec![Fault::Missing(2, 3)],
        ),
        (
            "DELETE FROM audit WHERE seq > 3",
            vec![Fault::Missing(4, 5)],
        ),
        ("DELETE FROM audit", vec![Fault::Missing(1, 5)]),
        (
            "DELETE FROM audit WHERE seq = 2; UPDATE audit SET seq = seq - 1 WHERE seq = 3",
            vec![Fault::Moved(2), Fault::Changed(2), Fault::Missing(3, 3)],
        ),
        (
            "UPDATE audit SET seq = 9 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; \
             UPDATE audit SET seq = 3 WHERE seq = 9",
            vec![
                Fault::Moved(2),
                Fault::Changed(2),
                Fault::Moved(3),
                Fault::Changed(3),
                Fault::Moved(4),
            ],
        ),
    ] {
        let sandbox = filled(5).await?;
        let statements = format!("{} {statements}", Sandbox::UNLOCK_AUDIT);
        sandbox.tamper(&statements).await?;

        assert_eq!(faults(&sandbox, &[]).await?, expected, "{statements}");
    }
    Ok(())
}

/// S12: entries that are taken off the end together with the note of the end are missed by who has
/// noted a head elsewhere.
#[tokio::test]
async fn a_shortened_chain_is_found_by_a_noted_head() -> Tested {
    let sandbox = filled(5).await?;
    let noted = sandbox.store.head().await?;
    sandbox
        .tamper(&format!(
            "{} DELETE FROM audit WHERE seq > 3; UPDATE audit_head SET seq = 3, \
             hash = (SELECT hash FROM audit WHERE seq = 3)",
            Sandbox::UNLOCK_AUDIT
        ))
        .await?;

    assert_eq!(
        faults(&sandbox, &[]).await?,
        [],
        "which is what it cannot see"
    );
    assert_eq!(faults(&sandbox, &[noted]).await?, [Fault::Missing(4, 5)]);
    Ok(())
}

/// S12: what is appended to a chain that lost its end does not hide the loss.
#[tokio::test]
async fn a_chain_that_goes_on_keeps_its_gap() -> Tested {
    let sandbox = filled(3).await?;
    sandbox
        .tamper(&format!(
            "{} DELETE FROM audit WHERE seq = 3",
            Sandbox::UNLOCK_AUDIT
        ))
        .await?;

    let entry = sandbox.store.append(&said(4)).await?;

    assert_eq!(entry.seq, 4);
    assert_eq!(faults(&sandbox, &[]).await?, [Fault::Missing(3, 3)]);
    Ok(())
}

/// S12
#[tokio::test]
async fn a_time_that_no_calendar_has_is_found() -> Tested {
    let sandbox = filled(1).await?;
    sandbox
        .tamper(&format!(
            "{} UPDATE audit SET at = 9223372036854775807",
            Sandbox::UNLOCK_AUDIT
        ))
        .await?;

    let far = sandbox.store.following(0, 1).await?[0].says.at;

    assert!(far > NOON);
    assert_ne!(far, Timestamp::UNIX_EPOCH);
    assert_eq!(faults(&sandbox, &[]).await?, [Fault::Changed(1)]);
    Ok(())
}
