//! Where the key comes from that unwraps the key ring.
//!
//! | level | sources |
//! |---|---|
//! | the command line | `--vault-key-file`, `--vault-passphrase-file` |
//! | the environment | `ARKEEP_VAULT_KEY_FILE`, `ARKEEP_VAULT_PASSPHRASE_FILE`, `ARKEEP_VAULT_KEY`, `ARKEEP_VAULT_PASSPHRASE` |
//! | the file of `--config` | `vault-key-file`, `vault-passphrase-file` |
//! | the service manager | the credential `vault.key` |
//! | nothing of these | `vault.key` in the data directory |
//!
//! The first level that names a source decides, and it must name one: two that contradict each
//! other are refused. A new key for `vault rekey` has the same sources with `new` in their names.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use arkeep_core::SecretString;
use arkeep_vault::{
    KeyEncryptionKey, KeyFileError, KeyValueError, PassphraseCost, PassphraseError,
};
use clap::ArgMatches;
use clap::parser::ValueSource;

use super::serve::ConfigRefused;

/// What the key-encryption key is read from.
#[derive(Clone)]
#[non_exhaustive]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A credential that the service manager put into this directory.
    Credential(PathBuf),
    /// The value of a variable: 64 hexadecimal digits.
    Value {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: SecretString,
    },
    /// A file with a passphrase.
    PassphraseFile(PathBuf),
    /// The value of a variable: a passphrase.
    Passphrase {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: SecretString,
    },
}

/// A source gives no key. Nothing has changed. Exit with 4.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeySourceError {
    /// The file is missing, readable to others, or no key.
    #[error(transparent)]
    File(#[from] KeyFileError),

    /// The variable holds no key.
    #[error("{variable} holds no key")]
    Value {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        #[source]
        source: KeyValueError,
    },

    /// The variable holds no passphrase.
    #[error("{variable} holds no passphrase")]
    Passphrase {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        #[source]
        source: PassphraseError,
    },
}

impl KeySource {
    /// Reads the key.
    ///
    /// # Errors
    ///
    /// [`KeySourceError`]
    pub fn read(&self) -> Result<KeyEncryptionKey, KeySourceError> {
        let cost = PassphraseCost::default();
        match self {
            Self::File(path) => Ok(KeyEncryptionKey::from_file(path)?),
            Self::Credential(path) => {
                let directory = path.parent().unwrap_or(path);
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                Ok(KeyEncryptionKey::from_systemd_credential(&name, directory)?)
            }
            Self::Value { variable, value } => KeyEncryptionKey::from_env_value(value)
                .map_err(|source| KeySourceError::Value { variable, source }),
            Self::PassphraseFile(path) => Ok(KeyEncryptionKey::from_passphrase_file(path, cost)?),
            Self::Passphrase { variable, value } => {
                KeyEncryptionKey::from_passphrase(value.clone(), cost)
                    .map_err(|source| KeySourceError::Passphrase { variable, source })
            }
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the key in {}", path.display()),
            Self::Credential(path) => write!(f, "the credential {}", path.display()),
            Self::PassphraseFile(path) => write!(f, "the passphrase in {}", path.display()),
            Self::Value { variable, .. } | Self::Passphrase { variable, .. } => {
                write!(f, "the value of {variable}")
            }
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySource({self})")
    }
}

/// Where a source was named. The first that names one decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Flag,
    Variable,
    File,
}

/// Where the files were named, by the ids of their options.
#[derive(Debug, Clone, Default)]
pub struct Levels(Vec<(&'static str, Level)>);

impl Levels {
    /// Finds out where the values of these matches come from.
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let mut leaf = matches;
        while let Some((_, deeper)) = leaf.subcommand() {
            leaf = deeper;
        }
        let mut levels = Vec::new();
        for id in [
            KEY.file,
            KEY.passphrase_file,
            NEW_KEY.file,
            NEW_KEY.passphrase_file,
        ] {
            // The options of another command are unknown to these matches.
            if !matches!(leaf.try_contains_id(id), Ok(true)) {
                continue;
            }
            let level = match leaf.value_source(id) {
                Some(ValueSource::CommandLine) => Level::Flag,
                Some(ValueSource::EnvVariable) => Level::Variable,
                // The values of the file are made defaults.
                _ => Level::File,
            };
            levels.push((id, level));
        }
        Self(levels)
    }

    fn level(&self, id: &str) -> Level {
        let named = self.0.iter().find(|(named, _)| *named == id);
        named.map_or(Level::File, |(_, level)| *level)
    }
}

/// The names under which one key is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    file: &'static str,
    passphrase_file: &'static str,
    value: &'static str,
    passphrase: &'static str,
    credential: &'static str,
}

/// The key that the ring opens with.
pub(super) const KEY: Names = Names {
    file: "vault_key_file",
    passphrase_file: "vault_passphrase_file",
    value: "ARKEEP_VAULT_KEY",
    passphrase: "ARKEEP_VAULT_PASSPHRASE",
    credential: "vault.key",
};

/// The key that it shall open with.
pub(super) const NEW_KEY: Names = Names {
    file: "new_vault_key_file",
    passphrase_file: "new_vault_passphrase_file",
    value: "ARKEEP_NEW_VAULT_KEY",
    passphrase: "ARKEEP_NEW_VAULT_PASSPHRASE",
    credential: "vault.key.new",
};

/// What was said of one key.
pub(super) struct Said {
    pub(super) key_file: Option<PathBuf>,
    pub(super) passphrase_file: Option<PathBuf>,
}

/// The source that decides; none when none was named.
pub(super) fn choose(
    names: Names,
    said: Said,
    levels: &Levels,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<KeySource>, ConfigRefused> {
    let secret = |variable| match environment(variable).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(SecretString::from(value))),
        // The value is dropped, and not shown.
        Some(Err(_)) => Err(ConfigRefused::NotText { variable }),
    };
    let mut named = Vec::new();
    if let Some(path) = said.key_file {
        named.push((levels.level(names.file), KeySource::File(path)));
    }
    if let Some(path) = said.passphrase_file {
        let level = levels.level(names.passphrase_file);
        named.push((level, KeySource::PassphraseFile(path)));
    }
    if let Some(value) = secret(names.value)? {
        let variable = names.value;
        named.push((Level::Variable, KeySource::Value { variable, value }));
    }
    if let Some(value) = secret(names.passphrase)? {
        let variable = names.passphrase;
        named.push((Level::Variable, KeySource::Passphrase { variable, value }));
    }
    let Some(first) = named.iter().map(|(level, _)| *level).min() else {
        return Ok(credential(names, environment));
    };
    named.retain(|(level, _)| *level == first);
    let several = named.iter().map(|(_, source)| source.to_string());
    let several = several.collect::<Vec<_>>().join(", ");
    match named.pop() {
        Some((_, source)) if named.is_empty() => Ok(Some(source)),
        _ => Err(ConfigRefused::SeveralKeys(several)),
    }
}

// It is there when the unit of the service says so, and then it is meant.
fn credential(names: Names, environment: &dyn Fn(&str) -> Option<OsString>) -> Option<KeySource> {
    let directory = environment("CREDENTIALS_DIRECTORY")?;
    let path = Path::new(&directory).join(names.credential);
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // One that cannot be looked at is no reason to make a key of our own.
        _ => Some(KeySource::Credential(path)),
    }
}

/// The environment of this process.
#[expect(
    clippy::disallowed_methods,
    reason = "a secret has no flag, and clap reads no variable without one"
)]
pub(super) fn environment(variable: &str) -> Option<OsString> {
    std::env::var_os(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fallible = Result<(), Box<dyn std::error::Error>>;

    const NOTHING: Said = Said {
        key_file: None,
        passphrase_file: None,
    };

    fn file(level: Level) -> (Said, Levels) {
        let said = Said {
            key_file: Some("typed.key".into()),
            passphrase_file: None,
        };
        (said, Levels(vec![(KEY.file, level)]))
    }

    fn variables(values: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| {
            let found = values.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        }
    }

    fn chosen(
        (said, levels): (Said, Levels),
        values: &'static [(&str, &str)],
    ) -> Result<String, ConfigRefused> {
        let source = choose(KEY, said, &levels, &variables(values))?;
        Ok(source.map_or_else(String::new, |source| source.to_string()))
    }

    const DIGITS: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

    /// V5
    #[test]
    fn a_flag_beats_a_variable_and_that_the_file() -> Fallible {
        let value: &[(&str, &str)] = &[("ARKEEP_VAULT_KEY", DIGITS)];

        assert_eq!(chosen(file(Level::Flag), value)?, "the key in typed.key");
        assert_eq!(
            chosen(file(Level::File), value)?,
            "the value of ARKEEP_VAULT_KEY"
        );
        assert_eq!(chosen(file(Level::File), &[])?, "the key in typed.key");
        assert_eq!(chosen((NOTHING, Levels::default()), &[])?, "");
        Ok(())
    }

    /// V5
    #[test]
    fn two_of_one_level_are_refused_without_their_values() {
        let both: &[(&str, &str)] = &[
            ("ARKEEP_VAULT_KEY", DIGITS),
            ("ARKEEP_VAULT_PASSPHRASE", "hunter2"),
        ];

        for refused in [
            chosen(file(Level::Variable), &[("ARKEEP_VAULT_KEY", DIGITS)]),
            chosen((NOTHING, Levels::default()), both),
        ] {
            let Err(ConfigRefused::SeveralKeys(several)) = refused else {
                panic!("{refused:?}");
            };
            assert!(several.contains("ARKEEP_VAULT_KEY"), "{several}");
            assert!(!several.contains(DIGITS) && !several.contains("hunter2"));
        }
    }

    /// V5: it is not taken for an empty one.
    #[test]
    fn a_value_that_is_no_text_is_refused_by_its_name() {
        let environment = |name: &str| {
            use std::os::unix::ffi::OsStringExt as _;
            (name == "ARKEEP_VAULT_PASSPHRASE").then(|| OsString::from_vec(b"hunter\xff".to_vec()))
        };

        let refused = choose(KEY, NOTHING, &Levels::default(), &environment);

        let told = refused.map_err(|error| error.to_string()).err();
        let told = told.unwrap_or_default();
        assert!(told.contains("ARKEEP_VAULT_PASSPHRASE"), "{told}");
        assert!(told.contains("UTF-8") && !told.contains("hunter"), "{told}");
    }

    /// V5
    #[test]
    fn a_credential_counts_when_nothing_was_named() -> Fallible {
        let directory = tempfile::tempdir()?;
        let path = directory.path().to_string_lossy().into_owned();
        let environment =
            move |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| path.clone().into());
        let choose = |said, levels| choose(KEY, said, &levels, &environment);

        assert!(choose(NOTHING, Levels::default())?.is_none());
        std::os::unix::fs::symlink("vault.key", directory.path().join("vault.key"))?;
        assert!(
            choose(NOTHING, Levels::default())?.is_some(),
            "not passed over"
        );
        std::fs::remove_file(directory.path().join("vault.key"))?;
        std::fs::write(directory.path().join("vault.key"), [7; 32])?;

        let found = choose(NOTHING, Levels::default())?;
        assert!(matches!(found, Some(KeySource::Credential(_))), "{found:?}");
        let (said, levels) = file(Level::File);
        let found = choose(said, levels)?;
        assert!(matches!(found, Some(KeySource::File(_))), "{found:?}");
        Ok(())
    }

    /// V8
    #[test]
    fn nothing_shows_the_value() {
        let value = KeySource::Passphrase {
            variable: "ARKEEP_VAULT_PASSPHRASE",
            value: SecretString::from("hunter2"),
        };

        assert_eq!(
            format!("{value:?} {value}"),
            "KeySource(the value of ARKEEP_VAULT_PASSPHRASE) \
             the value of ARKEEP_VAULT_PASSPHRASE"
        );
    }
}
