//! From a repository's place to what restic is told of it.
//!
//! All of it goes through the environment, which starts empty, and through private files; nothing
//! through the arguments. What may be set is written out here for each kind; nothing that came
//! from outside chooses the name of a variable or of an option.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use arkeep_core::engine::EngineError;
use arkeep_core::repository::{
    Credentials, LocalLocation, Location, Repository, RestLocation, S3Location,
};
use arkeep_core::{ExposeSecret, SecretString};

use super::redact::percent_encode;
use super::version::Version;
use super::workdir::WorkDir;
use super::{rclone, sftp};

/// How restic reaches one repository.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) env: Vec<(&'static str, OsString)>,
    pub(super) options: Vec<String>,
    pub(super) secrets: Vec<SecretString>,
}

impl Place {
    /// Works out how restic of this version reaches `repository`; puts what must be a file into
    /// `dir`.
    pub(super) fn of(
        repository: &Repository,
        version: Version,
        dir: &WorkDir,
    ) -> Result<Self, EngineError> {
        let mut place = Self::default();
        let path = repository.path.as_str();
        match (&repository.location, &repository.credentials) {
            (Location::Local(location), None) => {
                let directory = local_directory(location, path)?;
                place.set("RESTIC_REPOSITORY", directory);
            }
            (Location::Rest(location), credentials) => {
                place.rest(location, credentials.as_ref(), path, version)?;
            }
            (Location::S3(location), credentials) => {
                place.s3(location, credentials.as_ref(), path)?;
            }
            (Location::Sftp(location), Some(Credentials::Sftp(credentials))) => {
                sftp::reach(&mut place, location, credentials, path, dir)?;
            }
            (Location::Rclone(location), Some(Credentials::Rclone(credentials))) => {
                rclone::reach(&mut place, location, credentials, path, dir)?;
            }
            _ => return Err(foreign_credentials()),
        }
        Ok(place)
    }

    pub(super) fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.env.push((name, value.into()));
    }

    fn set_secret(&mut self, name: &'static str, value: &SecretString) {
        self.set(name, value.expose_secret());
        self.secrets.push(value.clone());
    }

    fn rest(
        &mut self,
        location: &RestLocation,
        credentials: Option<&Credentials>,
        path: &str,
        version: Version,
    ) -> Result<(), EngineError> {
        let (scheme, rest) = split_address(&location.url)?;
        let mut user_info = String::new();
        match credentials {
            None => {}
            Some(Credentials::Rest(credentials)) if version >= Version::REST_ENVIRONMENT => {
                self.set("RESTIC_REST_USERNAME", credentials.username.as_str());
                self.set_secret("RESTIC_REST_PASSWORD", &credentials.password);
            }
            Some(Credentials::Rest(credentials)) => {
                user_info = format!(
                    "{}:{}@",
                    percent_encode(&credentials.username),
                    percent_encode(credentials.password.expose_secret()),
                );
                self.secrets.push(credentials.password.clone());
            }
            Some(_) => return Err(foreign_credentials()),
        }
        let rest = rest.trim_end_matches('/');
        let below = encoded(path);
        self.set(
            "RESTIC_REPOSITORY",
            format!("rest:{scheme}://{user_info}{rest}/{below}"),
        );
        Ok(())
    }

    fn s3(
        &mut self,
        location: &S3Location,
        credentials: Option<&Credentials>,
        path: &str,
    ) -> Result<(), EngineError> {
        match credentials {
            None => {}
            Some(Credentials::S3(credentials)) => {
                self.set("AWS_ACCESS_KEY_ID", credentials.access_key_id.as_str());
                self.set_secret("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key);
                if let Some(token) = &credentials.session_token {
                    self.set_secret("AWS_SESSION_TOKEN", token);
                }
            }
            Some(_) => return Err(foreign_credentials()),
        }
        let endpoint = match location.endpoint.contains("://") {
            true => location.endpoint.clone(),
            false => format!("https://{}", location.endpoint),
        };
        let (scheme, host) = split_address(&endpoint)?;
        let bucket_is_plain = !location.bucket.is_empty() && !location.bucket.contains('/');
        if !bucket_is_plain {
            return Err(refused("the bucket is empty or has a `/` in it"));
        }
        let prefix = location.prefix.as_deref().unwrap_or_default();
        let parts = [location.bucket.as_str(), prefix, path];
        let parts: Vec<String> = parts
            .into_iter()
            .map(encoded)
            .filter(|part| !part.is_empty())
            .collect();
        let host = host.trim_end_matches('/');
        let below = parts.join("/");
        self.set("RESTIC_REPOSITORY", format!("s3:{scheme}://{host}/{below}"));
        if let Some(region) = &location.region {
            self.set("AWS_DEFAULT_REGION", region.as_str());
        }
        if location.path_style {
            self.options
                .push("--option=s3.bucket-lookup=path".to_owned());
        }
        Ok(())
    }
}

/// The directory of a repository on this machine.
pub(super) fn local_directory(
    location: &LocalLocation,
    path: &str,
) -> Result<PathBuf, EngineError> {
    let directory = Path::new(&location.path);
    if !directory.is_absolute() {
        return Err(refused("the destination's path is not absolute"));
    }
    Ok(match path {
        "" => directory.to_owned(),
        below => directory.join(below),
    })
}

fn split_address(url: &str) -> Result<(&str, &str), EngineError> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\');
    if !matches!(scheme, "http" | "https") || host.is_empty() {
        return Err(refused("the address is not of the form https://host/path"));
    }
    if host.contains('@') {
        return Err(refused(
            "the address has a user or password in it; they belong into the credentials",
        ));
    }
    if rest.contains(odd) {
        return Err(refused(
            "the address has a character in it that has no place there",
        ));
    }
    Ok((scheme, rest))
}

/// Each component of a path percent-encoded, without empty ones.
fn encoded(path: &str) -> String {
    let components: Vec<String> = path
        .split('/')
        .filter(|component| !component.is_empty())
        .map(percent_encode)
        .collect();
    components.join("/")
}

pub(super) fn refused(why: &str) -> EngineError {
    EngineError::Refused(why.to_owned())
}

fn foreign_credentials() -> EngineError {
    refused("the credentials are not of the destination's kind")
}

#[cfg(test)]
mod tests {
    use arkeep_core::repository::{RestCredentials, S3Credentials};

    use super::*;

    fn env(location: Location, credentials: Option<Credentials>, version: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository {
            location,
            path: "a b/%2e".parse().unwrap(),
            credentials,
            password: SecretString::from("unused"),
        };
        let version = Version::of_answer(&format!("restic {version} ")).unwrap();
        let work = WorkDir::new(dir.path()).unwrap();
        match Place::of(&repository, version, &work) {
            Ok(place) => place
                .env
                .iter()
                .map(|(name, value)| format!("{name}={}", value.display()))
                .collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    fn rest(url: &str) -> Location {
        Location::Rest(RestLocation {
            url: url.to_owned(),
        })
    }

    fn user() -> Option<Credentials> {
        Some(Credentials::Rest(RestCredentials {
            username: "u".to_owned(),
            password: SecretString::from("p@/:"),
        }))
    }

    /// G3
    #[test]
    fn a_rest_server_gets_its_password_where_the_version_looks_for_it() {
        assert_eq!(
            env(rest("https://h:8000/x/"), user(), "0.14.0"),
            ["RESTIC_REPOSITORY=rest:https://u:p%40%2F%3A@h:8000/x/a%20b/%252e"]
        );
        assert_eq!(
            env(rest("https://h:8000/x"), user(), "0.18.0"),
            [
                "RESTIC_REST_USERNAME=u",
                "RESTIC_REST_PASSWORD=p@/:",
                "RESTIC_REPOSITORY=rest:https://h:8000/x/a%20b/%252e"
            ]
        );
    }

    /// G3
    #[test]
    fn an_address_is_an_address_and_nothing_else() {
        for url in [
            "http+unix:///run/x.sock:/",
            "file:///etc",
            "/etc",
            "https://",
            "https://u:p@h/",
            "https://h/?x",
            "https://h/a b",
            "https://h/\nx",
        ] {
            let answer = env(rest(url), None, "0.18.0");
            assert!(answer[0].starts_with("the address"), "{url}: {answer:?}");
        }
    }

    /// G3
    #[test]
    fn a_bucket_gets_its_keys_and_nothing_else() {
        let location = Location::S3(S3Location {
            endpoint: "s3.example.org".to_owned(),
            bucket: "bucket".to_owned(),
            prefix: Some("/deep/".to_owned()),
            region: Some("eu-1".to_owned()),
            path_style: true,
        });
        let credentials = Credentials::S3(S3Credentials {
            access_key_id: "id".to_owned(),
            secret_access_key: SecretString::from("key"),
            session_token: None,
        });

        assert_eq!(
            env(location, Some(credentials), "0.14.0"),
            [
                "AWS_ACCESS_KEY_ID=id",
                "AWS_SECRET_ACCESS_KEY=key",
                "RESTIC_REPOSITORY=s3:https://s3.example.org/bucket/deep/a%20b/%252e",
                "AWS_DEFAULT_REGION=eu-1"
            ]
        );
    }

    /// G3
    #[test]
    fn credentials_of_another_kind_are_refused() {
        let location = Location::Local(LocalLocation {
            path: "/srv".to_owned(),
            must_be_mounted: false,
        });

        assert_eq!(
            env(location, user(), "0.18.0"),
            ["the credentials are not of the destination's kind"]
        );
    }
}
