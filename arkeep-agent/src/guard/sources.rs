use std::path::{Path, PathBuf};

use crate::paths::plain;

/// Paths that never go into a snapshot.
///
/// # Security
///
/// A denied path is compared with where a source really is, so that a link on the way does not
/// hide it; when the denied path is a link itself, what it leads to is denied as well. A file that is reached by another name, a hard link or a second mount, is not found.
#[derive(Debug, Clone, Default)]
pub struct DeniedSources {
    denied: Vec<PathBuf>,
}

/// A source that the machine's owner denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is denied by `denied` under `[sources]` in the agent's own configuration", .denied.display())]
pub struct SourceRefused {
    /// The denied path.
    pub denied: PathBuf,
}

impl DeniedSources {
    /// Denies these paths and all that is below them.
    #[must_use]
    pub fn new(denied: Vec<PathBuf>) -> Self {
        Self { denied }
    }

    /// Judges a source, and answers with what has to be left out of it, as patterns for restic.
    ///
    /// # Errors
    ///
    /// [`SourceRefused`] when the source lies in a denied path.
    pub fn judge(&self, source: &str) -> Result<Vec<String>, SourceRefused> {
        let named = plain(Path::new(source));
        let real = resolve(&named);
        let mut excludes = Vec::new();
        for denied in self.denied.iter().flat_map(|denied| both(denied)) {
            if real.starts_with(&denied) {
                return Err(SourceRefused { denied });
            }
            if let Ok(rest) = denied.strip_prefix(&real) {
                excludes.push(escape(&named.join(rest).to_string_lossy()));
            }
        }
        Ok(excludes)
    }
}

/// The denied name, and what it leads to when it is a link: to deny only the link would leave what
/// is to be kept open under its own name.
fn both(denied: &Path) -> Vec<PathBuf> {
    let name = resolve(&plain(denied));
    let end = name.canonicalize().ok().filter(|end| *end != name);
    std::iter::once(name).chain(end).collect()
}

/// Where the path really is. Its last component is not followed: restic saves a link as a link.
fn resolve(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_owned();
    };
    match parent.canonicalize() {
        Ok(parent) => parent.join(name),
        Err(_) => path.to_owned(),
    }
}

/// The pattern that matches this path alone.
fn escape(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;

    use super::*;

    fn denied(path: impl Into<PathBuf>) -> DeniedSources {
        DeniedSources::new(vec![path.into()])
    }

    #[test]
    fn a_source_in_a_denied_path_is_refused() {
        for source in [
            "/etc/shadow",
            "/etc//shadow/",
            "/etc/./x/../shadow",
            "/etc/shadow/a",
        ] {
            assert!(denied("/etc/shadow").judge(source).is_err(), "{source}");
        }
        assert_eq!(denied("/etc/shadow").judge("/etc/shadow2"), Ok(vec![]));
    }

    #[test]
    fn a_denied_path_is_left_out_of_a_source_above_it() {
        assert_eq!(
            denied("/etc/sh[a]dow").judge("/etc"),
            Ok(vec![r"/etc/sh\[a\]dow".to_owned()])
        );
        assert_eq!(
            denied("/etc/shadow").judge("/"),
            Ok(vec!["/etc/shadow".to_owned()])
        );
    }

    #[test]
    fn a_link_on_the_way_hides_nothing() -> Result<(), Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let home = home.path().canonicalize()?;
        fs::create_dir(home.join("real"))?;
        fs::write(home.join("real/secret"), "")?;
        std::os::unix::fs::symlink("real", home.join("link"))?;
        let guard = denied(home.join("real/secret"));

        let through_link = home.join("link/secret");
        assert!(guard.judge(&through_link.to_string_lossy()).is_err());

        let below = denied(home.join("real/secret/deep"));
        assert!(
            below
                .judge(&through_link.to_string_lossy())
                .is_ok_and(|excludes| { excludes == [format!("{}/deep", through_link.display())] })
        );
        Ok(())
    }

    #[test]
    fn a_denied_link_denies_what_it_leads_to() -> Result<(), Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let home = home.path().canonicalize()?;
        fs::create_dir_all(home.join("real/secret"))?;
        std::os::unix::fs::symlink("real/secret", home.join("link"))?;
        let guard = denied(home.join("link"));
        let judge = |path: &str| guard.judge(&home.join(path).to_string_lossy());

        for source in ["link", "link/deep", "real/secret", "real/secret/deep"] {
            assert!(judge(source).is_err(), "{source}");
        }
        let secret = home.join("real/secret").display().to_string();
        assert_eq!(judge("real"), Ok(vec![secret.clone()]));
        let link = home.join("link").display().to_string();
        assert_eq!(judge(""), Ok(vec![link, secret]));
        Ok(())
    }
}
