use std::fmt;

/// A version of restic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The oldest that is understood.
    pub(super) const OLDEST: Self = Self::new(0, 14, 0);
    /// Has `restore --overwrite`.
    pub(super) const OVERWRITE: Self = Self::new(0, 17, 0);
    /// Takes user and password of a REST server from the environment.
    pub(super) const REST_ENVIRONMENT: Self = Self::new(0, 18, 0);

    const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Reads the answer of `restic version`: `restic 0.14.0 compiled with go1.19.8 on linux/amd64`.
    pub(super) fn of_answer(answer: &str) -> Option<Self> {
        let number = answer.trim_start().strip_prefix("restic ")?;
        let number = number.split([' ', '-', '+', '\n']).next()?;
        let mut parts = number.split('.').map(str::parse);
        let mut part = || parts.next()?.ok();
        Some(Self::new(part()?, part()?, part().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G4
    #[test]
    fn is_read_from_what_restic_says() {
        for (answer, version) in [
            (
                "restic 0.14.0 compiled with go1.19.8 on linux/amd64\n",
                "0.14.0",
            ),
            ("restic 0.19.1-dev (compiled manually)", "0.19.1"),
            ("restic 1.0 compiled", "1.0.0"),
        ] {
            let read = Version::of_answer(answer).map(|version| version.to_string());
            assert_eq!(read.as_deref(), Some(version));
        }
        for answer in ["", "rclone v1.60.1", "restic", "restic x.y.z"] {
            assert_eq!(Version::of_answer(answer), None, "{answer}");
        }
    }

    #[test]
    fn ten_comes_after_nine() {
        assert!(Version::new(0, 9, 6) < Version::OLDEST);
        assert!(Version::new(0, 14, 0) >= Version::OLDEST);
        assert!(Version::new(1, 0, 0) > Version::REST_ENVIRONMENT);
    }
}
