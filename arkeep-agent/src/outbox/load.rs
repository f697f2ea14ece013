use std::collections::VecDeque;
use std::io;

use arkeep_core::JobId;
use arkeep_core::job::Assignment;
use arkeep_core::secret::{ExposeSecret, SecretSlice};
use arkeep_transport::wire;
use rustix::io::Errno;

use super::record::{self, Name};
use super::shelf::{self, Shelf, TakeError};
use super::{Damage, Entry, Held, OutboxError, SoFar, Stage};

/// Reads one job from the disk and moves aside what is damaged.
pub(super) struct Loading<'a> {
    pub(super) shelf: &'a Shelf,
    pub(super) job: JobId,
    pub(super) damage: &'a mut Vec<Damage>,
}

impl Loading<'_> {
    pub(super) fn load(mut self, names: &[String]) -> Result<Option<(Entry, Held)>, OutboxError> {
        let names: Vec<Name> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let leases = names.iter().filter_map(|name| match name {
            Name::Assignment(attempt, fence) => Some((*fence, *attempt)),
            _ => None,
        });
        let Some((fence, attempt)) = leases.max() else {
            self.set_aside(None)?;
            return Ok(None);
        };
        let logs = names.iter().filter_map(|name| match name {
            Name::Log(first, last) => Some((*first, *last)),
            _ => None,
        });
        let mut entry = Entry {
            attempt,
            fence,
            stage: Stage::Accepted,
            start_acknowledged: false,
            logs: logs.collect::<VecDeque<_>>(),
            logged: 0,
        };
        entry.logs.make_contiguous().sort_unstable();
        for name in &names {
            if let Name::Logged(last) = name {
                entry.logged = entry.logged.max(*last);
            }
        }
        let assignment = Name::Assignment(attempt, fence);
        for name in &names {
            if matches!(name, Name::Assignment(..)) && *name != assignment {
                self.shelf.remove(self.job, &name.to_string())?;
            }
        }
        if names.contains(&Name::Acked) {
            if entry.logs.is_empty() {
                self.shelf.discard(self.job)?;
                return Ok(None);
            }
            entry.stage = Stage::Acknowledged;
            return Ok(Some(self.held(entry, None, SoFar::default())));
        }
        if names.contains(&Name::Finished)
            && self
                .take(&Name::Finished, |c| record::report(&Name::Finished, c))?
                .is_some()
        {
            entry.stage = Stage::Finished;
        }
        let so_far = match names.contains(&Name::SoFar) {
            true => self.take(&Name::SoFar, shelf::json)?,
            false => None,
        };
        let begun = names
            .iter()
            .any(|name| matches!(name, Name::Started | Name::SoFar | Name::Finished));
        if begun && entry.stage == Stage::Accepted {
            entry.stage = Stage::Started;
        }
        if names.contains(&Name::Started)
            && self
                .take(&Name::Started, |c| record::report(&Name::Started, c))?
                .is_none()
        {
            // It cannot be said any more when work began; the end will say that it did.
            entry.start_acknowledged = true;
        }
        let work = self.take(&assignment, decode)?;
        if work.is_none() {
            // The name alone says which lease to answer for, so the name has to stay.
            let nothing = shelf::bytes(Vec::new());
            self.shelf
                .put(self.job, &assignment.to_string(), &nothing)?;
        }
        let work = work.flatten();
        if work.is_none() && entry.stage == Stage::Accepted {
            // Nobody can tell what was to be done, so that nothing was done has to be said.
            entry.stage = Stage::Started;
        }
        Ok(Some(self.held(entry, work, so_far.unwrap_or_default())))
    }

    fn held(self, entry: Entry, assignment: Option<Assignment>, so_far: SoFar) -> (Entry, Held) {
        let held = Held {
            job: self.job,
            stage: entry.stage,
            assignment,
            so_far,
        };
        (entry, held)
    }

    /// Reads and decodes one file; a damaged one is moved aside and is nothing.
    fn take<T>(
        &mut self,
        name: &Name,
        decode: impl FnOnce(&SecretSlice<u8>) -> Result<T, TakeError>,
    ) -> Result<Option<T>, OutboxError> {
        let taken = self.shelf.take(self.job, &name.to_string());
        match taken.and_then(|content| decode(&content)) {
            Ok(decoded) => Ok(Some(decoded)),
            Err(TakeError::Disk(error)) if is_of_the_process(&error) => Err(error.into()),
            Err(TakeError::Disk(error)) => {
                tracing::error!(job = %self.job, %name, %error, "an entry cannot be read");
                self.set_aside(Some(name))?;
                Ok(None)
            }
            Err(TakeError::Damaged) => {
                self.set_aside(Some(name))?;
                Ok(None)
            }
        }
    }

    fn set_aside(&mut self, name: Option<&Name>) -> Result<(), OutboxError> {
        let entry = name.map(ToString::to_string);
        let moved_to = self.shelf.set_aside(self.job, entry.as_deref())?;
        self.damage.push(Damage {
            job: self.job,
            entry,
            moved_to,
        });
        Ok(())
    }
}

/// Whether the process lacks something to read with, so that nothing is known of what it read.
pub(super) fn is_of_the_process(error: &io::Error) -> bool {
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    error
        .raw_os_error()
        .is_some_and(|code| lacking.contains(&code))
}

/// The assignment in an opened file; nothing when only its name was kept.
pub(super) fn decode(content: &SecretSlice<u8>) -> Result<Option<Assignment>, TakeError> {
    let content = content.expose_secret();
    if content.is_empty() {
        return Ok(None);
    }
    wire::decode_assignment(content)
        .map(Some)
        .map_err(|_| TakeError::Damaged)
}
