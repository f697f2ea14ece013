//! Secrets in every disguise.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::*;

fn redact(secrets: &[&str], text: &str) -> String {
    redact_pieces(secrets, &[text])
}

fn redact_pieces(secrets: &[&str], pieces: &[&str]) -> String {
    let mut redactor = Redactor::new(&Secrets::new(secrets.iter().copied()));
    let mut out = String::new();
    for piece in pieces {
        redactor.push(piece, &mut out);
    }
    redactor.finish(&mut out);
    out
}

mod redactor {
    use super::*;

    /// H9
    #[test]
    fn leaves_other_text_as_it_is() {
        let text = "100% of 3 files, ünïcode, a hun of ter %zz %4 %";

        assert_eq!(redact(&["hunter2!"], text), text);
        assert_eq!(redact(&[], text), text);
    }

    /// H9
    #[test]
    fn finds_the_plain_form() {
        assert_eq!(redact(&["hunter2"], "pw=hunter2;"), "pw=[REDACTED];");
        assert_eq!(
            redact(&["hunter2"], "hunter2hunter2"),
            "[REDACTED][REDACTED]"
        );
        assert_eq!(redact(&["x"], "axb"), "a[REDACTED]b");
    }

    /// H9
    #[test]
    fn finds_hex_in_both_cases() {
        assert_eq!(
            redact(&["key\u{1}z"], "6b6579017a 6B6579017A"),
            "[REDACTED] [REDACTED]"
        );
    }

    /// H9
    #[test]
    fn finds_the_other_forms_of_four_bytes_and_more() {
        assert_eq!(redact(&["wxyz"], "7778797a"), "[REDACTED]");
        assert_eq!(redact(&["wxy"], "777879"), "777879");
    }

    /// H9: a report has no invisible characters, and a secret may have had some.
    #[test]
    fn finds_what_is_left_without_invisible_characters() {
        assert_eq!(redact(&["key\u{200b}pass"], "keypass"), "[REDACTED]");
    }

    /// H9
    #[test]
    fn finds_base64_alone_and_inside_a_longer_text() {
        assert_eq!(redact(&["hunter2!"], "aHVudGVyMiE="), "[REDACTED]");
        for user in ["u", "us", "use"] {
            let header = STANDARD.encode(format!("{user}:hunter2!"));
            let out = redact(&["hunter2!"], &header);

            assert!(out.contains(PLACEHOLDER), "{header} gave {out}");
            assert!(
                !out.contains("dGVy") && !out.contains("nRlc"),
                "{header} gave {out}"
            );
        }
    }

    /// H9
    #[test]
    fn finds_base64_that_is_wrapped_and_url_safe() {
        let secret = "\u{3ff}\u{7ff}~~~~????>>>>".repeat(8);
        let wrapped: String = STANDARD
            .encode(&secret)
            .as_bytes()
            .chunks(76)
            .flat_map(|line| [std::str::from_utf8(line).unwrap(), "\n"])
            .collect();

        assert_eq!(redact(&[&secret], &wrapped), "[REDACTED]\n");
        assert_eq!(redact(&[&secret], &URL_SAFE.encode(&secret)), "[REDACTED]");
    }

    /// H9
    #[test]
    fn finds_any_mix_of_percent_encoding() {
        for text in [
            "p%40ss w%2Fd",
            "p@ss+w/d",
            "%70%40%73%73%20%77%2f%64",
            "p%40ss%20w/d",
        ] {
            assert_eq!(redact(&["p@ss w/d"], text), "[REDACTED]", "{text}");
        }
    }

    /// H9
    #[test]
    fn finds_each_line_of_a_long_secret() {
        let key = "-----BEGIN KEY-----\nMIIBVQIBADANBgkq\nhkiG9w0BAQEFAASC\n";

        assert_eq!(
            redact(&[key], "line: hkiG9w0BAQEFAASC."),
            "line: [REDACTED]."
        );
    }

    /// H9
    #[test]
    fn finds_a_secret_wherever_the_text_is_cut() {
        let text = "a hunter2! b aHVudGVyMiE= c 68756e7465723221 d hunter2%21 e %";
        let whole = redact(&["hunter2!", "nter2"], text);
        assert_eq!(whole.matches(PLACEHOLDER).count(), 4);

        for cut in 0..=text.len() {
            let (left, right) = text.split_at(cut);
            assert_eq!(redact_pieces(&["hunter2!", "nter2"], &[left, right]), whole);
        }
    }

    /// H9: what looks like the beginning of an escape and is none may be a secret's last sign.
    #[test]
    fn finds_secrets_that_end_like_an_escape() {
        assert_eq!(redact(&["a/b%"], "a%2Fb%"), "[REDACTED]");
        assert_eq!(redact(&["a/b%"], "a%2Fb%;"), "[REDACTED];");
        assert_eq!(redact(&["a/b%4"], "a%2Fb%4"), "[REDACTED]");
        assert_eq!(redact(&["a/b%4"], "a%2Fb%4;"), "[REDACTED];");
        for pieces in [["%", "2Fb"], ["%2", "Fb"]] {
            assert_eq!(redact_pieces(&["/b"], &pieces), "[REDACTED]");
        }
    }

    /// H9: as many blanks inside a secret as are looked through, and one more.
    #[test]
    fn looks_through_so_many_blanks() {
        let apart = |blanks| format!("hunt{}er2!", " ".repeat(blanks));
        let most = MAX_GAP as usize;

        assert_eq!(redact(&["hunter2!"], &apart(most)), "[REDACTED]");
        assert_eq!(redact(&["hunter2!"], &apart(most + 1)), apart(most + 1));
    }

    /// H9: a secret of bytes may begin inside a character, wherever the text is cut. One that only
    /// seemed to begin there leaves the character whole.
    #[test]
    fn looks_for_secrets_that_begin_inside_a_character() {
        for character in ["\u{fc}", "\u{20ac}", "\u{1f511}"] {
            let bytes = character.as_bytes();
            for inside in 1..bytes.len() {
                let secret = [bytes.get(inside..).unwrap(), b"x-and-more"].concat();
                let redact = |pieces: &[&str]| {
                    let mut redactor = Redactor::new(&Secrets::new([secret.clone()]));
                    let mut out = String::new();
                    for piece in pieces {
                        redactor.push(piece, &mut out);
                    }
                    redactor.finish(&mut out);
                    out
                };
                let begun = format!("a{character}");

                assert_eq!(
                    redact(&[&begun, "x-or-less"]),
                    format!("a{character}x-or-less")
                );
                let whole = redact(&[&format!("{begun}x-and-morez")]);
                assert!(whole.ends_with("[REDACTED]z"), "{whole}");
                assert_eq!(redact(&[&begun, "x-and-morez"]), whole);
                assert_eq!(redact(&[&begun, "x", "-and-morez"]), whole);
            }
        }
    }

    /// H9
    #[test]
    fn joins_secrets_that_overlap() {
        assert_eq!(redact(&["abcd", "cdef"], "xabcdefx"), "x[REDACTED]x");
        let pieces: Vec<_> = "xabcdefx".split("").collect();
        assert_eq!(redact_pieces(&["abcd", "cdef"], &pieces), "x[REDACTED]x");
    }

    /// H9
    #[test]
    fn holds_little_back_of_an_endless_text() {
        let mut redactor = Redactor::new(&Secrets::new(["aab", "aaaaaaaac"]));
        let mut out = String::new();

        for _ in 0..100 {
            redactor.push(&"a".repeat(1000), &mut out);
            redactor.push(&" ".repeat(1000), &mut out);
            assert!(redactor.pending.len() <= 9 * (MAX_GAP as usize + 1));
            redactor.push(&"aaab ".repeat(100), &mut out);
            assert!(redactor.pending.len() <= 9 * (MAX_GAP as usize + 1));
        }
    }

    #[test]
    fn does_not_show_secrets_when_printed() {
        let secrets = Secrets::new(["hunter2!"]);

        assert!(!format!("{secrets:?} {:?}", Redactor::new(&secrets)).contains("hunter2"));
    }
}
