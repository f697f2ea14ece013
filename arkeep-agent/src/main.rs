//! The agent: `arkeep-agent enroll`, `run`, `doctor` and `hook`.

mod app;
mod command;
mod config;
mod doctor;
mod hook;
mod process;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use app::Failure;
use command::Command;
use config::Settings;

fn main() -> ExitCode {
    let line = match command::parse(std::env::args_os()) {
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
    if let Command::Hook(command) = command {
        return hook::execute(command);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let done = runtime.block_on(serve(command));
    // What still runs has had its time; the kernel ends it with this process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn serve(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Doctor { options } => return Ok(doctor::examine(options).await),
        Command::Enroll {
            options,
            token_file,
        } => {
            let settings = Settings::resolve(options)?;
            process::start_log(&settings)?;
            app::enroll(&settings, token_file.as_deref()).await?;
        }
        Command::Run { options } => {
            let settings = Settings::resolve(options)?;
            process::start_log(&settings)?;
            app::run(settings).await?;
        }
        Command::Hook(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

const USAGE: u8 = 2;
