//! A message as an e-mail: RFC 5322, with everything that is not ASCII encoded.

use arkeep_core::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Message;
use crate::store::channels::EmailConfig;

/// The mail, line by line, each ended by CR LF. No line is longer than 76 characters but for addresses.
pub(super) fn compose(config: &EmailConfig, message: &Message, now: Timestamp) -> String {
    let domain = config.from.rsplit('@').next().unwrap_or("localhost");
    let mut lines = vec![
        format!("From: {}", config.from),
        format!("To: {}", config.to.join(",\r\n ")),
        format!("Subject: {}", encoded(&message.title)),
        format!("Date: {}", date(now)),
        format!("Message-ID: <{}@{domain}>", message.id),
        // RFC 3834 §5: nobody's holiday notice is wanted.
        "Auto-Submitted: auto-generated".to_owned(),
        "MIME-Version: 1.0".to_owned(),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        "Content-Transfer-Encoding: base64".to_owned(),
        String::new(),
    ];
    let body = format!(
        "{}\r\n\r\n{} at {}\r\n",
        message.text, message.kind, message.occurred_at
    );
    let body = STANDARD.encode(body);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        lines.push(line.to_owned());
        rest = after;
    }
    let mut mail = lines.join("\r\n");
    mail.push_str("\r\n");
    mail
}

/// RFC 2047 §2: words that fit on lines of 76 characters, the first behind the name of the header; none splits
/// a letter.
fn encoded(text: &str) -> String {
    let (mut words, mut word) = (Vec::new(), String::new());
    for letter in text.chars() {
        if word.len() + letter.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(letter);
    }
    words.push(word);
    let words = words
        .iter()
        .map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    words.collect::<Vec<_>>().join("\r\n ")
}

fn date(now: Timestamp) -> String {
    let now = jiff::Timestamp::from_millisecond(now.as_unix_millis()).unwrap_or_default();
    let now = now.to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::rfc2822::to_string(&now).unwrap_or_default()
}

const LINE: usize = 76;
const WORD: usize = 39;

#[cfg(test)]
mod tests {
    use arkeep_core::DeliveryId;

    use super::*;

    #[test]
    fn nothing_in_a_title_becomes_a_header() {
        let config = EmailConfig {
            host: "mail.example".to_owned(),
            port: 587,
            tls: crate::store::channels::MailTls::Starttls,
            username: None,
            from: "arkeep@example.org".to_owned(),
            to: vec!["a@example.org".to_owned(), "b@example.org".to_owned()],
        };
        let message = Message {
            kind: "job.failed".to_owned(),
            id: DeliveryId::from_uuid(uuid::Uuid::nil()),
            title: format!("Grüße\r\nBcc: eve@example.org {}", "ü".repeat(60)),
            text: ".\r\nQUIT".to_owned(),
            occurred_at: Timestamp::UNIX_EPOCH,
            data: serde_json::json!({}),
        };

        let mail = compose(
            &config,
            &message,
            Timestamp::from_unix_seconds(1_700_000_000),
        );

        assert!(mail.is_ascii());
        assert!(
            mail.split("\r\n")
                .all(|line| line.len() <= 76 && line != "."),
            "{mail}"
        );
        assert!(!mail.contains("Bcc"), "{mail}");
        assert!(
            mail.contains("\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n"),
            "{mail}"
        );
        assert!(
            mail.contains("\r\nTo: a@example.org,\r\n b@example.org\r\n"),
            "{mail}"
        );
        let (head, body) = mail.split_once("\r\n\r\n").unwrap();
        let body = STANDARD.decode(body.replace("\r\n", "")).unwrap();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            ".\r\nQUIT\r\n\r\njob.failed at 1970-01-01T00:00:00.000Z\r\n"
        );
        let subject = head.split("\r\nSubject: ").nth(1).unwrap();
        let subject = subject.split("\r\nDate").next().unwrap();
        let words = subject.split("\r\n ").map(|word| {
            let word = word.strip_prefix("=?utf-8?B?").unwrap();
            let word = STANDARD.decode(word.strip_suffix("?=").unwrap()).unwrap();
            String::from_utf8(word).unwrap()
        });
        assert_eq!(words.collect::<String>(), message.title);
    }
}
