//! One name for one repository, however its place is written.
//!
//! Two destinations may stand for the same place, and one place can be written in many ways. What
//! lies at the same address is one repository: it has one password, and is made by one agent.
//!
//! An address that is too coarse asks two policies for one password, or an agent for patience, for
//! nothing. One that is too fine lets a repository be destroyed. Where it cannot be known, this
//! errs on the first side: two agents' `/srv/backup` may be one network mount, and the same
//! remote of rclone is taken for the same place.

use arkeep_core::repository::{Location, RelativePath};

/// The address of the repository at `path` below `location`.
#[must_use]
pub fn address(location: &Location, path: &RelativePath) -> String {
    let path = path.as_str();
    match location {
        Location::Local(local) => format!("local:/{}", joined(&[&local.path, path])),
        Location::Rest(rest) => {
            let (host, base) = web(&rest.url);
            format!("rest:{host}/{}", joined(&[base, path]))
        }
        Location::S3(s3) => {
            let (host, base) = web(&s3.endpoint);
            let prefix = s3.prefix.as_deref().unwrap_or_default();
            format!("s3:{host}/{}", joined(&[base, &s3.bucket, prefix, path]))
        }
        Location::Sftp(sftp) => {
            let (host, port) = (host(&sftp.host), sftp.port.unwrap_or(22));
            // A path that does not start at the root starts at the home of whoever logs in.
            let start = match sftp.path.starts_with('/') {
                true => String::new(),
                false => format!("~{}/", sftp.user),
            };
            let below = joined(&[&sftp.path, path]);
            format!("sftp:{host}:{port}/{start}{below}")
        }
        Location::Rclone(rclone) => {
            let start = match rclone.path.starts_with('/') {
                true => "/",
                false => "",
            };
            let below = joined(&[&rclone.path, path]);
            format!("rclone:{}:{start}{below}", rclone.remote)
        }
    }
}

/// The parts as one path without empty components, `.` and `..`.
fn joined(parts: &[&str]) -> String {
    let mut components = Vec::new();
    for component in parts.iter().flat_map(|part| part.split('/')) {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            other => components.push(other),
        }
    }
    components.join("/")
}

/// Host and port, and the path, of a web address. The port tells http and https apart.
fn web(url: &str) -> (String, &str) {
    let (port, rest) = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (80, rest),
        Some((_, rest)) => (443, rest),
        None => (443, url),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    // The colons of an IPv6 address are inside brackets.
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, given)) if !given.contains(']') => (name, given.parse().unwrap_or(port)),
        _ => (authority, port),
    };
    (format!("{}:{port}", host(name)), path)
}

fn host(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use arkeep_core::repository::{
        LocalLocation, RcloneLocation, RestLocation, S3Location, SftpLocation,
    };

    use super::*;

    fn at(location: &Location, path: &str) -> String {
        address(location, &path.parse().unwrap())
    }

    fn local(path: &str) -> Location {
        Location::Local(LocalLocation {
            path: path.to_owned(),
            must_be_mounted: false,
        })
    }

    fn rest(url: &str) -> Location {
        Location::Rest(RestLocation {
            url: url.to_owned(),
        })
    }

    fn s3(endpoint: &str, prefix: Option<&str>) -> Location {
        Location::S3(S3Location {
            endpoint: endpoint.to_owned(),
            bucket: "bucket".to_owned(),
            prefix: prefix.map(str::to_owned),
            region: None,
            path_style: prefix.is_none(),
        })
    }

    fn sftp(host: &str, port: Option<u16>, user: &str, path: &str) -> Location {
        Location::Sftp(SftpLocation {
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            path: path.to_owned(),
            known_hosts: String::new(),
        })
    }

    fn rclone(path: &str) -> Location {
        Location::Rclone(RcloneLocation {
            remote: "far".to_owned(),
            path: path.to_owned(),
        })
    }

    /// DESIGN §3: one repository, one password.
    #[test]
    fn one_place_has_one_address_however_it_is_written() {
        let one = at(&local("/srv/repo"), "a/b");
        for same in ["/srv/repo/", "//srv//repo", "/srv/./repo", "/srv/x/../repo"] {
            assert_eq!(at(&local(same), "a/b"), one, "{same}");
        }
        assert_eq!(at(&local("/srv/repo/a"), "b"), one);

        let one = at(&rest("https://h.example/base"), "a");
        for same in [
            "https://H.Example/base/",
            "https://h.example:443/base",
            "https://h.example.//base/",
        ] {
            assert_eq!(at(&rest(same), "a"), one, "{same}");
        }
        let six = at(&rest("http://[::1]:8000/"), "a");
        assert_eq!(at(&rest("http://[::1]:8000"), "a"), six);

        let one = at(&s3("https://s3.example", Some("deep")), "a");
        assert_eq!(at(&s3("https://S3.example/", Some("/deep/")), "a"), one);
        assert_eq!(at(&s3("https://s3.example", None), "deep/a"), one);

        let one = at(&sftp("h", None, "ada", "/srv"), "a");
        assert_eq!(at(&sftp("H", Some(22), "bob", "/srv/"), "a"), one);
    }

    #[test]
    fn different_places_have_different_addresses() {
        let all = [
            at(&local("/srv/repo"), "a"),
            at(&local("/srv/repo"), "b"),
            at(&local("/srv/Repo"), "a"),
            at(&rest("https://h/base"), "a"),
            at(&rest("http://h/base"), "a"),
            at(&rest("https://h:8000/base"), "a"),
            at(&rest("https://h/Base"), "a"),
            at(&s3("https://h", Some("base")), "a"),
            at(&sftp("h", None, "ada", "/srv"), "a"),
            at(&sftp("h", None, "ada", "srv"), "a"),
            at(&sftp("h", None, "bob", "srv"), "a"),
            at(&sftp("h", Some(23), "ada", "/srv"), "a"),
            at(&rclone("/srv"), "a"),
            at(&rclone("srv"), "a"),
        ];

        let distinct: std::collections::HashSet<_> = all.iter().collect();

        assert_eq!(distinct.len(), all.len(), "{all:#?}");
    }
}
