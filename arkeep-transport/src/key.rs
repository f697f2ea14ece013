//! A fresh key and the request to certify it.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
#[cfg(feature = "server")]
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A P-256 key that was made in this process.
pub(crate) struct FreshKey(KeyPair);

impl FreshKey {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| KeyError)
    }

    /// A signing request that asks for nothing: the CA decides on names and purposes.
    pub(crate) fn csr(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(|_| KeyError)?;
        Ok(request.der().to_vec())
    }

    #[cfg(feature = "client")]
    pub(crate) fn spki(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(&self.0)
    }

    #[cfg(feature = "client")]
    pub(crate) fn pem(&self) -> arkeep_core::SecretString {
        arkeep_core::SecretString::from(self.0.serialize_pem())
    }

    #[cfg(feature = "server")]
    pub(crate) fn der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}

/// The crypto provider made no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the crypto provider made no key")]
pub(crate) struct KeyError;
