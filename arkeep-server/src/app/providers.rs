//! The client that calls where administrators say, and what speaks with identity providers.

use std::sync::Arc;

use arkeep_auth::oidc::{GuardedClient, HttpWeb, Reach, RelyingParty};
use arkeep_core::Entropy;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::config::serve::ServeConfig;
use crate::store::Database;

/// No client could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The TLS library refuses its own versions.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The HTTP library refuses what it was given.
    #[error("HTTP cannot be set up")]
    Http(#[from] reqwest::Error),
}

/// Where browsers come back to is the server's own address, which the operator says.
pub(super) fn relying_party(
    config: &ServeConfig,
    store: &Arc<dyn Database>,
    entropy: &Arc<dyn Entropy>,
    client: &GuardedClient,
) -> Option<RelyingParty> {
    let public_url = config.public_url.as_ref()?;
    Some(RelyingParty::new(
        HttpWeb::over(client.clone()),
        store.clone(),
        Arc::clone(entropy),
        &format!("{public_url}/api/v1/auth/oidc/callback"),
    ))
}

/// Reaches no special addresses but those that the operator allows.
pub(super) fn outbound(
    config: &ServeConfig,
) -> Result<(GuardedClient, Arc<ClientConfig>), ClientError> {
    let allowed = config.outbound_allow.clone();
    let reach = Reach::also(move |address| allowed.iter().any(|network| network.contains(address)));
    let tls = tls()?;
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls.clone());
    Ok((GuardedClient::new(client, reach)?, Arc::new(tls)))
}

fn tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = || {
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
    };
    match builder()?.with_platform_verifier() {
        Ok(builder) => Ok(builder.with_no_client_auth()),
        // A machine without certificates serves all the same; only what it would call is out of its reach.
        Err(error) => {
            tracing::warn!(%error, "this machine trusts no certificates: no identity provider and no channel can be called");
            let nobody = RootCertStore::empty();
            Ok(builder()?
                .with_root_certificates(nobody)
                .with_no_client_auth())
        }
    }
}
