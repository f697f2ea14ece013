//! The file of `--config`.

use std::fs;
use std::path::Path;

use clap::Command;
use clap::builder::OsStr;
use toml::{Table, Value};

/// Makes the file's values the defaults of `command` and of all its subcommands.
///
/// A key that is an option of one subcommand and not of another is fine: one file serves all.
pub(super) fn defaults(command: Command, path: &Path) -> Result<Command, String> {
    let told = |why: &str| format!("{}: {why}", path.display());
    let text = fs::read_to_string(path).map_err(|error| told(&error.to_string()))?;
    // The parser's own rendering quotes the line, which may hold what nobody should see.
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| {
            text.get(..span.start)
                .unwrap_or_default()
                .lines()
                .count()
                .max(1)
        });
        told(&format!("not TOML at line {line}: {}", error.message()))
    })?;

    let mut values = Vec::new();
    for (key, value) in &table {
        let id = key.replace('-', "_");
        if id == "config" || !knows(&command, &id) {
            return Err(told(&format!(
                "`{key}` is not an option; see `arkeep-server serve --help`"
            )));
        }
        let words = words(value).ok_or_else(|| {
            told(&format!(
                "`{key}` must be a text, a number, a switch or a list"
            ))
        })?;
        values.push((id, words));
    }
    Ok(apply(command, &values))
}

fn knows(command: &Command, id: &str) -> bool {
    command
        .get_arguments()
        .any(|argument| argument.get_id() == id && argument.get_long().is_some())
        || command.get_subcommands().any(|inner| knows(inner, id))
}

fn apply(mut command: Command, values: &[(String, Vec<OsStr>)]) -> Command {
    for (id, words) in values {
        if command
            .get_arguments()
            .any(|argument| argument.get_id() == id)
        {
            command = command.mut_arg(id, |argument| argument.default_values(words.clone()));
        }
    }
    let names: Vec<String> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    for name in names {
        command = command.mut_subcommand(name, |inner| apply(inner, values));
    }
    command
}

fn words(value: &Value) -> Option<Vec<OsStr>> {
    match value {
        Value::Array(items) => items.iter().map(word).collect(),
        single => Some(vec![word(single)?]),
    }
}

fn word(value: &Value) -> Option<OsStr> {
    match value {
        Value::String(text) => Some(text.clone().into()),
        Value::Integer(number) => Some(number.to_string().into()),
        Value::Boolean(switch) => Some(switch.to_string().into()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}
