//! Certificates cost the server something, so nobody gets them as often as it likes.

use std::time::Duration;

use arkeep_transport::client::{EnrollError, RenewError, enroll};
use arkeep_transport::server::PortConfig;

use crate::raw::{Answer, call};
use crate::stand::{Outcome, Stand};

const RESOURCE_EXHAUSTED: u32 = 8;
const MINUTE: Duration = Duration::from_secs(60);

fn frugal() -> PortConfig {
    PortConfig {
        enrollments_per_minute: 1,
        enrollments_at_once: 3,
        renewals_per_minute: 1,
        renewals_at_once: 2,
        ..PortConfig::default()
    }
}

/// T9: an address that enrols too often is told when to come back, and its token is still good.
#[tokio::test]
async fn an_address_enrols_so_many_machines_and_is_told_to_wait() -> Outcome {
    let stand = Stand::start_with(frugal()).await?;
    for _ in 0..2 {
        stand.enroll().await?;
    }
    // Nonsense counts as well.
    let path = "/arkeep.agent.v1.Enrollment/Enroll";
    call(&stand.server, None, path, vec![]).await?;

    let token = stand.token().await?;
    let refused = enroll(&token, &stand.clock()).await;
    let raw = call(&stand.server, None, path, vec![]).await?;

    let Err(EnrollError::TooOften(wait)) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert!(wait > Duration::ZERO && wait <= MINUTE, "{wait:?}");
    assert!(
        matches!(raw, Answer::Status(RESOURCE_EXHAUSTED, _)),
        "{raw:?}"
    );
    // The same token at a port that has room.
    let text = EnrollError::TooOften(wait).to_string();
    assert!(text.contains("with the same token"), "{text}");
    Ok(())
}

/// T9
#[tokio::test]
async fn an_agent_renews_so_often_and_is_told_to_wait() -> Outcome {
    let stand = Stand::start_with(frugal()).await?;
    let (greedy, other) = (stand.agent().await?, stand.agent().await?);
    for _ in 0..2 {
        let renewal = greedy.renew().await?;
        greedy.replace(renewal.credential, renewal.trust)?;
    }

    let refused = greedy.renew().await;

    let Err(RenewError::TooOften(wait)) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert!(wait > Duration::ZERO && wait <= MINUTE, "{wait:?}");
    other.renew().await?;
    Ok(())
}
