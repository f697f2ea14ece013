//! The log, on standard error.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Begins to log. Called once, by the program.
///
/// # Errors
///
/// When `level` is neither a level nor a filter.
pub fn start(level: &str, format: LogFormat) -> Result<(), LogLevelError> {
    // A directive without a level stands for a target at its loudest, and so would a misspelt
    // level.
    let named = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    if !level.split(',').all(|part| named(part.trim())) {
        return Err(LogLevelError);
    }
    // At lower levels the database driver tells every statement.
    let filter = EnvFilter::try_new(format!("sqlx=warn,{level}")).map_err(|_| LogLevelError)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// The text is neither a level nor a filter. Exit with 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "--log-level must be off, error, warn, info, debug, trace or a filter such as info,arkeep_server=debug"
)]
pub struct LogLevelError;
