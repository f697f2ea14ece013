//! Key files: who may read them, what is in them, and how to say what is wrong.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::{Inner, KeyEncryptionKey, PassphraseError};
use crate::files::{self, ReadFault};
use crate::hex;
use crate::xaes::{KEY_LEN, Refused, XaesKey};

/// The file that a key came from, and who else may read it.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    path: PathBuf,
    audience: Audience,
}

/// Who may be able to read a key file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Audience {
    Owner,
    /// A credential has an access list for its one user, and its mode shows that as the group's
    /// right to read (acl(5), "correspondence between ACL entries and file permission bits").
    Group,
}

impl Origin {
    pub(super) fn new(path: &Path, audience: Audience) -> Self {
        let path = path.to_owned();
        Self { path, audience }
    }

    /// Reads the key and remembers where it came from.
    pub(super) fn read(self) -> Result<KeyEncryptionKey, KeyFileError> {
        let key = self.read_key()?;
        let origin = Some(self);
        Ok(KeyEncryptionKey {
            inner: Inner::Key { key, origin },
        })
    }

    /// Reads the passphrase: the text of the file without the end of its line.
    pub(super) fn read_passphrase(self) -> Result<SecretString, KeyFileError> {
        let content = match self.content(LONGEST_PASSPHRASE) {
            Err(KeyFileError::Content { path, .. }) => {
                return Err(KeyFileError::NotOneLine { path });
            }
            content => content?,
        };
        let path = self.path;
        let Ok(text) = str::from_utf8(content.expose_secret()) else {
            return Err(KeyFileError::NotOneLine { path });
        };
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        match line.contains(['\n', '\r', '\0']) {
            true => Err(KeyFileError::NotOneLine { path }),
            false => Ok(SecretString::from(line)),
        }
    }

    /// Reads the key once more, for one attempt. The reason of a failure is of no interest then.
    pub(super) fn read_again(&self) -> Result<Box<XaesKey>, Refused> {
        self.read_key().map_err(|_| Refused)
    }

    /// Writes a new key where nothing is, for whoever owns `like`.
    pub(super) fn generate(&self, like: &Path) -> Result<(), KeyFileError> {
        let path = self.path.clone();
        let mut key = Zeroizing::new([0; KEY_LEN]);
        getrandom::fill(&mut *key).map_err(|source| KeyFileError::Io {
            path: path.clone(),
            source: io::Error::other(source),
        })?;
        files::create_new(&self.path, &*key, like).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path },
            _ => KeyFileError::Io { path, source },
        })
    }

    /// What is in the file, if nobody else may read it.
    fn content(&self, longest: usize) -> Result<SecretSlice<u8>, KeyFileError> {
        let path = self.path.clone();
        let content = match files::read(&path, longest) {
            Ok(content) => content,
            Err(ReadFault::Missing) => return Err(KeyFileError::Missing { path }),
            Err(ReadFault::SymbolicLink) => return Err(KeyFileError::SymbolicLink { path }),
            Err(ReadFault::NotAFile) => return Err(KeyFileError::NotAFile { path }),
            Err(ReadFault::TooLong) => return Err(KeyFileError::Content { path, length: None }),
            Err(ReadFault::Io(source)) => return Err(KeyFileError::Io { path, source }),
        };
        let mode = content.mode;
        if mode & self.audience.forbidden() != 0 {
            return Err(KeyFileError::Exposed { path, mode });
        }
        Ok(content.bytes)
    }

    fn read_key(&self) -> Result<Box<XaesKey>, KeyFileError> {
        let path = self.path.clone();
        let content = self.content(LONGEST_FILE)?;
        let bytes = content.expose_secret();
        if let Ok(raw) = bytes.try_into() {
            return Ok(XaesKey::new(raw));
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let digits = line.strip_suffix(b"\r").unwrap_or(line);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        match hex::decode(digits, &mut *key) {
            true => Ok(XaesKey::new(&key)),
            false => Err(KeyFileError::Content {
                path,
                length: Some(bytes.len()),
            }),
        }
    }
}

impl Audience {
    /// The permission bits that show somebody else can reach the key.
    fn forbidden(self) -> u32 {
        match self {
            Self::Owner => 0o077,
            Self::Group => 0o037,
        }
    }
}

/// A key file was refused. Nothing was changed.
///
/// Every text names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Nothing is there. The path is wrong, or the file was lost: restore it from the place where
    /// keys are kept.
    #[error("there is no file {}: correct the path or restore the file", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },

    /// Something is already there, and it may be the only copy of a key.
    #[error("{} exists already and was left alone: choose another path", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },

    /// A link is not followed, because whoever owns it can point it elsewhere.
    #[error("{} is a symbolic link: name the file itself", .path.display())]
    SymbolicLink {
        /// The file.
        path: PathBuf,
    },

    /// A directory, a pipe, or another thing that holds no key.
    #[error("{} is not a regular file: name the file itself", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },

    /// Others may have read the key, or may replace it. Take the right away; if they were not to
    /// be trusted, rekey.
    #[error(
        "{} is open to others (mode {mode:04o}): run `chmod 600` on it, and change the key if \
         somebody may have read it",
        .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// The content is no key.
    #[error(
        "{} is not a key file{}: it must hold exactly 32 bytes, or 64 hexadecimal digits",
        .path.display(),
        Length(*.length)
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// How long it is, unless it is longer than anybody wants to know.
        length: Option<usize>,
    },

    /// The content is no passphrase.
    #[error("{} is not a passphrase file: it must hold one line of text, of at most 4 KiB", .path.display())]
    NotOneLine {
        /// The file.
        path: PathBuf,
    },

    /// The content is a line of text, and no key is made of it.
    #[error("no key can be made of the passphrase in {}", .path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PassphraseError,
    },

    /// The operating system refused.
    #[error("{} cannot be used", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

struct Length(Option<usize>);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(length) => write!(f, " ({length} bytes)"),
            None => f.write_str(" (too long)"),
        }
    }
}

/// 64 digits and a line end, with room to tell by how much a file is too long.
const LONGEST_FILE: usize = 128;

/// Longer than anybody remembers.
const LONGEST_PASSPHRASE: usize = 4096;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use secrecy::SecretSlice;

    use super::*;
    use crate::KeyWrapper;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new() -> io::Result<Self> {
            tempfile::tempdir().map(Self)
        }

        fn file(&self, content: &[u8], mode: u32) -> io::Result<PathBuf> {
            let path = self.0.path().join("vault.key");
            fs::write(&path, content)?;
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
            Ok(path)
        }
    }

    fn same_key(one: &KeyEncryptionKey, other: &KeyEncryptionKey) -> bool {
        let ring_key = SecretSlice::from(vec![9; 32]);
        let wrapped = one.wrap(&ring_key).unwrap();
        other.unwrap(&wrapped).is_ok()
    }

    /// A file name in the text, the word that says what to do, and no change to the file.
    fn explained(error: &KeyFileError, advice: &str) -> bool {
        let text = error.to_string();
        text.contains("vault.key") && text.contains(advice)
    }

    mod from_file {
        use super::*;

        /// V5
        #[test]
        fn takes_raw_bytes_and_digits_for_the_same_key() -> TestResult {
            let directory = Directory::new()?;
            let digits = "0f".repeat(32);
            let raw = KeyEncryptionKey::from_file(directory.file(&[0x0f; 32], 0o600)?)?;

            for text in [
                digits.clone(),
                digits.to_uppercase(),
                format!("{digits}\n"),
                format!("{digits}\r\n"),
            ] {
                let read = KeyEncryptionKey::from_file(directory.file(text.as_bytes(), 0o400)?)?;

                assert!(same_key(&raw, &read), "{text:?}");
            }
            Ok(())
        }

        /// V5: a raw key may end in the byte of a line feed, or be all digits.
        #[test]
        fn never_takes_raw_bytes_for_text() -> TestResult {
            let directory = Directory::new()?;
            let raw = [b"0123456789abcdef0123456789abcde", &b"\n"[..]].concat();

            let read = KeyEncryptionKey::from_file(directory.file(&raw, 0o600)?)?;

            assert!(same_key(&KeyEncryptionKey::from_bytes(&raw.into())?, &read));
            Ok(())
        }

        /// V5
        #[test]
        fn refuses_any_other_length() -> TestResult {
            let directory = Directory::new()?;

            for length in [0, 1, 31, 33, 63, 64, 65, 66, 128] {
                let path = directory.file(&vec![b'z'; length], 0o600)?;

                let error = KeyEncryptionKey::from_file(&path).unwrap_err();

                assert!(
                    matches!(error, KeyFileError::Content { length: Some(l), .. } if l == length)
                );
                assert!(explained(
                    &error,
                    "exactly 32 bytes, or 64 hexadecimal digits"
                ));
            }
            for length in [129, 1 << 20] {
                let path = directory.file(&vec![b'0'; length], 0o600)?;

                let error = KeyEncryptionKey::from_file(&path).unwrap_err();

                assert!(matches!(error, KeyFileError::Content { length: None, .. }));
                assert!(explained(&error, "(too long)"));
            }
            Ok(())
        }

        /// V5
        #[test]
        fn refuses_a_file_that_anybody_else_may_use() -> TestResult {
            let directory = Directory::new()?;

            for bit in [0o001, 0o002, 0o004, 0o010, 0o020, 0o040] {
                let path = directory.file(&[1; 32], 0o600 | bit)?;

                let error = KeyEncryptionKey::from_file(&path).unwrap_err();

                assert!(matches!(error, KeyFileError::Exposed { mode: m, .. } if m & bit != 0));
                assert!(explained(&error, &format!("mode {:04o}", 0o600 | bit)));
                assert!(explained(&error, "chmod 600"));
                assert_eq!(
                    fs::metadata(&path)?.permissions().mode() & 0o777,
                    0o600 | bit
                );
            }
            Ok(())
        }

        /// V5
        #[test]
        fn refuses_whatever_is_not_a_file() -> TestResult {
            let directory = Directory::new()?;
            let key = directory.file(&[1; 32], 0o600)?;
            let link = directory.0.path().join("link-to-vault.key");
            std::os::unix::fs::symlink(&key, &link)?;
            let inside = directory.0.path().join("dir-vault.key");
            fs::create_dir(&inside)?;

            let through_link = KeyEncryptionKey::from_file(&link).unwrap_err();
            let of_directory = KeyEncryptionKey::from_file(&inside).unwrap_err();
            let of_device = KeyEncryptionKey::from_file("/dev/zero").unwrap_err();
            let missing = KeyEncryptionKey::from_file(directory.0.path().join("no-vault.key"));

            assert!(matches!(through_link, KeyFileError::SymbolicLink { .. }));
            assert!(explained(&through_link, "name the file itself"));
            assert!(matches!(of_directory, KeyFileError::NotAFile { .. }));
            assert!(explained(&of_directory, "name the file itself"));
            assert!(matches!(of_device, KeyFileError::NotAFile { .. }));
            let missing = missing.unwrap_err();
            assert!(matches!(missing, KeyFileError::Missing { .. }));
            assert!(explained(&missing, "restore the file"));
            Ok(())
        }
    }

    mod from_systemd_credential {
        use super::*;

        /// V5
        #[test]
        fn reads_a_file_that_its_user_reaches_through_an_access_list() -> TestResult {
            let directory = Directory::new()?;
            directory.file(&[1; 32], 0o440)?;

            let read = KeyEncryptionKey::from_systemd_credential("vault.key", directory.0.path())?;

            assert!(same_key(
                &KeyEncryptionKey::from_bytes(&vec![1; 32].into())?,
                &read
            ));
            Ok(())
        }

        /// V5
        #[test]
        fn refuses_a_file_that_the_world_may_read_or_the_group_may_write() -> TestResult {
            let directory = Directory::new()?;

            for mode in [0o444, 0o404, 0o460, 0o450] {
                directory.file(&[1; 32], mode)?;

                let read =
                    KeyEncryptionKey::from_systemd_credential("vault.key", directory.0.path());

                assert!(
                    matches!(read, Err(KeyFileError::Exposed { .. })),
                    "{mode:o}"
                );
            }
            Ok(())
        }

        #[test]
        fn stays_inside_its_directory() -> TestResult {
            let directory = Directory::new()?;
            let key = directory.file(&[1; 32], 0o400)?;
            let absolute = key.to_string_lossy();

            for name in ["", ".", "..", "../vault.key", "a/vault.key", &absolute] {
                let read = KeyEncryptionKey::from_systemd_credential(name, directory.0.path());

                assert!(
                    matches!(read, Err(KeyFileError::Missing { .. })),
                    "{name:?}"
                );
            }
            Ok(())
        }
    }

    mod generate_file {
        use super::*;

        /// V5
        #[test]
        fn makes_a_key_that_only_its_owner_can_read() -> TestResult {
            let directory = Directory::new()?;
            let path = directory.0.path().join("vault.key");

            let made = KeyEncryptionKey::generate_file(&path)?;

            assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::metadata(&path)?.len(), 32);
            assert!(same_key(&made, &KeyEncryptionKey::from_file(&path)?));
            assert_eq!(fs::read_dir(directory.0.path())?.count(), 1);
            Ok(())
        }

        /// V5
        #[test]
        fn never_overwrites_anything() -> TestResult {
            let directory = Directory::new()?;
            let path = directory.file(b"precious", 0o600)?;

            let error = KeyEncryptionKey::generate_file(&path).unwrap_err();

            assert!(matches!(error, KeyFileError::Exists { .. }));
            assert!(explained(&error, "choose another path"));
            assert_eq!(fs::read(&path)?, b"precious");
            assert_eq!(fs::read_dir(directory.0.path())?.count(), 1);
            Ok(())
        }
    }

    mod from_passphrase_file {
        use super::*;
        use crate::PassphraseCost;

        const CHEAP: PassphraseCost = PassphraseCost {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
        };

        /// V5
        #[test]
        fn takes_one_line_with_or_without_its_end() -> TestResult {
            let directory = Directory::new()?;
            let typed = KeyEncryptionKey::from_passphrase("open sesame".into(), CHEAP)?;

            for text in ["open sesame", "open sesame\n", "open sesame\r\n"] {
                let path = directory.file(text.as_bytes(), 0o600)?;
                let read = KeyEncryptionKey::from_passphrase_file(path, CHEAP)?;

                assert!(same_key(&typed, &read), "{text:?}");
            }
            Ok(())
        }

        /// V5
        #[test]
        fn refuses_what_is_empty_or_no_line_of_text() -> TestResult {
            let directory = Directory::new()?;

            for (content, advice) in [
                (&b""[..], "passphrase"),
                (b"\n", "passphrase"),
                (b"one\ntwo\n", "one line of text"),
                (b"not\xfftext", "one line of text"),
                (b"nul\0", "one line of text"),
                (&[b'a'; 4097], "one line of text"),
            ] {
                let path = directory.file(content, 0o600)?;

                let error = KeyEncryptionKey::from_passphrase_file(path, CHEAP).unwrap_err();

                assert!(explained(&error, advice), "{error}");
            }
            Ok(())
        }

        /// V5: as a key file.
        #[test]
        fn refuses_a_file_that_others_may_read() -> TestResult {
            let directory = Directory::new()?;
            let path = directory.file(b"open sesame", 0o644)?;

            let error = KeyEncryptionKey::from_passphrase_file(path, CHEAP).unwrap_err();

            assert!(matches!(error, KeyFileError::Exposed { mode: 0o644, .. }));
            Ok(())
        }
    }
}
