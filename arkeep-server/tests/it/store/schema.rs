//! What the schema says of itself, on both engines.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use arkeep_server::store::sealed::COLUMNS;

use super::Tested;

/// A column as a migration spells it.
struct Column {
    table: String,
    name: String,
    definition: String,
    comment: String,
}

/// Every column that the migrations of an engine make.
fn columns(engine: &str) -> Result<Vec<Column>, std::io::Error> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = fs::read_dir(directory.join(engine))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let mut columns = Vec::new();
    for file in files {
        let text = fs::read_to_string(file)?;
        let mut table = String::new();
        for line in text.lines() {
            let (code, comment) = line.split_once("--").unwrap_or((line, ""));
            let words: Vec<&str> = code.split_whitespace().collect();
            let (name, definition) = match words.as_slice() {
                ["CREATE", "TABLE", name, ..] => {
                    table = name.trim_end_matches('(').to_owned();
                    continue;
                }
                [
                    "ALTER",
                    "TABLE",
                    name,
                    "ADD",
                    "COLUMN",
                    column,
                    definition @ ..,
                ] => {
                    table = (*name).to_owned();
                    (*column, definition)
                }
                ["ALTER", "TABLE", name, ..] => {
                    table = (*name).to_owned();
                    continue;
                }
                ["ADD", "COLUMN", column, definition @ ..] => (*column, definition),
                [column, definition @ ..] => (*column, definition),
                [] => continue,
            };
            columns.push(Column {
                table: table.clone(),
                name: name.to_owned(),
                definition: definition.join(" "),
                comment: comment.trim().to_owned(),
            });
        }
    }
    Ok(columns)
}

const ENGINES: [(&str, &str); 2] = [("sqlite", "BLOB"), ("postgres", "BYTEA")];

/// V2, V4, V7: a sealed column that is not in the list would be left out when everything is
/// verified, or sealed again under a new key.
#[test]
fn every_sealed_column_is_in_the_list() -> Tested {
    let listed: BTreeSet<_> = COLUMNS.iter().map(ToString::to_string).collect();

    for (engine, blob) in ENGINES {
        let marked: Vec<_> = columns(engine)?
            .into_iter()
            .filter(|column| column.comment.starts_with("sealed"))
            .collect();

        for column in &marked {
            let Column { table, name, .. } = column;
            assert!(column.definition.starts_with(blob), "{table}.{name}");
        }
        let marked: BTreeSet<_> = marked
            .iter()
            .map(|column| format!("{}.{}", column.table, column.name))
            .collect();
        assert_eq!(marked, listed, "{engine}");
    }
    Ok(())
}

/// V4: bytes of which nobody says what they are may be a secret that nobody sealed.
#[test]
fn every_column_of_bytes_says_what_it_holds() -> Tested {
    const PUBLIC: [&str; 3] = [
        "ca.certificate",
        "token_keys.public_key",
        "refresh_tokens.predecessor",
    ];

    for (engine, blob) in ENGINES {
        for column in columns(engine)? {
            let name = format!("{}.{}", column.table, column.name);
            let said = !column.comment.is_empty()
                || column.name.ends_with("digest")
                || PUBLIC.contains(&name.as_str());
            assert!(
                said || !column.definition.starts_with(blob),
                "{engine}: say in a comment beside {name} what it holds: `-- sealed` if it is"
            );
        }
    }
    Ok(())
}
