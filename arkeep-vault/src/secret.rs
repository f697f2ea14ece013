//! Reading a secret without leaving copies of it behind.

use std::io::{self, Read};

use secrecy::SecretSlice;
use secrecy::zeroize::Zeroizing;

/// Reads a secret of at most `limit` bytes to its end, such as from a pipe.
///
/// The usual ways of reading grow a buffer, and each time leave a part of the secret in memory that
/// is free to be used again. This one takes all the room at once and wipes it.
///
/// Give it something that keeps no buffer of its own: a [`File`](std::fs::File), which may be
/// `/dev/stdin`, rather than [`std::io::stdin`].
///
/// ```
/// use arkeep_vault::{ExposeSecret, read_secret};
///
/// let secret = read_secret(&mut &b"hunter2"[..], 1024)?;
///
/// assert_eq!(secret.expose_secret(), b"hunter2");
/// # Ok::<(), arkeep_vault::ReadSecretError>(())
/// ```
///
/// # Errors
///
/// [`ReadSecretError`]; whatever was read is wiped.
pub fn read_secret(
    reader: &mut dyn Read,
    limit: usize,
) -> Result<SecretSlice<u8>, ReadSecretError> {
    // One byte more than allowed, so that a longer secret shows.
    let mut buffer = Zeroizing::new(vec![0; limit.saturating_add(1)]);
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match reader.read(room) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadSecretError::Io(error)),
        }
    }
    if length > limit {
        return Err(ReadSecretError::TooLong { limit });
    }
    Ok(buffer.get(..length).unwrap_or_default().to_owned().into())
}

/// A secret was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadSecretError {
    /// There is more than a secret can be. It is something else.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// The most that was allowed.
        limit: usize,
    },

    /// Reading failed.
    #[error("the secret could not be read")]
    Io(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    /// Gives one byte at a time, and is interrupted before each.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.0.read(&mut buffer[..1])
        }
    }

    #[test]
    fn reads_to_the_end_however_it_comes() -> TestResult {
        let secret = read_secret(&mut Slow(b"hunter2", false), 100)?;

        assert_eq!(secret.expose_secret(), b"hunter2");
        Ok(())
    }

    #[test]
    fn takes_exactly_as_much_as_is_allowed() {
        assert!(read_secret(&mut &[1; 8][..], 8).is_ok());
        assert!(read_secret(&mut &[][..], 0).is_ok());
        let longer = read_secret(&mut &[1; 9][..], 8);
        assert!(matches!(longer, Err(ReadSecretError::TooLong { limit: 8 })));
    }

    /// V8
    #[test]
    fn prints_as_redacted() -> TestResult {
        let secret = read_secret(&mut &b"hunter2"[..], 8)?;
        let text = secrecy::SecretString::from("hunter2");

        assert_eq!(format!("{secret:?}"), "SecretBox<[u8]>([REDACTED])");
        assert_eq!(format!("{text:?}"), "SecretBox<str>([REDACTED])");
        Ok(())
    }

    #[test]
    fn passes_on_what_went_wrong() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }

        let read = read_secret(&mut Broken, 8);

        assert!(matches!(read, Err(ReadSecretError::Io(_))));
    }
}
