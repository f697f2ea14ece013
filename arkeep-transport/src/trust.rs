//! Which roots an agent believes.
//!
//! Server and agent trust one another by a private CA and nothing else: no root of the operating
//! system is ever consulted. A [`TrustBundle`] is the set of roots in force. It usually holds one;
//! while the CA is being replaced it holds the old and the new, and a [`TrustDigest`] tells which
//! set an agent has taken over.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};

/// The roots in force, as DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle(Vec<Vec<u8>>);

impl TrustBundle {
    /// Takes up roots as DER certificates. Their order and repetitions do not matter.
    ///
    /// # Errors
    ///
    /// [`TrustBundleError`] when there are none, or more than a rotation ever needs.
    pub fn new(roots: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, TrustBundleError> {
        let mut roots: Vec<_> = roots.into_iter().take(MAX_ROOTS + 1).collect();
        roots.sort_unstable();
        roots.dedup();
        match roots.len() {
            0 => Err(TrustBundleError::Empty),
            1..=MAX_ROOTS => Ok(Self(roots)),
            _ => Err(TrustBundleError::TooMany),
        }
    }

    /// The roots, as DER certificates.
    pub fn roots(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// The roots, as PEM.
    #[cfg(any(feature = "server", feature = "client"))]
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.roots().map(crate::pem::encode).collect()
    }

    /// Takes up roots from PEM.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new); a text that is not PEM holds no roots.
    #[cfg(any(feature = "server", feature = "client"))]
    pub fn from_pem(text: &str) -> Result<Self, TrustBundleError> {
        Self::new(crate::pem::certificates(text).unwrap_or_default())
    }

    /// What an agent shows in place of the bundle.
    #[must_use]
    pub fn digest(&self) -> TrustDigest {
        let mut context = Context::new(&SHA256);
        for root in &self.0 {
            context.update(digest(&SHA256, root).as_ref());
        }
        TrustDigest(sha256(context))
    }
}

// Old and new during a rotation, and room for rotations that overlap.
const MAX_ROOTS: usize = 8;

/// The roots are not a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustBundleError {
    /// There is no root, so nothing could be trusted.
    #[error("the trust bundle is empty")]
    Empty,
    /// There are more roots than a rotation ever needs.
    #[error("the trust bundle holds more than {MAX_ROOTS} roots")]
    TooMany,
}

macro_rules! digests {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes over a digest that was made elsewhere.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The digest's bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )+};
}

digests! {
    /// SHA-256 over a [`TrustBundle`].
    TrustDigest;
    /// SHA-256 of a root's public key (its SubjectPublicKeyInfo, as DER).
    ///
    /// A certificate that is made anew for the same key has the same fingerprint.
    SpkiFingerprint;
}

impl SpkiFingerprint {
    /// The fingerprint of a SubjectPublicKeyInfo.
    #[must_use]
    pub fn of(spki_der: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(spki_der);
        Self(sha256(context))
    }

    /// The fingerprint of a certificate's key; nothing when it is no certificate.
    #[cfg(any(feature = "server", feature = "client"))]
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        crate::certificate::fingerprint_of(der)
    }
}

pub(crate) fn sha256(context: Context) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_roots_does_not_matter() -> Result<(), TrustBundleError> {
        let one = TrustBundle::new([vec![1], vec![2], vec![1]])?;
        let other = TrustBundle::new([vec![2], vec![1]])?;

        assert_eq!(one, other);
        assert_eq!(one.digest(), other.digest());
        assert_ne!(one.digest(), TrustBundle::new([vec![1]])?.digest());
        Ok(())
    }

    #[test]
    fn trusting_nobody_is_not_a_bundle() {
        assert_eq!(TrustBundle::new([]), Err(TrustBundleError::Empty));
        assert_eq!(
            TrustBundle::new((0..=8).map(|root| vec![root])),
            Err(TrustBundleError::TooMany)
        );
    }
}
