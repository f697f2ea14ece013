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

/// H2: each name, bare, in quotes and with a backslash, whatever the parser makes of it.
#[test]
fn refuses_every_name_that_is_the_shells_own() {
    let reserved = "! [[ ]] { } case coproc do done elif else esac fi for function if in select \
                    then time until while";
    let builtin = ". alias builtin command eval exec export set source trap bind break compgen \
                   complete compopt continue declare dirs enable fc getopts hash history let \
                   local logout mapfile popd pushd read readarray readonly return shift shopt \
                   suspend typeset unalias unset wait";
    for (names, rule) in [(reserved, Rule::Reserved), (builtin, Rule::Builtin)] {
        for name in names.split_whitespace() {
            assert!(judge(name).is_err(), "{name}");
            for line in [format!("'{name}' x"), format!("''{name} x")] {
                assert!(judge(&line).is_err(), "{line}");
            }
            let quoted = judge(&format!("true | '{name}' x")).unwrap_err();
            assert_eq!(quoted.rule(), rule, "{name}");
        }
    }
}

/// H2
#[test]
fn refuses_a_command_word_that_is_an_assignment_without_its_quotes() {
    for line in [
        "'a=b'",
        "'_=b' x",
        "'a1_Z=b' x",
        "'a+=b'",
        "'a[1]=b'",
        "\"PATH=/x\" id",
    ] {
        assert_eq!(judge(line).unwrap_err().rule(), Rule::Assignment, "{line}");
    }
    for line in [
        "'1a=b' x",
        "'a-b=c' x",
        "'=b' x",
        "'é=b' x",
        "printf",
        "printf a b",
    ] {
        assert!(judge(line).is_ok(), "{line}");
    }
}

/// H1: what would be forbidden without the quotes between its halves.
#[test]
fn refuses_what_its_canonical_text_would_not_say_in_one_way() {
    for line in [
        "echo '$'\\(id\\)",
        "echo '$'\"(id)\"",
        "echo \"$HOME$PATH\"$1",
    ] {
        assert_eq!(judge(line).unwrap_err().rule(), Rule::Unsure, "{line}");
    }
}

/// H1
#[test]
fn marks_exactly_what_is_wrong() {
    let long = "a".repeat(1025);
    for (line, rule, span) in [
        ("", Rule::Empty, 0..0),
        ("  ", Rule::Empty, 0..2),
        (long.as_str(), Rule::Length, 1024..1025),
        ("echo `id`", Rule::Substitution, 5..6),
        ("echo '$(id)'", Rule::Substitution, 6..8),
        ("echo $((1))", Rule::Arithmetic, 5..8),
        ("a\u{a0}b", Rule::Character, 1..3),
        ("echo a\\", Rule::Backslash, 6..7),
        ("echo $10", Rule::Expansion, 5..8),
    ] {
        let refusal = judge(line).unwrap_err();

        assert_eq!(
            (refusal.rule(), refusal.span()),
            (rule, Some(span)),
            "{line}"
        );
    }
}

/// H1: whatever stands between the dollar and the name.
#[test]
fn finds_internal_variables_behind_quotes_and_dollars() {
    for (line, marked) in [
        ("a $$RESTIC_B", "$$RESTIC_"),
        ("a '$'\"\\\"rclone\\_x", "$'\"\\\"rclone\\_"),
        ("a $x$Arkeep_", "$Arkeep_"),
        ("a ${!RESTIC_B}", "${!RESTIC_"),
        ("a $REST$RESTIC_", "$RESTIC_"),
    ] {
        let refusal = judge(line).unwrap_err();

        assert_eq!(refusal.rule(), Rule::InternalVariable, "{line}");
        assert_eq!(line.get(refusal.span().unwrap()), Some(marked), "{line}");
    }
    for line in [
        "a RESTIC_B",
        "a '$ RESTIC_B'",
        "a '$RESTI' '_C'",
        "a '$xRESTIC_'",
    ] {
        assert!(judge(line).is_ok(), "{line}");
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
