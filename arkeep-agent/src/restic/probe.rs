//! Which restic is there, asked once for each file.

use std::sync::PoisonError;
use std::time::Duration;

use arkeep_core::engine::{EngineError, Silent};

use super::ResticEngine;
use super::binary::{ADVICE, Identity, Program};
use super::process::{self, Ears, Ending, Order, Patience};
use super::version::Version;
use crate::sys::Leash;

/// A file, and what it said it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    identity: Identity,
    version: Version,
}

impl ResticEngine {
    /// Opens restic, checks it, and knows its version.
    pub(super) async fn program(&self) -> Result<(Program, Version), EngineError> {
        let source = self.config.binary.clone();
        let program = self.look(move || source.open()).await?;
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.filter(|known| known.identity == program.identity) {
            return Ok((program, known.version));
        }
        let version = self.ask_version(&program).await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known {
            identity: program.identity,
            version,
        });
        Ok((program, version))
    }

    async fn ask_version(&self, program: &Program) -> Result<Version, EngineError> {
        let unusable = |why: String| {
            EngineError::Unusable(format!("{} {why}; {ADVICE}", program.path.display()))
        };
        let dir = self.work_dir(&self.config.runtime_dir)?;
        let link = program
            .link_in(&dir)
            .map_err(|error| EngineError::Failed(format!("a link cannot be made: {error}")))?;
        let order = Order {
            program: &link,
            args: vec!["version".into()],
            env: vec![("HOME", dir.path().into())],
            leash: Leash::default(),
            patience: Patience::Whole(ANSWER),
            grace: Duration::ZERO,
            entry: None,
        };
        let mut answer = Answer(String::new());
        let ending = process::run(&self.spawner, order, &Silent, &mut answer, None)
            .await
            .map_err(|error| unusable(format!("cannot be executed: {error}")))?;
        if ending != Ending::Exited(0) {
            return Err(unusable("does not say its version".to_owned()));
        }
        let version =
            Version::of_answer(&answer.0).ok_or_else(|| unusable("is not restic".to_owned()))?;
        if version < Version::OLDEST {
            return Err(unusable(format!("is restic {version}, which is too old")));
        }
        Ok(version)
    }
}

struct Answer(String);

impl Ears for Answer {
    fn out(&mut self, line: &str) -> bool {
        if self.0.is_empty() {
            line.clone_into(&mut self.0);
        }
        false
    }

    fn err(&mut self, _line: &str) {}
}

const ANSWER: Duration = Duration::from_secs(20);
