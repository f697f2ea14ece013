//! The judge against its vectors.

use serde::Deserialize;

use super::judge;

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
