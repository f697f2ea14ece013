//! Flags, environment and `agent.toml`, judged as a whole before anything runs.
//!
//! A flag beats its variable, the variable beats the file. The file decides what the server may
//! have done on this machine, so it must be the machine owner's: root's or the agent's own, and
//! not writable by others.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arkeep_agent::guard::{DeniedSources, RestoreTargets};
use arkeep_hooks::process::Account;
use arkeep_hooks::signed::{FileSequences, KeyError, Signed, TrustedKey};
use arkeep_hooks::{AllowList, Any, HookPolicy, Off, ProcessRunner};
use clap::ValueEnum;
use rustix::fs::OFlags;
use serde::Deserialize;

use crate::command::Options;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// All that was decided.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) state_dir: PathBuf,
    pub(crate) file: Option<PathBuf>,
    pub(crate) jobs_at_once: usize,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) hooks: HookSettings,
    pub(crate) targets: RestoreTargets,
    pub(crate) denied: DeniedSources,
    pub(crate) restic: Option<PathBuf>,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) runtime_dir: Option<PathBuf>,
    pub(crate) path: OsString,
}

/// What the owner decided about hooks.
#[derive(Debug, Clone)]
pub(crate) struct HookSettings {
    pub(crate) name: &'static str,
    pub(crate) policy: Arc<dyn HookPolicy>,
    pub(crate) runner: ProcessRunner,
    pub(crate) require_sandbox: bool,
}

/// The configuration was refused. The text names the file and the key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AgentToml {
    state_dir: Option<PathBuf>,
    jobs_at_once: Option<usize>,
    log_level: Option<String>,
    log_format: Option<LogFormat>,
    hooks: HooksSection,
    restore: RestoreSection,
    sources: SourcesSection,
    restic: ResticSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HooksSection {
    policy: PolicyName,
    allow: Vec<Vec<String>>,
    trusted_keys: Vec<String>,
    run_as: Option<String>,
    require_sandbox: bool,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PolicyName {
    #[default]
    Off,
    AllowList,
    Signed,
    Any,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RestoreSection {
    allowed_targets: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SourcesSection {
    denied: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ResticSection {
    path: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
}

impl Settings {
    /// Reads the file, if one is named, and judges all of it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: nothing may run.
    pub(crate) fn resolve(options: &Options) -> Result<Self, ConfigError> {
        let file = options.config.clone();
        let toml = match &file {
            Some(path) => AgentToml::read(path)?,
            None => AgentToml::default(),
        };
        let named = file.as_deref().unwrap_or(Path::new("agent.toml"));
        let refuse =
            |key: &str, text: &str| ConfigError(format!("{}: {key}: {text}", named.display()));
        let absolute = |key: &'static str, paths: Vec<PathBuf>| {
            let plain = |path: &PathBuf| {
                path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
            };
            match paths.iter().find(|path| !plain(path)) {
                Some(path) => Err(refuse(
                    key,
                    &format!("{} is not an absolute path without `..`", path.display()),
                )),
                None => Ok(paths),
            }
        };
        let one = |key, path: Option<PathBuf>| {
            absolute(key, path.into_iter().collect()).map(|mut paths| paths.pop())
        };
        let jobs_at_once = options.jobs_at_once.or(toml.jobs_at_once).unwrap_or(2);
        if !(1..=64).contains(&jobs_at_once) {
            return Err(refuse("jobs_at_once", "give a number from 1 to 64"));
        }
        let state_dir = options
            .state_dir
            .clone()
            .or(toml.state_dir)
            .unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        let mut denied = absolute("sources.denied", toml.sources.denied)?;
        // The agent's own keys go into no snapshot: the server could read them there.
        denied.extend(std::path::absolute(&state_dir));
        Ok(Self {
            jobs_at_once,
            log_level: options
                .log_level
                .clone()
                .or(toml.log_level)
                .unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.or(toml.log_format).unwrap_or_default(),
            hooks: toml.hooks.judge(&state_dir, &refuse)?,
            targets: RestoreTargets::new(absolute(
                "restore.allowed_targets",
                toml.restore.allowed_targets,
            )?),
            denied: DeniedSources::new(denied),
            restic: one("restic.path", toml.restic.path)?,
            cache_dir: one("restic.cache_dir", toml.restic.cache_dir)?,
            runtime_dir: variable("RUNTIME_DIRECTORY").map(PathBuf::from),
            path: variable("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
            state_dir,
            file,
        })
    }

    /// The file that the owner decides in, for people to find.
    pub(crate) fn decided_in(&self) -> String {
        match &self.file {
            Some(file) => file.display().to_string(),
            None => "an agent.toml to be named by --config".to_owned(),
        }
    }
}

impl HooksSection {
    fn judge(
        self,
        state_dir: &Path,
        refuse: &dyn Fn(&str, &str) -> ConfigError,
    ) -> Result<HookSettings, ConfigError> {
        if !matches!(self.policy, PolicyName::AllowList) && !self.allow.is_empty() {
            return Err(refuse(
                "hooks.allow",
                "is there, but hooks.policy is not \"allow-list\"",
            ));
        }
        if !matches!(self.policy, PolicyName::Signed) && !self.trusted_keys.is_empty() {
            return Err(refuse(
                "hooks.trusted_keys",
                "is there, but hooks.policy is not \"signed\"",
            ));
        }
        let (name, policy): (_, Arc<dyn HookPolicy>) = match self.policy {
            PolicyName::Off => ("off", Arc::new(Off)),
            PolicyName::Any => ("any", Arc::new(Any)),
            PolicyName::AllowList => {
                let list = AllowList::new(self.allow)
                    .map_err(|error| refuse("hooks.allow", &error.to_string()))?;
                ("allow-list", Arc::new(list))
            }
            PolicyName::Signed if self.trusted_keys.is_empty() => {
                return Err(refuse(
                    "hooks.trusted_keys",
                    "name at least one key, as `arkeep-agent hook keygen` prints it",
                ));
            }
            PolicyName::Signed => {
                let keys = self.trusted_keys.iter().map(|key| key.parse());
                let keys: Vec<TrustedKey> = keys
                    .collect::<Result<_, _>>()
                    .map_err(|error: KeyError| refuse("hooks.trusted_keys", &error.to_string()))?;
                let sequences = FileSequences::new(state_dir.join("hook-sequences"));
                ("signed", Arc::new(Signed::new(keys, Arc::new(sequences))))
            }
        };
        let mut runner = ProcessRunner::new().require_sandbox(self.require_sandbox);
        if let Some(name) = &self.run_as {
            let account = Account::by_name(name)
                .map_err(|error| refuse("hooks.run_as", &error.to_string()))?;
            runner = runner.run_as(account);
        }
        Ok(HookSettings {
            name,
            policy,
            runner,
            require_sandbox: self.require_sandbox,
        })
    }
}

impl AgentToml {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let refuse = |text: String| ConfigError(format!("{}: {text}", path.display()));
        // Not waiting for whoever would write into it, should it be a pipe.
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(|error| refuse(error.to_string()))?;
        // Judged through the descriptor that is read, so that nobody swaps the file in between.
        let found = file.metadata().map_err(|error| refuse(error.to_string()))?;
        let own = rustix::process::geteuid().as_raw();
        if !found.is_file() {
            return Err(refuse("is not a regular file".to_owned()));
        }
        if found.uid() != 0 && found.uid() != own {
            return Err(refuse(format!(
                "belongs to user {}; it must be root's or the agent's own",
                found.uid()
            )));
        }
        if found.mode() & 0o022 != 0 {
            return Err(refuse(format!(
                "can be written by others than its owner; run `chmod go-w {}`",
                path.display()
            )));
        }
        if found.len() > LONGEST_FILE {
            return Err(refuse(format!("is longer than {LONGEST_FILE} bytes")));
        }
        let text = std::io::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
        toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            refuse(format!("line {line}: {}", error.message()))
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "configuration is read here, once"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_STATE_DIR: &str = "/var/lib/arkeep-agent";
const LONGEST_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::command::{Command, parse};

    fn resolve(text: &str, flags: &[&str]) -> Result<Settings, Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let file = home.path().join("agent.toml");
        fs::write(&file, text)?;
        let mut line: Vec<OsString> = vec!["arkeep-agent".into(), "run".into(), "--config".into()];
        line.push(file.into());
        line.extend(flags.iter().map(OsString::from));
        match parse(line.into_iter())?.command {
            Command::Run { options } => Ok(Settings::resolve(&options)?),
            other => Err(format!("not what was written: {other:?}").into()),
        }
    }

    #[test]
    fn nothing_is_allowed_unless_it_is_written() -> Result<(), Box<dyn Error>> {
        let settings = resolve("", &[])?;

        assert_eq!(settings.hooks.name, "off");
        assert!(settings.targets.prepare("/").is_err());
        Ok(())
    }

    #[test]
    fn a_flag_beats_the_file() -> Result<(), Box<dyn Error>> {
        let text = "state_dir = '/a'\njobs_at_once = 3";

        assert_eq!(resolve(text, &[])?.state_dir, Path::new("/a"));
        let settings = resolve(text, &["--state-dir", "/b"])?;
        assert_eq!(settings.state_dir, Path::new("/b"));
        assert_eq!(settings.jobs_at_once, 3);
        Ok(())
    }

    #[test]
    fn every_key_of_the_contract_is_known() -> Result<(), Box<dyn Error>> {
        let settings = resolve(
            r#"
            [hooks]
            policy = "allow-list"
            allow = [["/usr/bin/pg_dump", "*"]]
            run_as = "nobody"
            require_sandbox = false
            [restore]
            allowed_targets = ["/var/restore"]
            [sources]
            denied = ["/etc/shadow"]
            [restic]
            path = "/usr/bin/restic"
            cache_dir = "/var/cache/arkeep"
            "#,
            &[],
        )?;

        assert_eq!(settings.hooks.name, "allow-list");
        assert!(settings.denied.judge("/etc/shadow").is_err());
        Ok(())
    }

    #[test]
    fn the_file_in_the_readme_is_accepted() -> Result<(), Box<dyn Error>> {
        let readme = include_str!("../README.md");
        let (_, rest) = readme.split_once("```toml\n").ok_or("a block")?;
        let (toml, _) = rest.split_once("```").ok_or("its end")?;

        let settings = resolve(toml, &[])?;

        assert_eq!(
            settings.restic.as_deref(),
            Some(Path::new("/usr/bin/restic"))
        );
        Ok(())
    }

    #[test]
    fn a_refusal_names_the_file_and_the_key() {
        for (text, key) in [
            ("[hooks]\npolcy = 'off'", "polcy"),
            ("[hook]", "hook"),
            ("[hooks]\npolicy = 'yes'", "yes"),
            ("[hooks]\nallow = [['/bin/true']]", "hooks.allow"),
            (
                "[hooks]\npolicy = 'allow-list'\nallow = [['true']]",
                "hooks.allow",
            ),
            (
                "[restore]\nallowed_targets = ['var/restore']",
                "restore.allowed_targets",
            ),
            ("[sources]\ndenied = ['/a/../b']", "sources.denied"),
            ("[restic]\npath = 'restic'", "restic.path"),
            ("jobs_at_once = 0", "jobs_at_once"),
            ("[hooks]\nrun_as = 'no-such-user'", "hooks.run_as"),
            ("[hooks]\npolicy = 'signed'", "hooks.trusted_keys"),
            (
                "[hooks]\npolicy = 'signed'\ntrusted_keys = ['ed25519:AA==']",
                "hooks.trusted_keys",
            ),
        ] {
            let refused = resolve(text, &[]).unwrap_err().to_string();

            assert!(
                refused.contains("agent.toml") && refused.contains(key),
                "{refused}"
            );
        }
    }

    /// H6: whoever writes it decides what the server may do.
    #[test]
    fn a_file_that_others_can_write_is_refused() -> Result<(), Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let file = home.path().join("agent.toml");
        fs::write(&file, "")?;
        for mode in [0o646, 0o664, 0o620] {
            fs::set_permissions(&file, PermissionsExt::from_mode(mode))?;

            let refused = AgentToml::read(&file).unwrap_err().to_string();

            assert!(refused.contains("chmod go-w"), "{mode:o}: {refused}");
        }
        fs::set_permissions(&file, PermissionsExt::from_mode(0o644))?;
        assert!(AgentToml::read(&file).is_ok());
        Ok(())
    }

    /// H6: a pipe that nobody writes to would be waited for, for ever.
    #[test]
    fn a_pipe_is_refused_at_once() -> Result<(), Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let pipe = home.path().join("agent.toml");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)?;
        let (told, answer) = std::sync::mpsc::channel();

        std::thread::spawn(move || told.send(AgentToml::read(&pipe).map(|_| ())));

        let refused = answer.recv_timeout(std::time::Duration::from_secs(10))?;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("not a regular file"), "{refused}");
        Ok(())
    }
}
