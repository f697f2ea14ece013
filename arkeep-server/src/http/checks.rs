//! Does what was read make sense? All that does not is told at once, field by field.

use arkeep_core::{ExposeSecret as _, SecretString};
use jiff::tz::TimeZone;

use super::problem::{Code, FieldError, Finding, Problem};

/// Faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Checks(Vec<FieldError>);

impl Checks {
    /// Notes a fault unless `fine`.
    pub(super) fn that(&mut self, fine: bool, field: impl Into<String>, detail: &'static str) {
        if !fine {
            self.0.push(FieldError {
                field: field.into(),
                detail: detail.to_owned(),
                finding: None,
            });
        }
    }

    /// Notes what a judge of a text found.
    pub(super) fn found(&mut self, field: impl Into<String>, finding: Finding) {
        self.0.push(FieldError {
            field: field.into(),
            detail: finding.hint.clone(),
            finding: Some(finding),
        });
    }

    /// A text that people read, on one line.
    pub(crate) fn title(&mut self, text: &str, field: impl Into<String>) {
        let fine = !text.trim().is_empty() && text.chars().count() <= MAX_TITLE && is_plain(text);
        self.that(
            fine,
            field,
            "must have 1 to 100 characters, none of them a control character",
        );
    }

    /// An address to log in with. Whether anyone reads it is not ours to know.
    pub(crate) fn email(&mut self, text: &str, field: &str) {
        let fine = text.len() <= 254
            && is_plain(text)
            && !text.contains(char::is_whitespace)
            && text.split_once('@').is_some_and(|(name, host)| {
                !name.is_empty() && !host.is_empty() && !host.contains('@')
            });
        self.that(fine, field, "must be an address such as ada@example.org");
    }

    /// What is shown as a password. None is longer, so none is hashed that is.
    pub(super) fn password(&mut self, shown: Option<&SecretString>, field: &str) {
        let fine = shown.is_none_or(|text| text.expose_secret().len() <= MAX_PASSWORD);
        self.that(fine, field, "has 1024 bytes at most");
    }

    /// What is shown as a code of an authenticator, or as a recovery code.
    pub(super) fn code(&mut self, shown: Option<&SecretString>, field: &str) {
        let fine = shown.is_none_or(|text| text.expose_secret().len() <= MAX_CODE);
        self.that(fine, field, "has 64 bytes at most");
    }

    /// A path that starts at the root.
    pub(super) fn absolute_path(&mut self, path: &str, field: impl Into<String>) {
        let fine = path.starts_with('/') && !path.contains('\0') && path.len() <= MAX_PATH;
        self.that(fine, field, "must be an absolute path");
    }

    /// A time zone of the IANA's data base.
    pub(super) fn timezone(&mut self, name: &str, field: impl Into<String>) {
        self.that(
            TimeZone::get(name).is_ok(),
            field,
            "must be a time zone such as Europe/Berlin",
        );
    }

    /// The first fault: a field, and what it must be.
    pub(crate) fn first(&self) -> Option<(&str, &str)> {
        self.0
            .first()
            .map(|fault| (fault.field.as_str(), fault.detail.as_str()))
    }

    /// One problem for all faults, if there are any.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Problem::new(Code::ValidationFailed, "the request makes no sense").with(self.0))
    }
}

/// Whether a text can be shown on one line.
pub(super) fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

const MAX_CODE: usize = 64;
const MAX_PASSWORD: usize = 1_024;
const MAX_TITLE: usize = 100;
const MAX_PATH: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(check: impl FnOnce(&mut Checks)) -> usize {
        let mut checks = Checks::default();
        check(&mut checks);
        checks
            .finish()
            .map_or_else(|problem| problem.errors().len(), |()| 0)
    }

    #[test]
    fn a_title_is_one_line_of_text() {
        for text in ["a", "Größe 3", &"x".repeat(100)] {
            assert_eq!(faults(|checks| checks.title(text, "name")), 0, "{text}");
        }
        for text in ["", "  ", "a\nb", "\u{7f}", &"x".repeat(101)] {
            assert_eq!(faults(|checks| checks.title(text, "name")), 1, "{text}");
        }
    }

    #[test]
    fn an_email_has_two_sides() {
        for text in ["a@b", "ada.lovelace+x@example.org"] {
            assert_eq!(faults(|checks| checks.email(text, "email")), 0, "{text}");
        }
        for text in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\n"] {
            assert_eq!(faults(|checks| checks.email(text, "email")), 1, "{text}");
        }
    }

    #[test]
    fn a_path_starts_at_the_root() {
        assert_eq!(
            faults(|checks| checks.absolute_path("/srv/a b\n--x", "path")),
            0
        );
        for text in ["", "srv", "./srv", "~/x", "/a\0b", "--password-command=x"] {
            assert_eq!(
                faults(|checks| checks.absolute_path(text, "path")),
                1,
                "{text}"
            );
        }
    }

    #[test]
    fn all_faults_are_told() {
        let told = faults(|checks| {
            checks.title("", "name");
            checks.that(true, "fine", "is fine");
            checks.timezone("Europe/Atlantis", "timezone");
        });

        assert_eq!(told, 2);
    }
}
