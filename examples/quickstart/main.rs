//! The quickstart: a backup and a restore through the real server and the real agent.
//!
//! `scripts/quickstart` installs restic where it is missing, builds the programs, and runs this.

mod show;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
Shows a real backup and a real restore.

Usage: scripts/quickstart [--keep] [DIRECTORY]

  DIRECTORY  what is backed up; default: a tree that is made for it
  --keep     leave server and agent running, and print the addresses and the login
";

/// What was asked for.
#[derive(Debug, Default)]
struct Options {
    keep: bool,
    directory: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("--keep") => options.keep = true,
            Some("--help" | "-h") => return Err(String::new()),
            Some(flag) if flag.starts_with('-') => return Err(format!("unknown option {flag}\n")),
            _ if options.directory.is_some() => {
                return Err("more than one directory\n".to_owned());
            }
            _ => options.directory = Some(PathBuf::from(argument)),
        }
    }
    Ok(options)
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            show::line(&format!("{why}{USAGE}"));
            return ExitCode::from(if why.is_empty() { 0 } else { 2 });
        }
    };
    match steps::run(options.keep, options.directory).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show::failure(error.as_ref());
            ExitCode::FAILURE
        }
    }
}
