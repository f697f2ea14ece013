//! Places where repositories lie.

use arkeep_core::job::JobKind;
use arkeep_core::repository::{
    LocalLocation, Location, RcloneCredentials, RcloneLocation, RestCredentials, RestLocation,
    S3Credentials, S3Location, SftpCredentials, SftpLocation,
};
use arkeep_core::{AgentId, DestinationId, ExposeSecret, SecretString, Timestamp};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::audit;
use super::super::body::{self, Json, MergePatch};
use super::super::checks::{Checks, is_plain};
use super::super::params::{Id, Params};
use super::super::patch::{self, IfMatch, Tagged, Tries};
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use super::policies::Opened;
use super::{PageBody, accepted, created, page};
use crate::parameters::TestParameters;
use crate::store::destinations::{Destination, DestinationEdit, NewDestination};
use crate::store::{Refusal, SecretChange, WriteError, sealed};

#[derive(Serialize)]
pub(super) struct DestinationBody {
    id: DestinationId,
    version: u64,
    name: String,
    #[serde(flatten)]
    location: Location,
    credentials_set: bool,
    credentials_updated_at: Option<Timestamp>,
    enabled: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Destination> for DestinationBody {
    fn from(destination: Destination) -> Self {
        Self {
            id: destination.id,
            version: destination.version,
            name: destination.name,
            location: destination.location,
            credentials_set: destination.credentials.is_some(),
            credentials_updated_at: destination.credentials_updated_at,
            enabled: destination.enabled,
            created_at: destination.created_at,
            updated_at: destination.updated_at,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Local,
    Rest,
    S3,
    Sftp,
    Rclone,
}

/// A destination as it is sent. What `location` and `credentials` must hold depends on `kind`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    name: String,
    kind: Kind,
    location: Map<String, Value>,
    #[serde(default)]
    credentials: Option<Map<String, Value>>,
    #[serde(default = "yes")]
    enabled: bool,
}

const fn yes() -> bool {
    true
}

pub(super) async fn create(
    State(api): State<Api>,
    Json(sent): Json<Sent>,
) -> Result<Response, Problem> {
    let location = location(sent.kind, sent.location)?;
    check(&sent.name, &location)?;
    let now = api.clock.now();
    let id = DestinationId::mint(now, api.entropy.as_ref());
    let credentials = match sent.credentials {
        None => None,
        Some(credentials) => Some(api.sealed_credentials(id, sent.kind, credentials)?),
    };
    let new = NewDestination {
        id,
        name: sent.name,
        location,
        credentials,
        enabled: sent.enabled,
        created_at: now,
    };
    let destination = api.stores.destinations.create(&new).await?;
    audit::added(&Writable::from(&destination));
    if destination.credentials.is_some() {
        audit::secret("credentials");
    }
    Ok(created(
        format!("/api/v1/destinations/{id}"),
        tagged(destination),
    ))
}

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<DestinationBody>>, Problem> {
    let wanted = params.page()?;
    params.finish()?;
    Ok(page(
        api.stores.destinations.list(&wanted).await?,
        DestinationBody::from,
    ))
}

pub(super) async fn find(
    State(api): State<Api>,
    Id(id): Id<DestinationId>,
) -> Result<Tagged<DestinationBody>, Problem> {
    Ok(tagged(api.destination(id).await?))
}

/// What of a destination can be written and read.
#[derive(Serialize)]
struct Writable {
    name: String,
    #[serde(flatten)]
    location: Location,
    enabled: bool,
}

impl From<&Destination> for Writable {
    fn from(destination: &Destination) -> Self {
        Self {
            name: destination.name.clone(),
            location: destination.location.clone(),
            enabled: destination.enabled,
        }
    }
}

pub(super) async fn change(
    State(api): State<Api>,
    Id(id): Id<DestinationId>,
    if_match: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<DestinationBody>, Problem> {
    let mut tries = Tries::of(&if_match);
    loop {
        let changed = change_once(&api, id, &if_match, patch.clone()).await;
        if !tries.again(&changed) {
            return changed;
        }
    }
}

async fn change_once(
    api: &Api,
    id: DestinationId,
    if_match: &IfMatch,
    mut patch: MergePatch,
) -> Result<Tagged<DestinationBody>, Problem> {
    let destination = api.destination(id).await?;
    if_match.check(destination.version)?;
    // Credentials are replaced as a whole: what is there cannot be read, so not merged into either.
    let cleared = patch.0.get("credentials") == Some(&Value::Null);
    if cleared {
        patch.0.remove("credentials");
    }
    let before = Writable::from(&destination);
    let known = ["name", "kind", "location", "credentials", "enabled"];
    let sent: Sent = patch::merge(&before, patch, &known)?;
    if sent.kind != kind_of(&destination.location) {
        return Err(Problem::invalid(
            "kind",
            "cannot change: make a new destination",
        ));
    }
    let location = location(sent.kind, sent.location)?;
    check(&sent.name, &location)?;
    let credentials = match sent.credentials {
        Some(credentials) => {
            SecretChange::Set(api.sealed_credentials(id, sent.kind, credentials)?)
        }
        None if cleared => SecretChange::Clear,
        None => SecretChange::Keep,
    };
    let edit = DestinationEdit {
        id,
        version: destination.version,
        name: sent.name,
        location,
        credentials,
        enabled: sent.enabled,
        at: api.clock.now(),
    };
    let passwords = Opened(api.sealer.as_ref());
    let changed = api.stores.destinations.update(&edit, &passwords).await;
    let changed = changed.map_err(|error| match error {
        WriteError::Refused(Refusal::OtherPassword { .. }) => Problem::invalid(
            "location",
            "has repositories of other policies at the same paths, with other passwords",
        ),
        other => other.into(),
    })?;
    audit::changed(&before, &Writable::from(&changed));
    if edit.credentials != SecretChange::Keep {
        audit::secret("credentials");
    }
    Ok(tagged(changed))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id<DestinationId>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let destination = api.destination(id).await?;
    if_match.check(destination.version)?;
    let version = if_match.version(destination.version);
    api.stores.destinations.delete(id, version).await?;
    audit::removed(&Writable::from(&destination));
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestBy {
    agent_id: AgentId,
}

pub(super) async fn test(
    State(api): State<Api>,
    Id(id): Id<DestinationId>,
    Json(by): Json<TestBy>,
) -> Result<Response, Problem> {
    let destination = api.destination(id).await?;
    if !destination.enabled {
        return Err(Problem::new(Code::Conflict, "the destination is disabled"));
    }
    let agent = api.agent_for_work(by.agent_id).await?;
    let parameters = TestParameters { destination_id: id };
    let job = api
        .enqueue(JobKind::Test, agent.id, None, None, &parameters)
        .await?;
    Ok(accepted(job))
}

impl Api {
    async fn destination(&self, id: DestinationId) -> Result<Destination, Problem> {
        self.stores
            .destinations
            .find(id)
            .await?
            .ok_or_else(Problem::not_found)
    }

    fn sealed_credentials(
        &self,
        id: DestinationId,
        kind: Kind,
        credentials: Map<String, Value>,
    ) -> Result<Vec<u8>, Problem> {
        let credentials = Value::Object(credentials);
        // Whoever opens them reads the same types; what does not fit is refused now.
        match kind {
            Kind::Local => {
                let detail = "a local destination has no credentials";
                return Err(Problem::invalid("credentials", detail));
            }
            Kind::Rest => fits::<RestCredentials>(&credentials)?,
            Kind::S3 => fits::<S3Credentials>(&credentials)?,
            Kind::Sftp => fits::<SftpCredentials>(&credentials)?,
            Kind::Rclone => fits::<RcloneCredentials>(&credentials)?,
        }
        let text = SecretString::from(credentials.to_string());
        let sealed = self
            .sealer
            .seal_str(&text, &sealed::destination_credentials(id))?;
        debug_assert!(!text.expose_secret().is_empty());
        Ok(sealed.into_bytes())
    }
}

fn fits<T: DeserializeOwned>(credentials: &Value) -> Result<(), Problem> {
    body::convert_at::<T>("credentials", credentials.clone()).map(|_| ())
}

fn location(kind: Kind, fields: Map<String, Value>) -> Result<Location, Problem> {
    fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
        body::convert_at("location", Value::Object(fields))
    }
    Ok(match kind {
        Kind::Local => Location::Local(read::<LocalLocation>(fields)?),
        Kind::Rest => Location::Rest(read::<RestLocation>(fields)?),
        Kind::S3 => Location::S3(read::<S3Location>(fields)?),
        Kind::Sftp => Location::Sftp(read::<SftpLocation>(fields)?),
        Kind::Rclone => Location::Rclone(read::<RcloneLocation>(fields)?),
    })
}

const fn kind_of(location: &Location) -> Kind {
    match location {
        Location::Local(_) => Kind::Local,
        Location::Rest(_) => Kind::Rest,
        Location::S3(_) => Kind::S3,
        Location::Sftp(_) => Kind::Sftp,
        Location::Rclone(_) => Kind::Rclone,
    }
}

fn check(name: &str, location: &Location) -> Result<(), Problem> {
    let mut checks = Checks::default();
    checks.title(name, "name");
    match location {
        Location::Local(local) => checks.absolute_path(&local.path, "location.path"),
        Location::Rest(rest) => checks.that(is_web(&rest.url), "location.url", WEB),
        Location::S3(s3) => {
            checks.that(is_web(&s3.endpoint), "location.endpoint", WEB);
            let fine = is_word(&s3.bucket, |c| matches!(c, '.' | '-' | '_'));
            checks.that(fine, "location.bucket", "must be the name of a bucket");
            let prefix = s3.prefix.as_deref().unwrap_or_default();
            checks.that(is_plain(prefix), "location.prefix", PLAIN);
            let region = s3.region.as_deref().unwrap_or("x");
            checks.that(
                is_word(region, |c| c == '-'),
                "location.region",
                "must be a region",
            );
        }
        Location::Sftp(sftp) => {
            let host = |c| matches!(c, '.' | '-' | '_' | ':');
            checks.that(is_word(&sftp.host, host), "location.host", "must be a host");
            let user = |c| matches!(c, '.' | '-' | '_' | '@');
            checks.that(
                is_word(&sftp.user, user),
                "location.user",
                "must be a user's name",
            );
            let fine = !sftp.path.is_empty() && is_plain(&sftp.path);
            checks.that(fine, "location.path", "must be a path");
            checks.that(sftp.port != Some(0), "location.port", "must be 1 to 65535");
            let known = sftp.known_hosts.lines().any(|line| !line.trim().is_empty());
            checks.that(known, "location.known_hosts", "must hold the server's key");
        }
        Location::Rclone(rclone) => {
            let remote = |c| matches!(c, '.' | '-' | '_' | '+' | '@' | ' ');
            checks.that(
                is_word(&rclone.remote, remote),
                "location.remote",
                "must be a remote's name",
            );
            checks.that(is_plain(&rclone.path), "location.path", PLAIN);
        }
    }
    checks.finish()
}

// A name that can never be taken for a flag.
fn is_word(text: &str, also: impl Fn(char) -> bool) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 255
        && text.chars().all(|c| c.is_ascii_alphanumeric() || also(c))
}

// `user:password@` would be shown with the destination; the credentials are the place for it.
fn is_web(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !authority.is_empty()
            && !rest.contains(['@', '?', '#', ' '])
            && is_plain(rest)
            && url.len() <= 2_048
    })
}

fn tagged(destination: Destination) -> Tagged<DestinationBody> {
    Tagged(destination.version, DestinationBody::from(destination))
}

const WEB: &str = "must be an http:// or https:// address without user, password and query";
const PLAIN: &str = "must have no control characters";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_carries_no_password() {
        for url in ["http://h", "https://h:8000/a/b/", "http://[::1]:8000/"] {
            assert!(is_web(url), "{url}");
        }
        for url in [
            "",
            "h",
            "ftp://h",
            "http://",
            "http://u:p@h/",
            "http://h/?x",
            "http://h\n",
        ] {
            assert!(!is_web(url), "{url}");
        }
    }

    /// G2
    #[test]
    fn a_name_is_never_a_flag() {
        let also = |c| c == '-';

        assert!(is_word("a-b", also));
        for text in ["", "-oProxyCommand=x", "a b", "a/b", "a\nb"] {
            assert!(!is_word(text, also), "{text}");
        }
    }
}
