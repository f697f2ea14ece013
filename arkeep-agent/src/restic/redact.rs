//! Taking secrets out of what restic prints.
//!
//! restic masks the password in an address that it prints, but neither the user's name nor what a
//! back-end answered. No line of it leaves this crate without having passed here.

use arkeep_core::{ExposeSecret, SecretString};

/// Knows the secrets of one run and takes them out of text.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    needles: Vec<SecretString>,
}

impl Redactor {
    /// Also takes out this secret: as it is, percent-encoded, and as JSON quotes it; one of many
    /// lines also line by line.
    pub(super) fn learn(&mut self, secret: &SecretString) {
        for line in secret.expose_secret().lines() {
            let line = line.trim();
            self.learn_spelling(line.to_owned());
            self.learn_spelling(percent_encode(line));
            let quoted = serde_json::to_string(line).unwrap_or_default();
            let inside = quoted
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            self.learn_spelling(inside.unwrap_or_default().to_owned());
        }
        // The longest first, or a secret that contains another would leave its rest behind.
        self.needles
            .sort_by_key(|needle| std::cmp::Reverse(needle.expose_secret().len()));
    }

    fn learn_spelling(&mut self, spelling: String) {
        let known = |needle: &SecretString| needle.expose_secret() == spelling;
        if spelling.len() >= SHORTEST && !self.needles.iter().any(known) {
            self.needles.push(SecretString::from(spelling));
        }
    }

    /// The text without secrets, without what stands before the `@` of an address, and without
    /// control characters.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for needle in &self.needles {
            if clean.contains(needle.expose_secret()) {
                clean = clean.replace(needle.expose_secret(), REDACTED);
            }
        }
        let mut clean = without_user_info(&clean);
        clean.retain(|c| c == '\t' || !c.is_control());
        clean
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986 §2.3.
pub(super) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn without_user_info(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end = after
            .find(|c: char| c == '/' || c == '"' || c.is_whitespace())
            .unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                clean.push_str(REDACTED);
                clean.push('@');
                clean.push_str(host);
            }
            None => clean.push_str(authority),
        }
        rest = path;
    }
    clean.push_str(rest);
    clean
}

const REDACTED: &str = "[REDACTED]";

/// A shorter secret is found in half the words there are, and to take it out would show it.
const SHORTEST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        for secret in secrets {
            redactor.learn(&SecretString::from(*secret));
        }
        redactor
    }

    /// G3
    #[test]
    fn a_secret_is_taken_out_in_every_spelling() {
        let redactor = redactor(&["p/w \"x\""]);

        let clean = redactor.clean(r#"plain p/w "x", url p%2Fw%20%22x%22, json "p/w \"x\"""#);

        assert_eq!(
            clean,
            r#"plain [REDACTED], url [REDACTED], json "[REDACTED]""#
        );
    }

    /// G3
    #[test]
    fn a_secret_inside_another_leaves_no_rest() {
        let redactor = redactor(&["hunter2", "hunter2-and-more"]);

        assert_eq!(redactor.clean("hunter2-and-more"), "[REDACTED]");
    }

    /// G3
    #[test]
    fn an_address_loses_its_user_and_password() {
        let redactor = redactor(&[]);

        let clean = redactor.clean(r#"Head "http://u:p@h:1/x@y": dial s3:https://a@b c@d"#);

        assert_eq!(
            clean,
            r#"Head "http://[REDACTED]@h:1/x@y": dial s3:https://[REDACTED]@b c@d"#
        );
    }

    /// G3
    #[test]
    fn a_private_key_is_taken_out_line_by_line() {
        let redactor = redactor(&["-----BEGIN KEY-----\nAAAAB3NzaC1\nQyNTUxOQAA\n"]);

        assert_eq!(
            redactor.clean("bad line: QyNTUxOQAA"),
            "bad line: [REDACTED]"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_log() {
        assert_eq!(redactor(&[]).clean("a\u{1b}[2Kb\nc\td"), "a[2Kbc\td");
    }
}
