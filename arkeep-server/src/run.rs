//! From the command line to the exit code.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::serve::ServeConfig;
use crate::config::{Cli, Command, ParseError, ServeArgs};
use crate::exit::Exit;
use crate::maintenance::{self, Finding};
use crate::{log, process};

/// Does what the command line says.
pub async fn run(cli: Result<Cli, ParseError>) -> Exit {
    #[cfg(feature = "failpoints")]
    crate::failpoint::arm();
    // Before the first key is read.
    if let Err(error) = process::keep_memory_private() {
        return refused(Exit::Failed, &error);
    }
    match cli.map(|cli| cli.command) {
        Ok(Command::Serve(args)) => serve(*args).await,
        Ok(command) => match maintenance::run(command, &mut io::stdout()).await {
            Ok(Finding::Good) => Exit::Ok,
            Ok(Finding::Bad) => Exit::Failed,
            Err(error) => refused((&error).into(), &error),
        },
        Err(ParseError::Usage(error)) => {
            // Help is no error, and goes to standard output.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            match error.print() {
                Ok(()) => exit,
                Err(_) => Exit::Failed,
            }
        }
        Err(error @ ParseError::File(_)) => refused(Exit::Refused, &error),
    }
}

async fn serve(args: ServeArgs) -> Exit {
    let config = match ServeConfig::judge(args) {
        Ok(config) => config,
        Err(error) => return refused(Exit::Refused, &error),
    };
    if let Err(error) = log::start(&config.log_level, config.log_format) {
        return refused(Exit::Refused, &error);
    }
    if config.proxy_is_unnamed() {
        tracing::warn!(
            "--behind-proxy without --trusted-proxy: every client counts as the proxy, and only \
             the metrics token opens /metrics; name the proxy's network"
        );
    }
    if let Err(error) = process::allow_descriptors() {
        return refused(Exit::Failed, &error);
    }
    let mut termination = match process::Termination::listen() {
        Ok(termination) => termination,
        Err(error) => return refused(Exit::Failed, &error),
    };
    let app = match App::start(config).await {
        Ok(app) => app,
        Err(error) => return refused((&error).into(), &error),
    };
    announce(&app);

    let stop = CancellationToken::new();
    let signalled = {
        let stop = stop.clone();
        async move {
            tokio::select! {
                () = termination.requested() => {
                    tracing::info!("stopping");
                    notify(sd_notify::NotifyState::Stopping);
                    stop.cancel();
                }
                () = stop.cancelled() => {}
            }
        }
    };
    let limit = async {
        stop.cancelled().await;
        tokio::time::sleep(App::LONGEST_END).await;
    };
    let served = async { tokio::join!(app.serve(stop.clone()), signalled).0 };
    tokio::select! {
        served = served => match served {
            Ok(()) => {
                tracing::info!("stopped");
                Exit::Ok
            }
            Err(error) => refused(Exit::Failed, &error),
        },
        () = limit => {
            tracing::error!("stopping took too long and was cut off");
            Exit::Failed
        }
    }
}

fn announce(app: &App) {
    let addresses = app.addresses();
    tracing::info!(http_addr = %addresses.http, grpc_addr = %addresses.grpc, "listening");
    if let Some(token) = app.setup_token() {
        // Whoever started the server is the operator; nobody needs to read the line twice, and a
        // closed output is no reason not to serve.
        let _ = writeln!(io::stdout(), "setup token: {}", token.expose());
    }
    notify(sd_notify::NotifyState::Ready);
}

fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

fn refused(exit: Exit, error: &dyn Error) -> Exit {
    let mut text = format!("arkeep-server: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "{text}");
    exit
}
