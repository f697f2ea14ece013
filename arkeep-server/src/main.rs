//! The program `arkeep-server`.

use std::env;
use std::process::ExitCode;

use arkeep_server::config::Cli;
use arkeep_server::run::run;

#[tokio::main]
async fn main() -> ExitCode {
    run(Cli::read(env::args_os())).await.into()
}
