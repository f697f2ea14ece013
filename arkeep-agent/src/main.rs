//! The agent: `arkeep-agent enroll`, `run` and `doctor`.

mod app;
mod config;
mod doctor;
mod process;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use app::Failure;
use config::{Command, Settings};

fn main() -> ExitCode {
    let line = match config::parse(std::env::args_os()) {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match execute(&line.command) {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "arkeep-agent: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn execute(command: &Command) -> Result<ExitCode, Failure> {
    process::keep_memory_private().map_err(Failure::failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let done = runtime.block_on(async {
        if let Command::Doctor { options } = command {
            return Ok(doctor::examine(options).await);
        }
        let settings = Settings::resolve(command.options())?;
        process::start_log(&settings)?;
        match command {
            Command::Enroll { token_file, .. } => {
                app::enroll(&settings, token_file.as_deref()).await?;
            }
            Command::Run { .. } | Command::Doctor { .. } => app::run(settings).await?,
        }
        Ok(ExitCode::SUCCESS)
    });
    // What still runs has had its time; the kernel ends it with this process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

const USAGE: u8 = 2;
