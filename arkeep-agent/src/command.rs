//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use arkeep_core::{AgentId, PolicyId};
use clap::{Args, Parser, Subcommand};

use crate::config::LogFormat;

/// Backs this machine up, as its server schedules and as its owner allows.
#[derive(Debug, Parser)]
#[command(name = "arkeep-agent", version, max_term_width = 100)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Trade a join token for a certificate.
    Enroll {
        #[command(flatten)]
        options: Options,
        /// The file that holds the join token; standard input when absent.
        #[arg(long, env = "ARKEEP_TOKEN_FILE", value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Connect to the server and do what it asks for.
    Run {
        #[command(flatten)]
        options: Options,
    },
    /// Say whether everything is in place, one line for each thing.
    Doctor {
        #[command(flatten)]
        options: Options,
    },
    /// Judge and sign hooks, away from any server.
    #[command(subcommand)]
    Hook(HookCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum HookCommand {
    /// Judge hooks: JSON lines on standard input, one JSON line each in answer.
    ///
    /// A line is one hook, or the `hooks` object of a policy. They are judged by their form alone,
    /// whatever this machine allows. Ends with 0 when all are accepted, else with 1.
    Check,
    /// Make a key to sign hooks with, and print the half that agents are to trust.
    Keygen {
        /// Where to put the private half. Nothing may be there yet.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
    /// Sign the hooks of a policy: its `hooks` object on standard input, signed on standard output.
    Sign(Signing),
}

#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// The private half of the key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// The agent that may run the hooks.
    #[arg(long, value_name = "ID")]
    pub(crate) agent: AgentId,
    /// The policy that they belong to.
    #[arg(long, value_name = "ID")]
    pub(crate) policy: PolicyId,
    /// Higher than at every signature for this policy before; seconds since 1970 when absent.
    #[arg(long, value_name = "N")]
    pub(crate) sequence: Option<u64>,
    /// For how many days they may run.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) valid_days: u32,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the agent keeps its identity and its unfinished work [default: /var/lib/arkeep-agent].
    #[arg(long, env = "ARKEEP_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// What this machine's owner allows: agent.toml.
    #[arg(long, env = "ARKEEP_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How many jobs may run at once [default: 2].
    #[arg(long, env = "ARKEEP_JOBS_AT_ONCE", value_name = "N")]
    pub(crate) jobs_at_once: Option<usize>,
    /// error, warn, info, debug or trace; or directives such as `info,arkeep_agent=debug`
    /// [default: info].
    #[arg(long, env = "ARKEEP_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How log lines are written [default: text].
    #[arg(long, env = "ARKEEP_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// Reads the command line.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(arguments)
}
