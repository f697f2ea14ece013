//! What a CA signs, whoever implements it.

use std::time::Duration;

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use arkeep_core::{AgentId, ExposeSecret, SystemEntropy, Timestamp};
use arkeep_transport::ca::{
    CertificateAuthority, CertificateChain, CheckedCsr, CsrError, IssueError, IssueRequest,
    LoadCaError, LocalCa, Subject,
};
use arkeep_transport::client::{EnrollError, enroll};
use arkeep_transport::identity::TrustDomain;
use arkeep_transport::server::{OpenPortError, PortConfig};
use arkeep_transport::trust::{SpkiFingerprint, TrustBundle};

use crate::stand::{Outcome, Stand, agent_subject, hello, noon};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn csr_of(key: &KeyPair, params: &CertificateParams) -> Result<Vec<u8>, rcgen::Error> {
    Ok(params.serialize_request(key)?.der().to_vec())
}

fn issue_request(csr: &CheckedCsr, agent: AgentId) -> IssueRequest<'_> {
    IssueRequest {
        csr,
        subject: agent_subject(agent),
        validity: 7 * DAY,
        now: noon(),
    }
}

/// T1
#[tokio::test]
async fn nothing_of_a_signing_request_counts_but_its_key() -> Outcome {
    let (ca, _) = LocalCa::generate(noon())?;
    let agent = AgentId::mint(noon(), &SystemEntropy);
    let victim = AgentId::mint(noon(), &SystemEntropy);
    let key = KeyPair::generate()?;
    let mut greedy = CertificateParams::default();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let uri = TrustDomain::default().agent_uri(victim);
    greedy.subject_alt_names = vec![
        SanType::URI(uri.as_str().try_into()?),
        SanType::DnsName("agents.arkeep.internal".try_into()?),
    ];
    greedy
        .distinguished_name
        .push(DnType::CommonName, victim.to_string());

    let csr = CheckedCsr::check(&csr_of(&key, &greedy)?)?;
    let CertificateChain(chain) = ca.issue(issue_request(&csr, agent)).await?;

    let [leaf] = chain.as_slice() else {
        return Err("one certificate was asked for".into());
    };
    let (_, leaf) = X509Certificate::from_der(leaf)?;
    let names = leaf.subject_alternative_name()?.ok_or("no name")?.value;
    let expected = TrustDomain::default().agent_uri(agent);
    assert_eq!(names.general_names, [GeneralName::URI(&expected)]);
    assert!(!leaf.is_ca());
    let purpose = leaf.extended_key_usage()?.ok_or("no purpose")?.value;
    assert!(purpose.client_auth && !purpose.server_auth && !purpose.any);
    let usage = leaf.key_usage()?.ok_or("no usage")?.value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    assert!(!leaf.subject().to_string().contains(&victim.to_string()));
    assert_eq!(leaf.public_key().raw, csr.public_key());
    assert_eq!(
        leaf.validity().not_after.timestamp(),
        noon().plus(7 * DAY).as_unix_seconds()
    );
    Ok(())
}

/// T1
#[tokio::test]
async fn serial_numbers_are_random() -> Outcome {
    let (ca, _) = LocalCa::generate(noon())?;
    let agent = AgentId::mint(noon(), &SystemEntropy);
    let key = KeyPair::generate()?;
    let csr = CheckedCsr::check(&csr_of(&key, &CertificateParams::default())?)?;
    let mut serials = std::collections::BTreeSet::new();
    let mut longest = 0;

    for _ in 0..100 {
        let CertificateChain(chain) = ca.issue(issue_request(&csr, agent)).await?;
        let (_, leaf) = X509Certificate::from_der(chain.first().ok_or("nothing")?)?;
        longest = longest.max(leaf.serial.bits());
        serials.insert(leaf.serial.to_bytes_be());
    }

    assert_eq!(serials.len(), 100);
    assert!((121..=128).contains(&longest), "{longest}");
    Ok(())
}

/// T1
#[test]
fn a_request_must_be_signed_by_its_own_key() -> Outcome {
    let good = csr_of(&KeyPair::generate()?, &CertificateParams::default())?;
    assert!(CheckedCsr::check(&good).is_ok());

    let mut taken = Vec::new();
    for at in 0..good.len() {
        let mut altered = good.clone();
        if let Some(byte) = altered.get_mut(at) {
            *byte ^= 1;
        }
        if CheckedCsr::check(&altered).is_ok() {
            taken.push(at);
        }
    }
    assert_eq!(taken, Vec::<usize>::new(), "{good:02x?}");
    for end in 0..good.len() {
        let cut = CheckedCsr::check(good.get(..end).unwrap_or_default());
        assert_eq!(cut.err(), Some(CsrError::Malformed), "{end}");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(CheckedCsr::check(&longer).err(), Some(CsrError::Malformed));
    Ok(())
}

/// T1
#[test]
fn keys_are_of_p256_or_ed25519() -> Outcome {
    let params = CertificateParams::default();
    for (algorithm, taken) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, true),
        (&rcgen::PKCS_ED25519, true),
        (&rcgen::PKCS_ECDSA_P384_SHA384, false),
        (&rcgen::PKCS_ECDSA_P521_SHA512, false),
        (&rcgen::PKCS_RSA_SHA256, false),
    ] {
        let key = KeyPair::generate_for(algorithm)?;
        let checked = CheckedCsr::check(&csr_of(&key, &params)?);
        assert_eq!(checked.is_ok(), taken, "{algorithm:?}: {checked:?}");
    }
    Ok(())
}

/// T1
#[test]
fn a_root_is_loaded_with_its_own_key_only() -> Outcome {
    let (ca, key) = LocalCa::generate(noon())?;
    let (other, _) = LocalCa::generate(noon())?;

    let again = LocalCa::load(&ca.root_pem(), &key)?;
    assert_eq!(again.fingerprint(), ca.fingerprint());
    assert_eq!(again.root_der(), ca.root_der());

    let mixed = LocalCa::load(&other.root_pem(), &key);
    assert_eq!(mixed.err(), Some(LoadCaError::Mismatch));
    let swapped = LocalCa::load(key.expose_secret(), &ca.root_pem().into());
    assert!(swapped.is_err());
    Ok(())
}

/// V8
#[test]
fn a_root_prints_no_key() -> Outcome {
    let (ca, key) = LocalCa::generate(noon())?;
    let line = key
        .expose_secret()
        .lines()
        .nth(1)
        .ok_or("no key")?
        .to_owned();

    assert!(!format!("{ca:?} {key:?}").contains(&line));
    Ok(())
}

/// A company's CA: the root is locked away, and an intermediate signs.
#[derive(Debug)]
struct CompanyCa {
    root: Vec<u8>,
    intermediate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    mischief: Mischief,
}

/// What a CA may get wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mischief {
    None,
    AnotherAgent,
    AnotherKey,
    ForServersToo,
    TooLong,
    IsCa,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl CompanyCa {
    fn new(mischief: Mischief) -> Result<Self, rcgen::Error> {
        let root_key = KeyPair::generate()?;
        let root = authority("Company Root").self_signed(&root_key)?;
        let root_issuer = Issuer::new(authority("Company Root"), root_key);
        let key = KeyPair::generate()?;
        let below = authority("Company Agents").signed_by(&key, &root_issuer)?;
        Ok(Self {
            root: root.der().to_vec(),
            intermediate: below.der().to_vec(),
            issuer: Issuer::new(authority("Company Agents"), key),
            mischief,
        })
    }

    fn fingerprint(&self) -> Result<SpkiFingerprint, Box<dyn std::error::Error>> {
        let (_, root) = X509Certificate::from_der(&self.root)?;
        Ok(SpkiFingerprint::of(root.public_key().raw))
    }

    fn sign(&self, request: &IssueRequest<'_>) -> Result<Vec<u8>, rcgen::Error> {
        let key = rcgen::SubjectPublicKeyInfo::from_der(request.csr.public_key())?;
        let mut params = CertificateParams::default();
        let date = |moment: Timestamp| {
            rcgen::date_time_ymd(1970, 1, 1) + moment.since(Timestamp::UNIX_EPOCH)
        };
        params.not_before = date(request.now);
        params.not_after = date(request.now.plus(request.validity));
        let (usage, san) = match &request.subject {
            Subject::Agent { uri, .. } => {
                let uri = match self.mischief {
                    Mischief::AnotherAgent => {
                        TrustDomain::default().agent_uri(AgentId::mint(request.now, &SystemEntropy))
                    }
                    _ => uri.clone(),
                };
                let uri = uri.as_str().try_into()?;
                (ExtendedKeyUsagePurpose::ClientAuth, SanType::URI(uri))
            }
            Subject::Server { dns_name } => {
                let name = dns_name.as_str().try_into()?;
                (ExtendedKeyUsagePurpose::ServerAuth, SanType::DnsName(name))
            }
        };
        params.extended_key_usages = vec![usage];
        params.subject_alt_names = vec![san];
        if matches!(request.subject, Subject::Agent { .. }) {
            match self.mischief {
                Mischief::ForServersToo => {
                    params
                        .extended_key_usages
                        .push(ExtendedKeyUsagePurpose::ServerAuth);
                }
                Mischief::TooLong => params.not_after = date(request.now.plus(365 * DAY)),
                Mischief::IsCa => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
                Mischief::AnotherKey => {
                    let other = KeyPair::generate()?;
                    return Ok(params.signed_by(&other, &self.issuer)?.der().to_vec());
                }
                Mischief::None | Mischief::AnotherAgent => {}
            }
        }
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

/// T10
#[tokio::test]
async fn a_ca_of_ones_own_takes_the_place_of_ours() -> Outcome {
    let ca = CompanyCa::new(Mischief::None)?;
    let fingerprint = ca.fingerprint()?;
    let stand = Stand::start_over(ca, fingerprint, PortConfig::default()).await?;

    let enrolled = stand.enroll().await?;
    let agent = stand.connector(enrolled.credential)?;
    let link = agent.connect(&hello(&agent)).await?;
    let renewal = agent.renew().await?;

    assert_eq!(link.welcome().generation.0, 1);
    assert_eq!(renewal.credential.agent(), agent.agent());
    Ok(())
}

/// T1
#[tokio::test]
async fn a_certificate_that_says_something_else_is_not_handed_out() -> Outcome {
    for mischief in [
        Mischief::AnotherAgent,
        Mischief::AnotherKey,
        Mischief::ForServersToo,
        Mischief::TooLong,
        Mischief::IsCa,
    ] {
        let ca = CompanyCa::new(mischief)?;
        let fingerprint = ca.fingerprint()?;
        let stand = Stand::start_over(ca, fingerprint, PortConfig::default()).await?;
        let token = stand.token().await?;

        let refused = enroll(&token, &stand.clock()).await;

        assert!(
            matches!(refused, Err(EnrollError::Unavailable)),
            "{mischief:?}: {refused:?}"
        );
    }
    Ok(())
}

/// T1
#[tokio::test]
async fn certificates_live_between_an_hour_and_thirty_days() -> Outcome {
    for (validity, taken) in [
        (Duration::from_secs(3599), false),
        (Duration::from_secs(3600), true),
        (30 * DAY, true),
        (30 * DAY + Duration::from_secs(1), false),
    ] {
        let config = PortConfig {
            agent_validity: validity,
            ..PortConfig::default()
        };
        match Stand::start_with(config).await {
            Ok(stand) => {
                assert!(taken);
                let enrolled = stand.enroll().await?;
                assert_eq!(enrolled.credential.not_after(), noon().plus(validity));
            }
            Err(error) => {
                assert!(!taken);
                let error = error.downcast_ref::<OpenPortError>();
                assert!(
                    matches!(error, Some(OpenPortError::AgentValidity)),
                    "{error:?}"
                );
            }
        }
    }
    Ok(())
}

/// T7
#[tokio::test]
async fn the_servers_certificate_renews_itself() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;

    for _ in 0..4 {
        // Each step is longer than what is left of the certificate before at two thirds of its life.
        stand.clock.advance(5 * DAY);
        let renewal = agent.renew().await?;
        agent.replace(renewal.credential, renewal.trust)?;
        agent.connect(&hello(&agent)).await?;
    }
    Ok(())
}

#[test]
fn an_extension_that_nobody_knows_does_not_matter() -> Outcome {
    let key = KeyPair::generate()?;
    let mut odd = CertificateParams::default();
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    odd.custom_extensions = vec![extension];

    assert!(CheckedCsr::check(&csr_of(&key, &odd)?).is_ok());
    Ok(())
}
