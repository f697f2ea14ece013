use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use x509_parser::prelude::FromDer;

use arkeep_core::{Entropy, ExposeSecret, SecretString, SystemEntropy, Timestamp};

use crate::identity::Serial;
use crate::pem;
use crate::trust::{SpkiFingerprint, TrustBundle, TrustBundleError};

use super::{CertificateAuthority, CertificateChain, IssueError, IssueRequest, Subject};

/// A CA whose one root key is in this process.
///
/// The key is a P-256 key. It never leaves the process by itself: [`generate`](Self::generate)
/// returns it once, for the caller to seal and store.
///
/// # Example
///
/// ```
/// # use arkeep_core::Timestamp;
/// # use arkeep_transport::ca::LocalCa;
/// # let now = Timestamp::from_unix_millis(1_700_000_000_000);
/// let (ca, key) = LocalCa::generate(now)?;
/// let certificate = ca.root_pem(); // public; keep it beside the sealed key
///
/// let again = LocalCa::load(&certificate, &key)?;
/// assert_eq!(again.fingerprint(), ca.fingerprint());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LocalCa {
    root: Vec<u8>,
    fingerprint: SpkiFingerprint,
    validity: (Timestamp, Timestamp),
    issuer: Issuer<'static, KeyPair>,
    bundle: TrustBundle,
    entropy: Arc<dyn Entropy>,
}

impl LocalCa {
    /// Makes a new root, and returns its private key (PKCS #8 PEM) beside it. Seal the key before
    /// it is stored.
    ///
    /// # Errors
    ///
    /// [`LoadCaError`] when the crypto provider makes no key.
    pub fn generate(now: Timestamp) -> Result<(Self, SecretString), LoadCaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(LoadCaError::key)?;
        let serial = Serial::random(&SystemEntropy);
        let mut params = CertificateParams::default();
        // Named apart, since two roots live side by side while a CA is replaced.
        params.distinguished_name = common_name(&format!("Arkeep CA {serial}"));
        params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
        params.not_before = date!(now.minus(BACKDATED));
        params.not_after = date!(now.plus(ROOT_VALIDITY));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key).map_err(LoadCaError::key)?;
        let pem = SecretString::from(key.serialize_pem());
        Ok((Self::assemble(root.der().to_vec(), key)?, pem))
    }

    /// Takes up a root that [`generate`](Self::generate) made: its certificate and its key, as PEM.
    ///
    /// # Errors
    ///
    /// [`LoadCaError`] when either is not what it should be, or they do not belong together.
    pub fn load(certificate_pem: &str, key_pem: &SecretString) -> Result<Self, LoadCaError> {
        let root = match pem::certificates(certificate_pem).as_deref() {
            Some([root]) => root.clone(),
            _ => return Err(LoadCaError::Certificate),
        };
        let key = KeyPair::from_pem(key_pem.expose_secret()).map_err(LoadCaError::key)?;
        Self::assemble(root, key)
    }

    /// Trusts these roots beside its own, while one CA takes the place of another.
    ///
    /// # Errors
    ///
    /// [`TrustBundleError`] when they are more than a bundle holds.
    pub fn with_trusted(
        mut self,
        roots: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Self, TrustBundleError> {
        self.bundle = TrustBundle::new(std::iter::once(self.root.clone()).chain(roots))?;
        Ok(self)
    }

    /// The root certificate, as PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        pem::encode(&self.root)
    }

    /// The root certificate, as DER.
    #[must_use]
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// What join tokens name this CA by.
    #[must_use]
    pub const fn fingerprint(&self) -> SpkiFingerprint {
        self.fingerprint
    }

    /// From when on the root is valid.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.validity.0
    }

    /// Until when the root is valid.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.validity.1
    }

    fn assemble(root: Vec<u8>, key: KeyPair) -> Result<Self, LoadCaError> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&root)
            .map_err(|_| LoadCaError::Certificate)?;
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        if parsed.public_key().raw != spki {
            return Err(LoadCaError::Mismatch);
        }
        if !parsed.is_ca() {
            return Err(LoadCaError::Certificate);
        }
        let fingerprint = SpkiFingerprint::of(&spki);
        let seconds =
            |time: x509_parser::time::ASN1Time| Timestamp::from_unix_seconds(time.timestamp());
        let validity = parsed.validity();
        let validity = (seconds(validity.not_before), seconds(validity.not_after));
        let issuer = Issuer::from_ca_cert_der(&root.as_slice().into(), key)
            .map_err(|_| LoadCaError::Certificate)?;
        let bundle = TrustBundle::new([root.clone()]).map_err(|_| LoadCaError::Certificate)?;
        Ok(Self {
            root,
            fingerprint,
            validity,
            issuer,
            bundle,
            entropy: Arc::new(SystemEntropy),
        })
    }

    fn sign(&self, request: &IssueRequest<'_>) -> Result<Vec<u8>, rcgen::Error> {
        let key = rcgen::SubjectPublicKeyInfo::from_der(request.csr.public_key())?;
        let serial = Serial::random(self.entropy.as_ref());
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
        params.not_before = date!(request.now.minus(BACKDATED));
        params.not_after = date!(request.now.plus(request.validity));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let (name, usage, san) = match &request.subject {
            Subject::Agent { agent, uri } => (
                agent.to_string(),
                ExtendedKeyUsagePurpose::ClientAuth,
                SanType::URI(uri.as_str().try_into()?),
            ),
            Subject::Server { dns_name } => (
                dns_name.clone(),
                ExtendedKeyUsagePurpose::ServerAuth,
                SanType::DnsName(dns_name.as_str().try_into()?),
            ),
        };
        params.distinguished_name = common_name(&name);
        params.extended_key_usages = vec![usage];
        params.subject_alt_names = vec![san];
        Ok(params.signed_by(&key, &self.issuer)?.der().to_vec())
    }
}

#[async_trait]
impl CertificateAuthority for LocalCa {
    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        Ok(self.bundle.clone())
    }

    async fn fingerprint(&self) -> Result<SpkiFingerprint, IssueError> {
        Ok(self.fingerprint)
    }

    async fn issue(&self, request: IssueRequest<'_>) -> Result<CertificateChain, IssueError> {
        let leaf = self
            .sign(&request)
            .map_err(|error| IssueError::Refused(error.to_string()))?;
        Ok(CertificateChain(vec![leaf]))
    }
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// A root cannot be used.
///
/// No part of the key is in the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadCaError {
    /// The certificate is not one CA certificate in PEM.
    #[error("the CA certificate cannot be read")]
    Certificate,
    /// The key is not a PKCS #8 private key in PEM, or none could be made.
    #[error("the CA key cannot be used")]
    Key,
    /// The key is of another certificate.
    #[error("the CA key does not belong to the CA certificate")]
    Mismatch,
}

impl LoadCaError {
    // What rcgen says of a key is dropped: it might quote it.
    fn key(_: rcgen::Error) -> Self {
        Self::Key
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

// rcgen shows the type of its dates, but not by name.
macro_rules! date {
    ($moment:expr) => {
        rcgen::date_time_ymd(1970, 1, 1)
            + Duration::from_millis(u64::try_from($moment.as_unix_millis()).unwrap_or(0))
    };
}
use date;

/// For clocks that lag.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
const ROOT_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
