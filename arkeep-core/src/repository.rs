//! Where snapshots lie, and what opens them.

use serde::{Deserialize, Serialize};

use crate::SecretString;

/// The place a destination stands for. Each kind has its own fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "location", rename_all = "snake_case")]
pub enum Location {
    /// A directory of the agent's machine.
    Local(LocalLocation),
    /// A server that speaks restic's REST protocol.
    Rest(RestLocation),
    /// A bucket of an S3-compatible store.
    S3(S3Location),
    /// A directory of an SSH server.
    Sftp(SftpLocation),
    /// Anything that rclone reaches.
    Rclone(RcloneLocation),
}

/// A directory of the agent's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalLocation {
    /// An absolute path.
    pub path: String,
    /// Refuse to use the directory unless a file system is mounted there or above it, below `/`.
    #[serde(default)]
    pub must_be_mounted: bool,
}

/// A server that speaks restic's REST protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestLocation {
    /// An `http://` or `https://` address without user or password in it.
    pub url: String,
}

/// A bucket of an S3-compatible store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Location {
    /// The store's address.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// A path in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The region, where the store has regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Put the bucket into the path instead of the host name.
    #[serde(default)]
    pub path_style: bool,
}

/// A directory of an SSH server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftpLocation {
    /// The server.
    pub host: String,
    /// Its port; 22 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Who logs in.
    pub user: String,
    /// The directory.
    pub path: String,
    /// Lines of `known_hosts` that the server's key must match.
    pub known_hosts: String,
}

/// Anything that rclone reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RcloneLocation {
    /// The remote's name, as its configuration section is headed.
    pub remote: String,
    /// A path of the remote.
    pub path: String,
}

/// What a back-end asks for before it lets anyone in. Never serialised by accident: it has no
/// `Serialize`.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// For [`Location::Rest`].
    Rest(RestCredentials),
    /// For [`Location::S3`].
    S3(S3Credentials),
    /// For [`Location::Sftp`].
    Sftp(SftpCredentials),
    /// For [`Location::Rclone`].
    Rclone(RcloneCredentials),
}

/// HTTP basic authentication.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestCredentials {
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: SecretString,
}

/// Keys of an S3-compatible store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Credentials {
    /// The key's name.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: SecretString,
    /// For temporary keys.
    #[serde(default)]
    pub session_token: Option<SecretString>,
}

/// What an SSH server accepts.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SftpCredentials {
    /// A private key in OpenSSH's or PEM format, without passphrase.
    PrivateKey(SecretString),
    /// A password.
    Password(SecretString),
}

/// One remote of rclone's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RcloneCredentials {
    /// The text of the remote's section, without its heading.
    pub config: SecretString,
}

/// One restic repository and all that it takes to open it.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The destination's place.
    pub location: Location,
    /// A relative path below the place; empty for the place itself.
    pub path: RelativePath,
    /// What the back-end asks for, if it asks.
    pub credentials: Option<Credentials>,
    /// The repository's own password.
    pub password: SecretString,
}

/// A path that stays below where it starts: no leading `/`, no `.` or `..`, no empty component, no
/// control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

/// The text is not a [`RelativePath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a relative path of plain components (no leading `/`, no `.`, `..` or empty component)"
)]
pub struct ParseRelativePathError;

impl RelativePath {
    /// The path's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for RelativePath {
    type Err = ParseRelativePathError;

    fn from_str(text: &str) -> Result<Self, ParseRelativePathError> {
        let plain = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control)
        };
        if text.is_empty() || text.split('/').all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseRelativePathError)
        }
    }
}

impl TryFrom<String> for RelativePath {
    type Error = ParseRelativePathError;

    fn try_from(text: String) -> Result<Self, ParseRelativePathError> {
        text.parse()
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_stays_below() {
        for text in ["/etc", "..", "a/../b", "a//b", "./a", "a/", "a\nb"] {
            assert!(text.parse::<RelativePath>().is_err(), "{text}");
        }
        for text in ["", "a", "a/b", "-o", "...", "a b"] {
            assert!(text.parse::<RelativePath>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_location_is_written_as_the_api_shows_it() -> Result<(), serde_json::Error> {
        let location = Location::Rest(RestLocation {
            url: "http://[::1]:8000/".to_owned(),
        });

        let json = serde_json::to_value(&location)?;

        assert_eq!(
            json,
            serde_json::json!({"kind": "rest", "location": {"url": "http://[::1]:8000/"}})
        );
        assert_eq!(serde_json::from_value::<Location>(json)?, location);
        Ok(())
    }
}
