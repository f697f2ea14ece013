use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use arkeep_core::{AgentId, Timestamp};

use crate::ca::{CertificateChain, CheckedCsr, IssueError, IssueRequest, Subject};
use crate::certificate::Leaf;
use crate::enrollment::{Issuance, Lapse, Occasion, RecordError, RedeemError, TokenClaim};
use crate::identity::{AgentIdentity, Serial};
use crate::proto::enrollment_server::Enrollment;
use crate::proto::{EnrollRequest, EnrollResponse, RenewRequest, RenewResponse};
use crate::status::Refusal;
use crate::token::{JoinSecret, JoinTokenId};
use crate::trust::TrustBundle;

use super::Shared;
use super::connection::Connection;
use super::judge::Admitted;
use super::rates::Network;

/// Issues certificates: for a join token, or for the certificate before.
#[derive(Debug)]
pub(super) struct EnrollmentService(Arc<Shared>);

impl EnrollmentService {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    async fn admit(&self, from: IpAddr, request: EnrollRequest) -> Result<EnrollResponse, Refusal> {
        let taken = self
            .0
            .rates
            .enrollments
            .take(Network::of(from), Instant::now());
        taken.map_err(Refusal::too_often)?;
        let parts = &self.0.parts;
        let now = parts.clock.now();
        // All that can go wrong without the token is tried first: it can be spent only once.
        let csr = CheckedCsr::check(&request.csr).map_err(|_| Refusal::Csr)?;
        let bundle = self.bundle().await?;
        let id = JoinTokenId::from_slice(&request.token_id).ok_or(Refusal::Token)?;
        let secret = JoinSecret::from_slice(&request.secret).ok_or(Refusal::Token)?;
        let digest = secret.digest(id);
        let claim = TokenClaim { id, digest };
        let agent = parts.store.redeem(&claim, now).await?;
        let (chain, serial) = self.issue(&csr, agent, now, Occasion::Enrolled).await?;
        // A machine that enrols anew leaves its earlier certificates to nobody.
        self.0.registry.superseded(agent, serial);
        tracing::info!(%agent, %serial, "an agent has enrolled");
        Ok(EnrollResponse {
            agent_id: agent.as_uuid().into_bytes().to_vec(),
            certificate_chain: chain.0,
            trust_bundle: ders(&bundle),
        })
    }

    async fn extend(
        &self,
        identity: &AgentIdentity,
        request: RenewRequest,
    ) -> Result<RenewResponse, Refusal> {
        let parts = &self.0.parts;
        let now = parts.clock.now();
        let (agent, with) = (identity.agent(), identity.serial());
        let taken = self.0.rates.renewals.take(agent, Instant::now());
        taken.map_err(Refusal::too_often)?;
        let csr = CheckedCsr::check(&request.csr).map_err(|_| Refusal::Csr)?;
        let bundle = self.bundle().await?;
        if now > identity.not_after() {
            match parts.store.lapse(agent, with, now).await {
                Ok(Lapse::Approved) => {}
                Ok(Lapse::Waiting) => return Err(Refusal::AwaitingApproval),
                Ok(Lapse::Refused) => return Err(Refusal::Unwelcome),
                Err(_) => return Err(Refusal::Unavailable),
            }
        }
        let renewed = Occasion::Renewed { with };
        let (chain, serial) = self.issue(&csr, agent, now, renewed).await?;
        tracing::info!(%agent, %serial, "an agent has renewed its certificate");
        Ok(RenewResponse {
            certificate_chain: chain.0,
            trust_bundle: ders(&bundle),
        })
    }

    /// Issues a certificate, looks whether it is what was asked for, and records it.
    async fn issue(
        &self,
        csr: &CheckedCsr,
        agent: AgentId,
        now: Timestamp,
        occasion: Occasion,
    ) -> Result<(CertificateChain, Serial), Refusal> {
        let Shared { parts, config, .. } = &*self.0;
        let uri = config.trust_domain.agent_uri(agent);
        let request = IssueRequest {
            csr,
            subject: Subject::Agent { agent, uri },
            validity: config.agent_validity,
            now,
        };
        let chain = parts
            .ca
            .issue(request)
            .await
            .map_err(|error| refused(&error))?;
        let end = now.plus(config.agent_validity);
        let leaf = chain.0.first().and_then(|leaf| Leaf::read(leaf));
        let leaf = leaf.filter(|leaf| {
            let named = AgentIdentity::from_verified(leaf, &config.trust_domain);
            named.is_some_and(|named| named.agent() == agent)
                && !leaf.server_auth
                && leaf.spki == csr.public_key()
                && leaf.is_current(now)
                && leaf.not_after <= end
        });
        let Some(leaf) = leaf else {
            let what = "the certificate for an agent is not what was asked for";
            return Err(refused(&IssueError::Refused(what.to_owned())));
        };
        let issuance = Issuance {
            agent,
            serial: leaf.serial,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issued_at: now,
            occasion,
        };
        parts.store.record(&issuance).await?;
        Ok((chain, leaf.serial))
    }

    async fn bundle(&self) -> Result<TrustBundle, Refusal> {
        let bundle = self.0.parts.ca.trust_bundle().await;
        bundle.map_err(|error| refused(&error))
    }
}

#[tonic::async_trait]
impl Enrollment for EnrollmentService {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let connection = request.extensions().get::<Arc<Connection>>();
        let from = connection.ok_or(Refusal::Unwelcome)?.address().ip();
        let issued = self.admit(from, request.into_inner()).await?;
        Ok(Response::new(issued))
    }

    async fn renew(
        &self,
        mut request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let admitted = request.extensions_mut().remove::<Admitted>();
        let Admitted { identity, .. } = admitted.ok_or(Refusal::Unwelcome)?;
        let issued = self.extend(&identity, request.into_inner()).await?;
        Ok(Response::new(issued))
    }
}

fn ders(bundle: &TrustBundle) -> Vec<Vec<u8>> {
    bundle.roots().map(<[u8]>::to_vec).collect()
}

// The caller can do nothing about it, so it learns nothing of it.
fn refused(error: &IssueError) -> Refusal {
    let error = error as &dyn std::error::Error;
    tracing::error!(error, "no certificate was issued");
    Refusal::Unavailable
}

impl From<RedeemError> for Refusal {
    fn from(error: RedeemError) -> Self {
        match error {
            RedeemError::Refused => Self::Token,
            RedeemError::Expired => Self::TokenExpired,
            RedeemError::Used => Self::TokenUsed,
            RedeemError::Store(_) => Self::Unavailable,
        }
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Withdrawn => Self::Unwelcome,
            RecordError::Store(_) => Self::Unavailable,
        }
    }
}
