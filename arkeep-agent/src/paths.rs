//! Paths as they are meant, whatever they look like.

use std::path::{Component, Path, PathBuf};

/// Without `.`, `..` and slashes that say nothing, as restic cleans a path before it opens it.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}
