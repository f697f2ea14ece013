//! Repositories behind SSH.
//!
//! restic starts the ssh of the machine. All that ssh is told stands in a configuration of its
//! own in the run's private directory; the machine's and the user's are not read. The host's key
//! must be among the destination's `known_hosts`; there is no first use that trusts.

use std::io;
use std::path::Path;

use arkeep_core::engine::EngineError;
use arkeep_core::repository::{SftpCredentials, SftpLocation};
use arkeep_core::{ExposeSecret, SecretString};

use super::place::{Place, refused};
use super::workdir::WorkDir;

/// Writes ssh's configuration and points restic to it.
pub(super) fn reach(
    place: &mut Place,
    location: &SftpLocation,
    credentials: &SftpCredentials,
    path: &str,
    dir: &WorkDir,
) -> Result<(), EngineError> {
    check(location)?;
    let config = write(place, location, credentials, dir)
        .map_err(|error| EngineError::Failed(format!("ssh cannot be set up: {error}")))?;
    // restic splits the command as a shell would; the path is this machine's own and is quoted.
    place.options.push(format!(
        "--option=sftp.command=ssh -F '{}' -s {ALIAS} sftp",
        config.display()
    ));
    let below = match path {
        "" => String::new(),
        path => format!("/{path}"),
    };
    place.set(
        "RESTIC_REPOSITORY",
        format!(
            "sftp:{ALIAS}:{}{below}",
            location.path.trim_end_matches('/')
        ),
    );
    Ok(())
}

/// Whatever stands in ssh's configuration must not mean anything there.
fn check(location: &SftpLocation) -> Result<(), EngineError> {
    let plain = |text: &str, beside: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || beside.contains(c))
    };
    if !plain(&location.host, ".-_:") {
        return Err(refused("the SSH host is not a host's name or address"));
    }
    if !plain(&location.user, ".-_@+$\\") {
        return Err(refused(
            "the SSH user's name has a character in it that has no place there",
        ));
    }
    if location.path.is_empty() || location.path.contains(char::is_control) {
        return Err(refused("the path on the SSH server is empty or not plain"));
    }
    if location.known_hosts.trim().is_empty() {
        return Err(refused(
            "`known_hosts` is empty: whoever answers could not be told from an impostor; \
             `ssh-keyscan` shows the lines",
        ));
    }
    Ok(())
}

fn write(
    place: &mut Place,
    location: &SftpLocation,
    credentials: &SftpCredentials,
    dir: &WorkDir,
) -> io::Result<std::path::PathBuf> {
    let known = dir.write(
        "known_hosts",
        0o600,
        ended(&location.known_hosts).as_bytes(),
    )?;
    let login = match credentials {
        SftpCredentials::PrivateKey(key) => {
            place.secrets.push(key.clone());
            with_key(dir, key)?
        }
        SftpCredentials::Password(password) => {
            place.secrets.push(password.clone());
            with_password(place, dir, password)?
        }
    };
    let config = format!(
        "Host {ALIAS}\n\
         HostName {host}\n\
         Port {port}\n\
         User {user}\n\
         UserKnownHostsFile {known}\n\
         GlobalKnownHostsFile /dev/null\n\
         StrictHostKeyChecking yes\n\
         UpdateHostKeys no\n\
         CheckHostIP no\n\
         ForwardAgent no\n\
         ControlMaster no\n\
         ControlPath none\n\
         ConnectTimeout 60\n\
         ServerAliveInterval 30\n\
         ServerAliveCountMax 4\n\
         {login}",
        host = location.host,
        port = location.port.unwrap_or(22),
        user = location.user,
        known = quoted(&known),
    );
    dir.write("ssh_config", 0o600, config.as_bytes())
}

fn with_key(dir: &WorkDir, key: &SecretString) -> io::Result<String> {
    let text = SecretString::from(ended(key.expose_secret()));
    let file = dir.write("key", 0o600, text.expose_secret().as_bytes())?;
    Ok(format!(
        "BatchMode yes\n\
         PreferredAuthentications publickey\n\
         IdentitiesOnly yes\n\
         IdentityAgent none\n\
         IdentityFile {}\n",
        quoted(&file)
    ))
}

fn with_password(place: &mut Place, dir: &WorkDir, password: &SecretString) -> io::Result<String> {
    let secret = dir.write("password", 0o600, password.expose_secret().as_bytes())?;
    let script = format!("#!/bin/sh\nexec cat '{}'\n", secret.display());
    let askpass = dir.write("askpass", 0o700, script.as_bytes())?;
    place.set("SSH_ASKPASS", askpass);
    place.set("SSH_ASKPASS_REQUIRE", "force");
    Ok("BatchMode no\n\
        PreferredAuthentications password,keyboard-interactive\n\
        NumberOfPasswordPrompts 1\n\
        PubkeyAuthentication no\n"
        .to_owned())
}

fn ended(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// What the server is called in ssh's configuration; it leads to no other place than that.
const ALIAS: &str = "repository";

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &str, user: &str) -> SftpLocation {
        SftpLocation {
            host: host.to_owned(),
            port: None,
            user: user.to_owned(),
            path: "/srv".to_owned(),
            known_hosts: "h ssh-ed25519 AAAA".to_owned(),
        }
    }

    /// G2
    #[test]
    fn a_host_or_user_is_no_directive_of_ssh() {
        for (host, user) in [
            ("h\nProxyCommand touch /tmp/x", "u"),
            ("-oProxyCommand=x", "u"),
            ("h", "u\nProxyCommand touch /tmp/x"),
            ("h", "u v"),
            ("h", "%r"),
            ("%h", "u"),
            ("", "u"),
            ("h", ""),
        ] {
            assert!(check(&location(host, user)).is_err(), "{host:?} {user:?}");
        }
        for (host, user) in [("nas.example", "backup"), ("fe80::1", "u@realm")] {
            assert!(check(&location(host, user)).is_ok(), "{host} {user}");
        }
    }

    /// G3
    #[test]
    fn a_server_nobody_knows_is_refused() {
        let unknown = SftpLocation {
            known_hosts: " \n".to_owned(),
            ..location("h", "u")
        };

        assert!(check(&unknown).is_err());
    }
}
