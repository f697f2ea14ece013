//! A company's own CA, with its root locked away and an intermediate that signs, in the place of
//! ours: one trait to implement.
//!
//! `cargo run -p arkeep-transport --all-features --example bring_your_own_ca`

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use arkeep_core::{AgentId, Clock, SystemClock, SystemEntropy, Timestamp};
use arkeep_transport::ca::{
    CertificateAuthority, CertificateChain, CheckedCsr, IssueError, IssueRequest, Subject,
};
use arkeep_transport::identity::TrustDomain;
use arkeep_transport::trust::TrustBundle;
use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

/// An HSM or a service would be asked here; this one signs by itself.
#[derive(Debug)]
struct CompanyCa {
    root: Vec<u8>,
    intermediate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl CompanyCa {
    fn found() -> Result<Self, rcgen::Error> {
        let root_key = KeyPair::generate()?;
        let root = authority("Company Root").self_signed(&root_key)?;
        let root_issuer = Issuer::new(authority("Company Root"), root_key);
        let key = KeyPair::generate()?;
        let intermediate = authority("Company Agents").signed_by(&key, &root_issuer)?;
        // The root's key ends here: it is for the next intermediate, and lives in a safe.
        Ok(Self {
            root: root.der().to_vec(),
            intermediate: intermediate.der().to_vec(),
            issuer: Issuer::new(authority("Company Agents"), key),
        })
    }

    fn sign(&self, request: &IssueRequest<'_>) -> Result<Vec<u8>, rcgen::Error> {
        // The request's key, and nothing else of it.
        let key = rcgen::SubjectPublicKeyInfo::from_der(request.csr.public_key())?;
        let mut params = CertificateParams::default();
        params.not_before = date!(request.now);
        params.not_after = date!(request.now.plus(request.validity));
        let (usage, name) = match &request.subject {
            Subject::Agent { uri, .. } => {
                let uri = SanType::URI(uri.as_str().try_into()?);
                (ExtendedKeyUsagePurpose::ClientAuth, uri)
            }
            Subject::Server { dns_name } => {
                let name = SanType::DnsName(dns_name.as_str().try_into()?);
                (ExtendedKeyUsagePurpose::ServerAuth, name)
            }
        };
        params.extended_key_usages = vec![usage];
        params.subject_alt_names = vec![name];
        Ok(params.signed_by(&key, &self.issuer)?.der().to_vec())
    }
}

#[async_trait]
impl CertificateAuthority for CompanyCa {
    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        TrustBundle::new([self.root.clone()]).map_err(|e| IssueError::Refused(e.to_string()))
    }

    async fn issue(&self, request: IssueRequest<'_>) -> Result<CertificateChain, IssueError> {
        let leaf = self.sign(&request);
        let leaf = leaf.map_err(|error| IssueError::Refused(error.to_string()))?;
        Ok(CertificateChain(vec![leaf, self.intermediate.clone()]))
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

// The type of rcgen's dates has a name in another crate only.
macro_rules! date {
    ($moment:expr) => {{
        let moment: Timestamp = $moment;
        rcgen::date_time_ymd(1970, 1, 1) + moment.since(Timestamp::UNIX_EPOCH)
    }};
}
use date;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ca = CompanyCa::found()?;

    // What the port for agents does with a request that comes in.
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let csr = CheckedCsr::check(request.der())?;
    let agent = AgentId::mint(SystemClock.now(), &SystemEntropy);
    let uri = TrustDomain::default().agent_uri(agent);
    let chain = ca
        .issue(IssueRequest {
            csr: &csr,
            subject: Subject::Agent { agent, uri },
            validity: std::time::Duration::from_secs(7 * 24 * 3600),
            now: SystemClock.now(),
        })
        .await?;

    println!(
        "{} certificates lead from {agent} to the root:",
        chain.0.len()
    );
    println!("{}", ca.trust_bundle().await?.to_pem());
    // From here on it is `PortParts { ca: Arc::new(ca), … }`, as in `enroll_and_call`.
    Ok(())
}
