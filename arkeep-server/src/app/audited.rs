//! Certificates of agents, in the audit log.

use std::sync::Arc;

use arkeep_core::{AgentId, StoreError, Timestamp};
use arkeep_transport::enrollment::{
    EnrollmentStore, Issuance, Lapse, Occasion, OfferError, RecordError, RedeemError, Standing,
    TokenClaim,
};
use arkeep_transport::identity::Serial;
use arkeep_transport::token::OfferedToken;
use async_trait::async_trait;
use serde_json::json;

use crate::http::audit::{AgentEvent, AuditLog};

/// Writes down each certificate before it is handed out, and each agent that is refused.
///
/// Connections that are let in are not written: an agent makes one whenever its network changes.
/// What administrators do to agents is in the log as requests over HTTP.
#[derive(Debug)]
pub(crate) struct AuditedEnrollments {
    pub(crate) store: Arc<dyn EnrollmentStore>,
    pub(crate) log: Arc<AuditLog>,
}

impl AuditedEnrollments {
    async fn refused(&self, action: &'static str, agent: Option<AgentId>, result: &'static str) {
        let event = AgentEvent {
            action,
            agent,
            result,
            particulars: json!({}),
        };
        // It is refused already, and the log of the server has it.
        self.log.agent(event).await.ok();
    }
}

#[async_trait]
impl EnrollmentStore for AuditedEnrollments {
    async fn offer(&self, token: &OfferedToken) -> Result<(), OfferError> {
        self.store.offer(token).await
    }

    async fn redeem(&self, claim: &TokenClaim, now: Timestamp) -> Result<AgentId, RedeemError> {
        let redeemed = self.store.redeem(claim, now).await;
        match &redeemed {
            Ok(_) | Err(RedeemError::Store(_)) => {}
            Err(_) => self.refused(ENROLL, None, "unauthorized").await,
        }
        redeemed
    }

    async fn record(&self, issuance: &Issuance) -> Result<(), RecordError> {
        let action = match issuance.occasion {
            Occasion::Enrolled => ENROLL,
            Occasion::Renewed { .. } => RENEW,
        };
        match self.store.record(issuance).await {
            Ok(()) => {
                let event = AgentEvent {
                    action,
                    agent: Some(issuance.agent),
                    result: "ok",
                    particulars: json!({
                        "serial": issuance.serial.to_string(),
                        "not_after": issuance.not_after,
                    }),
                };
                // What cannot be written down is not handed out.
                Ok(self.log.agent(event).await?)
            }
            Err(error) => {
                if let RecordError::Withdrawn = error {
                    let agent = Some(issuance.agent);
                    self.refused(action, agent, "unauthorized").await;
                }
                Err(error)
            }
        }
    }

    async fn standing(&self, agent: AgentId, serial: Serial) -> Result<Standing, StoreError> {
        let standing = self.store.standing(agent, serial).await?;
        if standing == Standing::Refused {
            self.refused(CONNECT, Some(agent), "unauthorized").await;
        }
        Ok(standing)
    }

    async fn confirm(&self, agent: AgentId, serial: Serial) -> Result<(), StoreError> {
        self.store.confirm(agent, serial).await
    }

    async fn lapse(
        &self,
        agent: AgentId,
        serial: Serial,
        now: Timestamp,
    ) -> Result<Lapse, StoreError> {
        let lapse = self.store.lapse(agent, serial, now).await?;
        match lapse {
            Lapse::Approved => {}
            Lapse::Waiting => self.refused(RENEW, Some(agent), "awaiting_approval").await,
            Lapse::Refused => self.refused(RENEW, Some(agent), "unauthorized").await,
        }
        Ok(lapse)
    }

    async fn approve(&self, agent: AgentId, now: Timestamp) -> Result<bool, StoreError> {
        self.store.approve(agent, now).await
    }

    async fn withdraw(&self, agent: AgentId, now: Timestamp) -> Result<(), StoreError> {
        self.store.withdraw(agent, now).await
    }
}

const ENROLL: &str = "agent.enroll";
const RENEW: &str = "agent.renew";
const CONNECT: &str = "agent.connect";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use arkeep_core::testing::ManualClock;
    use arkeep_core::{SystemEntropy, id::uuid_v7};
    use arkeep_transport::token::{JoinDigest, JoinTokenId};

    use super::*;
    use crate::store::AuditStore as _;
    use crate::store::agents::{AgentStore, NewAgent, NewJoinToken};
    use crate::store::sqlite::SqliteStore;

    /// S12: an agent that comes in, renews, and is sent away; and somebody with a wrong secret.
    #[tokio::test]
    async fn every_certificate_and_every_refusal_is_written_down()
    -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let store = SqliteStore::create(&directory.path().join("arkeep.db")).await?;
        let now = Timestamp::from_unix_seconds(1_750_000_000);
        let stores: Arc<SqliteStore> = Arc::new(store.clone());
        let clock = Arc::new(ManualClock::at(now));
        let log = AuditLog::new(stores.clone(), stores.clone(), clock);
        let audited = AuditedEnrollments {
            store: stores,
            log: Arc::new(log),
        };
        let agent = AgentId::mint(now, &SystemEntropy);
        let new = NewAgent {
            id: agent,
            name: "db1".to_owned(),
            labels: BTreeMap::new(),
            created_at: now,
        };
        let token = NewJoinToken {
            id: uuid_v7(now, &SystemEntropy),
            secret_digest: [7; 32],
            created_at: now,
            expires_at: now.plus(Duration::from_secs(60)),
        };
        AgentStore::create(&store, &new, &token).await?;
        let claim = |digest| TokenClaim {
            id: JoinTokenId::from_uuid(token.id),
            digest: JoinDigest::from_bytes(digest),
        };
        let serial = Serial::random(&SystemEntropy);
        let issuance = |serial, occasion| Issuance {
            agent,
            serial,
            not_before: now,
            not_after: now.plus(Duration::from_secs(60)),
            issued_at: now,
            occasion,
        };

        assert!(audited.redeem(&claim([8; 32]), now).await.is_err());
        audited.redeem(&claim([7; 32]), now).await?;
        audited
            .record(&issuance(serial, Occasion::Enrolled))
            .await?;
        assert_eq!(audited.standing(agent, serial).await?, Standing::Good);
        let next = Serial::random(&SystemEntropy);
        let renewed = issuance(next, Occasion::Renewed { with: serial });
        audited.record(&renewed).await?;
        audited.withdraw(agent, now).await?;
        assert_eq!(audited.standing(agent, next).await?, Standing::Refused);

        let entries = store.following(0, 10).await?;
        let told: Vec<_> = entries
            .iter()
            .map(|entry| {
                let says = &entry.says;
                let known = says.actor.id == Some(agent.to_string());
                (&*says.action, &*says.result, &*says.actor.kind, known)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("agent.enroll", "unauthorized", "anonymous", false),
                ("agent.enroll", "ok", "agent", true),
                ("agent.renew", "ok", "agent", true),
                ("agent.connect", "unauthorized", "agent", true),
            ]
        );
        let serials: Vec<_> = entries
            .iter()
            .map(|entry| entry.says.changes.to_value()["serial"].clone())
            .collect();
        assert_eq!(serials[1], serial.to_string());
        Ok(())
    }
}
