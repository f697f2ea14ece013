//! What is backed up, when, and where to.
//!
//! The types here are the parts of a policy that server and agent both speak of, written in JSON
//! as the HTTP API shows them.

use serde::{Deserialize, Serialize};

/// One thing to back up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A path of the agent's machine. Whatever it looks like, it is a path.
    Path(String),
    /// A Docker volume, by name.
    DockerVolume(String),
}

/// When a policy runs by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Five fields of cron, or a descriptor such as `@daily`.
    pub cron: String,
    /// An IANA time zone, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub timezone: String,
    /// Seconds over which runs of many policies are spread.
    #[serde(default)]
    pub jitter: u32,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// What happens to ticks that passed while nobody could run them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// One run stands for all that were missed.
    #[default]
    Latest,
    /// They are gone.
    None,
}

/// How many snapshots are kept. A field that is absent keeps nothing by itself; restic keeps the
/// union of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// The latest so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// One for each of the last so many hours that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<u32>,
    /// The same for days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<u32>,
    /// The same for weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<u32>,
    /// The same for months.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<u32>,
    /// The same for years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yearly: Option<u32>,
    /// Everything younger than so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<u64>,
}

impl Retention {
    /// Whether applying it would remove every snapshot.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        let counts = [
            self.keep_last,
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
        ];
        counts.into_iter().all(|count| count.unwrap_or(0) == 0) && self.within.unwrap_or(0) == 0
    }
}

/// How much of the machine a run may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// KiB per second towards the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_kib: Option<u32>,
    /// KiB per second from the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_kib: Option<u32>,
    /// Processors at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Give way to every other user of the disks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub io_nice: bool,
}

/// A command around a backup, as the server stores it and relays it. Nobody has judged it: the
/// agent does, by its owner's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// What people call it.
    pub name: String,
    /// A program and its arguments; no shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// A line for the plain subset of the shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Seconds, 1 to 86,400.
    #[serde(default = "five_minutes")]
    pub timeout: u32,
    /// What a human signed, off the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

const fn five_minutes() -> u32 {
    300
}

/// The hooks of a policy, each list in the order in which it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Before restic starts; one that fails stops the job.
    pub before: Vec<Hook>,
    /// After restic ended, whatever came of it.
    pub after: Vec<Hook>,
    /// After restic ended, when the job failed.
    pub on_failure: Vec<Hook>,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPhase {
    /// Before restic starts.
    Before,
    /// After restic ended.
    After,
    /// After restic ended and the job failed.
    OnFailure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_written_as_the_api_shows_it() -> Result<(), serde_json::Error> {
        let sources: Vec<Source> =
            serde_json::from_str(r#"[{"path":"/srv"},{"docker_volume":"db"}]"#)?;

        assert_eq!(
            sources,
            [
                Source::Path("/srv".to_owned()),
                Source::DockerVolume("db".to_owned())
            ]
        );
        Ok(())
    }

    #[test]
    fn retention_of_zeroes_keeps_nothing() {
        assert!(Retention::default().keeps_nothing());
        assert!(
            Retention {
                keep_last: Some(0),
                ..Retention::default()
            }
            .keeps_nothing()
        );
        assert!(
            !Retention {
                within: Some(1),
                ..Retention::default()
            }
            .keeps_nothing()
        );
    }
}
