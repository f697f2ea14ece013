//! The judge against its vectors.

use proptest::{prop_assert_eq, proptest};
use serde::Deserialize;

use super::judge;
use crate::refusal::Rule;

#[derive(Deserialize)]
struct Vector {
    expect: String,
    shell: String,
    #[serde(default)]
    why: String,
    rule: Option<String>,
}

fn vectors(file: &str) -> impl Iterator<Item = Vector> {
    file.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// H1 H2 H3 H11
#[test]
fn behaves_as_marked() {
    let files = [
        include_str!("../../tests/vectors/hooks.jsonl"),
        include_str!("../../tests/vectors/more-hooks.jsonl"),
    ];
    let mut wrong = Vec::new();
    for vector in files.into_iter().flat_map(vectors) {
        let verdict = judge(&vector.shell);
        let expected = match (&verdict, vector.expect.as_str()) {
            (Ok(_), "accept") => true,
            (Err(refusal), "reject") => {
                vector.rule.is_none_or(|rule| rule == refusal.rule().name())
            }
            _ => false,
        };
        if !expected {
            let verdict = verdict.map(|script| script.to_string());
            wrong.push(format!("{:?} ({}): {verdict:?}", vector.shell, vector.why));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// H11: found by fuzzing, a span that ended inside a character.
#[test]
fn underlines_whole_characters() {
    for line in ["& $\u{8d75}\u{8d75}B", "echo $é", "é $(é", "é\\"] {
        let span = judge(line).unwrap_err().span().unwrap();

        assert!(line.get(span.clone()).is_some(), "{line:?}: {span:?}");
    }
}

/// H1 H2: what an operator sees under the line.
#[test]
fn underlines_what_is_refused() {
    for (line, marked) in [
        ("echo a; echo $(id)", "$("),
        ("cat /srv/../x", ".."),
        ("echo \"x${RESTIC_PASSWORD}\"", "${RESTIC_"),
        ("true && eval id", "eval"),
        ("ls /srv/*.sql", "*"),
        ("id & ls", "&"),
        ("cd ~", "~"),
        ("echo ${HOME:-x}", "${HOME:-x}"),
        ("A=b id", "A=b"),
        ("id 2>&-", "2>&-"),
    ] {
        let refusal = judge(line).unwrap_err();

        assert_eq!(
            line.get(refusal.span().unwrap()),
            Some(marked),
            "{line}: {refusal}"
        );
    }
}

/// H3
#[test]
fn says_how_to_write_a_refused_literal_as_an_exec_hook() {
    let refusal = judge("echo '$(id)'").unwrap_err();

    assert!(refusal.hint().contains("exec hook: {\"exec\": ["));
}

/// H1
#[test]
fn counts_bytes_and_not_characters() {
    let line = format!("echo {}", "é".repeat(509));
    assert_eq!(line.len(), 1023);

    assert!(judge(&line).is_ok());
    assert!(judge(&format!("{line}x")).is_ok());
    assert_eq!(
        judge(&format!("{line}xx")).unwrap_err().rule(),
        Rule::Length
    );
}

proptest! {
    /// H11
    #[test]
    fn understands_its_own_canonical_text(line in "[a-z0-9 '\"\\\\${}=|&;<>./_HOME-]{1,60}") {
        if let Ok(script) = judge(&line) {
            let canonical = script.to_string();
            let again = judge(&canonical).unwrap();

            prop_assert_eq!(again.to_string(), canonical);
            prop_assert_eq!(again, script);
        }
    }

    /// H1
    #[test]
    fn never_panics(line in "\\PC{0,80}") {
        let _ = judge(&line);
    }
}
