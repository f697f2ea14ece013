use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arkeep_core::repository::{Location, Repository};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::paths;

/// One job at a time for each repository, in the order in which they asked.
#[derive(Debug, Default)]
pub(super) struct Repositories {
    turns: Mutex<BTreeMap<String, Weak<Turn<()>>>>,
}

/// The repositories are this job's until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _turns: Vec<OwnedMutexGuard<()>>,
}

impl Repositories {
    /// Waits until all of these repositories are free, and takes them.
    ///
    /// They are taken in one order whatever the order of the job, so that two jobs never wait for
    /// each other.
    pub(super) async fn take(&self, repositories: impl Iterator<Item = &Repository>) -> Held {
        let mut keys = Vec::new();
        for repository in repositories {
            keys.push(key(repository).await);
        }
        keys.sort();
        keys.dedup();
        let mut turns = Vec::with_capacity(keys.len());
        for key in keys {
            turns.push(self.turn(key).lock_owned().await);
        }
        Held { _turns: turns }
    }

    fn turn(&self, key: String) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        match turns.get(&key).and_then(Weak::upgrade) {
            Some(turn) => turn,
            None => {
                let turn = Arc::new(Turn::new(()));
                turns.insert(key, Arc::downgrade(&turn));
                turn
            }
        }
    }
}

/// What makes two repositories the same: their place, however it is spelled, and not what opens
/// them. Two places that are taken for one only wait for each other; one that is taken for two has
/// two writers.
async fn key(repository: &Repository) -> String {
    let path = repository.path.as_str();
    match &repository.location {
        Location::Local(location) => {
            let place = paths::plain(&Path::new(&location.path).join(path));
            // A file system whose server is away holds up nobody but this thread.
            let real = tokio::task::spawn_blocking({
                let place = place.clone();
                move || real_path(&place)
            });
            format!("local {}", real.await.unwrap_or(place).display())
        }
        Location::Rest(location) => {
            let (host, below) = address(&location.url);
            format!("rest {host}/{}", plain(&[&below, path]))
        }
        Location::S3(location) => {
            let (host, below) = address(&location.endpoint);
            let prefix = location.prefix.as_deref().unwrap_or_default();
            format!(
                "s3 {host}/{}",
                plain(&[&below, &location.bucket, prefix, path])
            )
        }
        Location::Sftp(location) => {
            // A relative path begins in the home of whoever logs in.
            let home = match location.path.starts_with('/') {
                true => "",
                false => &location.user,
            };
            format!(
                "sftp {}:{} {home}/{}",
                location.host.to_lowercase(),
                location.port.unwrap_or(22),
                plain(&[&location.path, path])
            )
        }
        Location::Rclone(location) => {
            format!(
                "rclone {}:{}",
                location.remote,
                plain(&[&location.path, path])
            )
        }
    }
}

/// Host with its port, where that is not a usual one, and the path of an address. The scheme does
/// not tell two places apart: a server that answers to both is one.
fn address(url: &str) -> (String, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.to_lowercase();
    let bare = [":80", ":443"]
        .into_iter()
        .find_map(|usual| host.strip_suffix(usual))
        .unwrap_or(&host);
    (bare.trim_end_matches('.').to_owned(), decoded(path))
}

/// With `%41` read as `A`.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match (code, part.get(2..)) {
            (Some(code), Some(rest)) => {
                bytes.push(code);
                bytes.extend_from_slice(rest.as_bytes());
            }
            _ => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// These paths, one below the other, without empty components, `.` and `..`.
fn plain(paths: &[&str]) -> String {
    let mut components = Vec::new();
    for component in paths.iter().flat_map(|path| path.split('/')) {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    components.join("/")
}

/// Without links, as far as it is there.
fn real_path(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let Ok(real) = there.canonicalize() {
            let missing = path.strip_prefix(there).unwrap_or(Path::new(""));
            // Joining nothing would put a slash at the end.
            return match missing.as_os_str().is_empty() {
                true => real,
                false => real.join(missing),
            };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use arkeep_core::SecretString;
    use arkeep_core::repository::{
        LocalLocation, RcloneLocation, RestLocation, S3Location, SftpLocation,
    };

    use super::*;

    fn repository(path: &str, password: &str) -> Repository {
        Repository {
            location: Location::Local(LocalLocation {
                path: path.to_owned(),
                must_be_mounted: false,
            }),
            path: "p".parse().unwrap(),
            credentials: None,
            password: SecretString::from(password),
        }
    }

    /// G14
    #[tokio::test]
    async fn a_repository_has_one_job_at_a_time() {
        let repositories = Repositories::default();
        let (one, other) = (repository("/a", "x"), repository("/b", "x"));
        let same = repository("/a", "another password");

        let first = repositories.take([&one].into_iter()).await;
        let mut second = Box::pin(repositories.take([&other, &same].into_iter()));

        assert!(futures_pending(&mut second).await);
        drop(first);
        second.await;
    }

    async fn key_of(location: Location, path: &str) -> Result<String, Box<dyn Error>> {
        let repository = Repository {
            location,
            path: path.parse()?,
            credentials: None,
            password: SecretString::from("x"),
        };
        Ok(key(&repository).await)
    }

    fn local(path: &Path, must_be_mounted: bool) -> Location {
        Location::Local(LocalLocation {
            path: path.display().to_string(),
            must_be_mounted,
        })
    }

    /// G14
    #[tokio::test]
    async fn a_directory_is_one_however_it_is_spelled() -> Result<(), Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let home = home.path();
        std::fs::create_dir_all(home.join("real/there"))?;
        std::os::unix::fs::symlink("real", home.join("link"))?;
        let one = key_of(local(&home.join("real"), false), "there/p").await?;

        for (base, path) in [
            ("real/", "there/p"),
            ("./real//there/", "p"),
            ("real/x/..", "there/p"),
            ("link", "there/p"),
            ("link/there/p", ""),
        ] {
            let other = key_of(local(&home.join(base), true), path).await?;
            assert_eq!(one, other, "{base} {path}");
        }
        let other = key_of(local(&home.join("real"), false), "there/q").await?;
        assert_ne!(one, other);
        Ok(())
    }

    /// G14
    #[tokio::test]
    async fn an_address_is_one_however_it_is_spelled() -> Result<(), Box<dyn Error>> {
        let rest = |url: &str| {
            Location::Rest(RestLocation {
                url: url.to_owned(),
            })
        };
        let s3 = |endpoint: &str, prefix: Option<&str>| {
            Location::S3(S3Location {
                endpoint: endpoint.to_owned(),
                bucket: "b".to_owned(),
                prefix: prefix.map(ToOwned::to_owned),
                region: prefix.map(ToOwned::to_owned),
                path_style: prefix.is_none(),
            })
        };
        let sftp = |host: &str, port, user: &str, path: &str| {
            Location::Sftp(SftpLocation {
                host: host.to_owned(),
                port,
                user: user.to_owned(),
                path: path.to_owned(),
                known_hosts: user.to_owned(),
            })
        };
        let rclone = |path: &str| {
            Location::Rclone(RcloneLocation {
                remote: "r".to_owned(),
                path: path.to_owned(),
            })
        };
        for (one, other) in [
            (
                (rest("https://h/x"), "a/p"),
                (rest("HTTPS://H:443//x/%61/"), "p"),
            ),
            (
                (s3("s3.example.org", None), "a/p"),
                (s3("https://S3.example.org./", Some("/a/")), "p"),
            ),
            (
                (sftp("h", None, "u", "/x/"), "p"),
                (sftp("H", Some(22), "other", "/x/./p"), ""),
            ),
            ((rclone("x"), "p"), (rclone("x/p/"), "")),
        ] {
            let one = key_of(one.0, one.1).await?;
            assert_eq!(one, key_of(other.0, other.1).await?);
        }
        for (one, other) in [
            (rest("https://h:8000/"), rest("https://h:8001/")),
            (rest("https://h/a%2"), rest("https://h/a")),
            (sftp("h", None, "u", "x"), sftp("h", None, "v", "x")),
            (sftp("h", None, "u", "x"), sftp("h", None, "u", "/x")),
        ] {
            assert_ne!(key_of(one, "p").await?, key_of(other, "p").await?);
        }
        Ok(())
    }

    async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
        tokio::select! {
            biased;
            _ = future => false,
            () = tokio::task::yield_now() => true,
        }
    }
}
