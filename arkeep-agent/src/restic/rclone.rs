//! Repositories behind rclone.
//!
//! restic starts the rclone of the machine, which reads one remote from a private file. Whoever
//! writes that remote must not gain more than storage by it: rclone has options that run commands
//! and options that read files of this machine, and a remote can be built from others on the fly.
//! Their keys are refused.

use arkeep_core::ExposeSecret;
use arkeep_core::engine::EngineError;
use arkeep_core::repository::{RcloneCredentials, RcloneLocation};

use super::place::{Place, refused};
use super::workdir::WorkDir;

/// Writes rclone's configuration and points restic to it.
pub(super) fn reach(
    place: &mut Place,
    location: &RcloneLocation,
    credentials: &RcloneCredentials,
    path: &str,
    dir: &WorkDir,
) -> Result<(), EngineError> {
    let remote = &location.remote;
    let named = remote.starts_with(|c: char| c.is_ascii_alphanumeric())
        && remote
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if !named {
        return Err(refused(
            "the remote's name is not of letters, digits, `_`, `-` and `.`",
        ));
    }
    if location.path.contains(char::is_control) {
        return Err(refused("the remote's path has a control character in it"));
    }
    let section = credentials.config.expose_secret();
    section.lines().try_for_each(check)?;
    let file = dir
        .write(
            "rclone.conf",
            0o600,
            format!("[{remote}]\n{}\n", section.trim_end()).as_bytes(),
        )
        .map_err(|error| EngineError::Failed(format!("rclone cannot be set up: {error}")))?;
    place.set("RCLONE_CONFIG", file);
    place.secrets.push(credentials.config.clone());
    for line in section.lines() {
        if let Some((_, value)) = line.split_once('=') {
            place.secrets.push(value.trim().into());
        }
    }
    let separator = if location.path.is_empty() || path.is_empty() {
        ""
    } else {
        "/"
    };
    let base = location.path.trim_end_matches('/');
    place.set(
        "RESTIC_REPOSITORY",
        format!("rclone:{remote}:{base}{separator}{path}"),
    );
    Ok(())
}

fn check(line: &str) -> Result<(), EngineError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(());
    }
    let Some((key, _)) = line.split_once('=') else {
        return Err(refused(
            "the rclone section has a line that is not of the form `key = value`",
        ));
    };
    let key = key.trim().to_ascii_lowercase().replace('-', "_");
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if key.is_empty() || !key.chars().all(letters) {
        return Err(refused(
            "the rclone section has a key that is not a plain word",
        ));
    }
    let dangerous = RUNS_OR_READS.contains(&key.as_str())
        || ["command", "_file", "program", "mapper"]
            .iter()
            .any(|part| key.contains(part));
    if dangerous {
        return Err(EngineError::Refused(format!(
            "the rclone section may not set `{key}`: it would let the server run a command or \
             read a file of this machine"
        )));
    }
    Ok(())
}

/// Keys that run a program, name files of the machine, or build a remote from another.
const RUNS_OR_READS: [&str; 8] = [
    "ssh",
    "remote",
    "remotes",
    "upstreams",
    "profile",
    "env_auth",
    "key_use_agent",
    "config_path",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// G3
    #[test]
    fn a_remote_is_storage_and_nothing_else() {
        for line in [
            "ssh = /bin/sh -c id",
            "bearer_token_command = id",
            "Bearer-Token-Command = id",
            "override.metadata_mapper = id",
            "global.password_command = id",
            "remote = :sftp,ssh='id':",
            "upstreams = a=:sftp,ssh='id':",
            "key_file = /etc/shadow",
            "[other]",
            "type",
        ] {
            assert!(check(line).is_err(), "{line}");
        }
        for line in ["type = s3", "access_key_id=x", "", "# note", "pass = y=="] {
            assert!(check(line).is_ok(), "{line}");
        }
    }
}
