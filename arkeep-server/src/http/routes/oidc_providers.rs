//! Identity providers, as an administrator describes them.

use arkeep_auth::OidcProviderId;
use arkeep_auth::oidc::{Provider, RelyingParty, RoleMap};
use arkeep_core::{ExposeSecret, SecretString};
use arkeep_vault::Sealed;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::audit;
use super::super::body::{Json, MergePatch};
use super::super::checks::{Checks, is_plain};
use super::super::params::{Id, Params};
use super::super::patch::{self, IfMatch, Tagged};
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use super::{PageBody, created, page};
use crate::store::identity::{NewProvider, ProviderEdit, StoredProvider};
use crate::store::{SecretChange, sealed};

#[derive(Serialize)]
pub(super) struct ProviderBody {
    id: OidcProviderId,
    version: u64,
    client_secret_set: bool,
    #[serde(flatten)]
    written: Writable,
}

impl From<StoredProvider> for ProviderBody {
    fn from(stored: StoredProvider) -> Self {
        Self {
            id: stored.id,
            version: stored.version,
            client_secret_set: stored.client_secret.is_some(),
            written: stored.into(),
        }
    }
}

/// What of a provider can be written and read.
#[derive(Serialize)]
struct Writable {
    name: String,
    issuer: String,
    client_id: String,
    scopes: Vec<String>,
    role_claim: Option<String>,
    role_map: RoleMap,
    enabled: bool,
}

impl From<StoredProvider> for Writable {
    fn from(stored: StoredProvider) -> Self {
        Self {
            name: stored.name,
            issuer: stored.issuer,
            client_id: stored.client_id,
            scopes: stored.scopes,
            role_claim: stored.role_claim,
            role_map: stored.role_map,
            enabled: stored.enabled,
        }
    }
}

/// A provider as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    name: String,
    issuer: String,
    client_id: String,
    #[serde(default)]
    client_secret: Option<SecretString>,
    #[serde(default = "usual_scopes")]
    scopes: Vec<String>,
    #[serde(default)]
    role_claim: Option<String>,
    #[serde(default)]
    role_map: RoleMap,
    #[serde(default = "yes")]
    enabled: bool,
}

const FIELDS: [&str; 8] = [
    "name",
    "issuer",
    "client_id",
    "client_secret",
    "scopes",
    "role_claim",
    "role_map",
    "enabled",
];

// An e-mail address is what a new user is listed by.
fn usual_scopes() -> Vec<String> {
    vec!["email".to_owned(), "profile".to_owned()]
}

const fn yes() -> bool {
    true
}

pub(super) async fn create(
    State(api): State<Api>,
    Json(sent): Json<Sent>,
) -> Result<Response, Problem> {
    check(&sent)?;
    let now = api.clock.now();
    let id = OidcProviderId::mint(now, api.entropy.as_ref());
    let new = NewProvider {
        id,
        name: sent.name,
        issuer: sent.issuer,
        client_id: sent.client_id,
        client_secret: match &sent.client_secret {
            Some(secret) => Some(api.sealed_client_secret(id, secret)?),
            None => None,
        },
        scopes: sent.scopes,
        role_claim: sent.role_claim,
        role_map: sent.role_map,
        enabled: sent.enabled,
        created_at: now,
    };
    let provider = api.stores.identities.create_provider(&new).await?;
    audit::added(&Writable::from(provider.clone()));
    if provider.client_secret.is_some() {
        audit::secret("client_secret");
    }
    let location = format!("/api/v1/oidc-providers/{id}");
    Ok(created(location, tagged(provider)))
}

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<ProviderBody>>, Problem> {
    let wanted = params.page()?;
    params.finish()?;
    let listed = api.stores.identities.providers(&wanted).await?;
    Ok(page(listed, ProviderBody::from))
}

pub(super) async fn find(
    State(api): State<Api>,
    Id(id): Id<OidcProviderId>,
) -> Result<Tagged<ProviderBody>, Problem> {
    Ok(tagged(api.oidc_provider(id).await?))
}

pub(super) async fn change(
    State(api): State<Api>,
    Id(id): Id<OidcProviderId>,
    if_match: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<ProviderBody>, Problem> {
    let before = api.oidc_provider(id).await?;
    if_match.check(before.version)?;
    let cleared = patch.0.get("client_secret") == Some(&Value::Null);
    let sent: Sent = patch::merge(Writable::from(before.clone()), patch, &FIELDS)?;
    check(&sent)?;
    if sent.issuer != before.issuer {
        // Whoever logged in through the old one would be somebody else at the new one.
        return Err(Problem::invalid(
            "issuer",
            "cannot change: make a new provider",
        ));
    }
    let client_secret = match &sent.client_secret {
        Some(secret) => SecretChange::Set(api.sealed_client_secret(id, secret)?),
        None if cleared => SecretChange::Clear,
        None => SecretChange::Keep,
    };
    let edit = ProviderEdit {
        id,
        version: before.version,
        name: sent.name,
        client_id: sent.client_id,
        client_secret,
        scopes: sent.scopes,
        role_claim: sent.role_claim,
        role_map: sent.role_map,
        enabled: sent.enabled,
        at: api.clock.now(),
    };
    let after = api.stores.identities.update_provider(&edit).await?;
    audit::changed(&Writable::from(before), &Writable::from(after.clone()));
    if edit.client_secret != SecretChange::Keep {
        audit::secret("client_secret");
    }
    // Who came in through it may be out now; that must be known here before it is said.
    api.revocations.refresh().await?;
    Ok(tagged(after))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id<OidcProviderId>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let provider = api.oidc_provider(id).await?;
    if_match.check(provider.version)?;
    let version = if_match.version(provider.version);
    let now = api.clock.now();
    let identities = &api.stores.identities;
    identities.delete_provider(id, version, now).await?;
    audit::removed(&Writable::from(provider));
    api.revocations.refresh().await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Api {
    pub(super) async fn oidc_provider(
        &self,
        id: OidcProviderId,
    ) -> Result<StoredProvider, Problem> {
        self.stores
            .identities
            .provider(id)
            .await?
            .ok_or_else(Problem::not_found)
    }

    /// The provider with its secret opened, as a login needs it. One that is disabled is none.
    pub(super) async fn live_provider(&self, id: OidcProviderId) -> Result<Provider, Problem> {
        let stored = self.oidc_provider(id).await?;
        if !stored.enabled {
            return Err(Problem::not_found());
        }
        let client_secret = match &stored.client_secret {
            Some(blob) => {
                let sealed = Sealed::parse(blob).map_err(|error| {
                    Problem::new(Code::Internal, "a stored secret cannot be read").because(error)
                })?;
                let binding = sealed::oidc_client_secret(id);
                Some(self.sealer.open_str(&sealed, &binding)?)
            }
            None => None,
        };
        Ok(Provider {
            id,
            issuer: stored.issuer,
            client_id: stored.client_id,
            client_secret,
            scopes: stored.scopes,
            role_claim: stored.role_claim,
            role_map: stored.role_map,
        })
    }

    fn sealed_client_secret(
        &self,
        id: OidcProviderId,
        secret: &SecretString,
    ) -> Result<Vec<u8>, Problem> {
        let binding = sealed::oidc_client_secret(id);
        Ok(self.sealer.seal_str(secret, &binding)?.into_bytes())
    }
}

fn check(sent: &Sent) -> Result<(), Problem> {
    let mut checks = Checks::default();
    checks.title(&sent.name, "name");
    checks.that(
        RelyingParty::is_issuer(&sent.issuer),
        "issuer",
        "must be an address such as https://id.example.org",
    );
    let word = |text: &str| (1..=255).contains(&text.len()) && is_plain(text);
    checks.that(
        word(&sent.client_id),
        "client_id",
        "must have 1 to 255 bytes",
    );
    if let Some(secret) = &sent.client_secret {
        let secret = secret.expose_secret();
        let fine = (1..=1_024).contains(&secret.len()) && is_plain(secret);
        checks.that(fine, "client_secret", "must have 1 to 1024 bytes");
    }
    checks.that(
        sent.scopes.len() <= 32,
        "scopes",
        "may have 32 entries at most",
    );
    for (index, scope) in sent.scopes.iter().enumerate() {
        // RFC 6749 §3.3.
        let fine = word(scope)
            && scope
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        let field = format!("scopes[{index}]");
        checks.that(fine, field, "must be a word without blanks");
    }
    if let Some(claim) = &sent.role_claim {
        checks.that(word(claim), "role_claim", "must have 1 to 255 bytes");
    }
    let groups = sent.role_map.iter().count();
    checks.that(groups <= 100, "role_map", "may have 100 entries at most");
    let fine = sent.role_map.iter().all(|(group, _)| word(group));
    checks.that(fine, "role_map", "groups must have 1 to 255 bytes");
    checks.finish()
}

fn tagged(provider: StoredProvider) -> Tagged<ProviderBody> {
    Tagged(provider.version, ProviderBody::from(provider))
}
