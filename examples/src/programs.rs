use std::io;
use std::path::{Path, PathBuf};

/// The reference binaries, as cargo built them.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `arkeep-server`.
    pub server: PathBuf,
    /// `arkeep-agent`.
    pub agent: PathBuf,
}

/// The binaries are not there.
#[derive(Debug, thiserror::Error)]
#[error("{} is not built; run `cargo build --bins` first", path.display())]
pub struct ProgramsError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Programs {
    /// Finds the binaries beside the running program, which cargo put into the same directory or
    /// one below it.
    ///
    /// # Errors
    ///
    /// When one of the two is missing.
    pub fn find() -> Result<Self, ProgramsError> {
        let unknown = |source| ProgramsError {
            path: PathBuf::from("arkeep-server"),
            source,
        };
        let this = std::env::current_exe().map_err(unknown)?;
        let beside = this.parent().unwrap_or(Path::new("."));
        let profile = if beside.ends_with("deps") || beside.ends_with("examples") {
            beside.parent().unwrap_or(beside)
        } else {
            beside
        };
        let find = |name: &str| {
            let path = profile.join(name);
            match path.metadata() {
                Ok(_) => Ok(path),
                Err(source) => Err(ProgramsError { path, source }),
            }
        };
        Ok(Self {
            server: find("arkeep-server")?,
            agent: find("arkeep-agent")?,
        })
    }
}
