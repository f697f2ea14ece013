//! The real program, as the system sees it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use super::Fallible;

/// How a program ended.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) output: String,
    pub(super) errors: String,
}

/// Runs the program to its end.
pub(super) async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Fallible<Ended> {
    let output = command(arguments, environment).output();
    let output = tokio::time::timeout(Duration::from_secs(30), output).await??;
    Ok(Ended {
        code: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs the program on a directory, with its standard output to a file.
pub(super) async fn run_into(data: &Path, arguments: &[&str], output: &str) -> Fallible<Ended> {
    let data = data.to_string_lossy();
    let arguments = [arguments, &["--data-dir", &data]].concat();
    let output = std::fs::File::options().write(true).open(output)?;
    let ended = command(&arguments, &[]).stdout(output).spawn()?;
    let ended = ended.wait_with_output();
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await??;
    Ok(Ended {
        code: ended.status.code(),
        output: String::new(),
        errors: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}

/// Runs the program to its end with a text on its standard input.
pub(super) async fn run_with_input(arguments: &[&str], input: &str) -> Fallible<Ended> {
    let mut child = command(arguments, &[]).stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output();
    let output = tokio::time::timeout(Duration::from_secs(30), output).await??;
    Ok(Ended {
        code: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs the program to its end on a terminal, and returns what that shows.
#[expect(
    clippy::disallowed_methods,
    reason = "the program that makes a terminal, and ours in it"
)]
pub(super) async fn on_a_terminal(arguments: &[&str]) -> Fallible<String> {
    let line = [&[env!("CARGO_BIN_EXE_arkeep-server")], arguments].concat();
    let output = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--command",
            &line.join(" "),
            "/dev/null",
        ])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(30), output).await??;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stdout).into()),
    }
}

/// Runs `serve` on a directory on which it should not.
pub(super) async fn refused(data: &Path, options: &[&str]) -> Fallible<Ended> {
    let data = data.to_string_lossy();
    let mut arguments = vec!["serve", "--data-dir", &data];
    arguments.extend(["--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"]);
    arguments.extend(options);
    run(&arguments, &[]).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of these tests that starts it"
)]
fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arkeep-server"));
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A server that listens.
pub(super) struct Served {
    pub(super) process: Child,
    pub(super) http: String,
    pub(super) grpc: String,
}

/// Starts `serve` and waits until it listens. Returns it with its HTTP address.
pub(super) async fn serving(
    data: &Path,
    environment: &[(&str, &str)],
) -> Fallible<(Child, String)> {
    let Served { process, http, .. } = served(data, environment).await?;
    Ok((process, http))
}

/// The same, with all that is known of it.
pub(super) async fn served(data: &Path, environment: &[(&str, &str)]) -> Fallible<Served> {
    let data = data.to_string_lossy();
    let arguments = [
        "serve",
        "--data-dir",
        &data,
        "--http-addr",
        "127.0.0.1:0",
        "--grpc-addr",
        "127.0.0.1:0",
        "--log-format",
        "json",
    ];
    let mut child = command(&arguments, environment).spawn()?;
    let errors = child.stderr.take().ok_or("no standard error")?;
    let mut lines = BufReader::new(errors).lines();
    let wait = async {
        while let Some(line) = lines.next_line().await? {
            let line: serde_json::Value = serde_json::from_str(&line)?;
            let field = |name| Some(line.pointer(name)?.as_str()?.to_owned());
            if let Some(http) = field("/fields/http_addr") {
                return Ok((http, field("/fields/grpc_addr").unwrap_or_default()));
            }
        }
        Err::<(String, String), Box<dyn std::error::Error>>("it ended".into())
    };
    let (http, grpc) = tokio::time::timeout(Duration::from_secs(60), wait).await??;
    // A program whose log nobody reads would wait for a reader some day.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Served {
        process: child,
        http,
        grpc,
    })
}

/// Waits until it has ended by itself.
#[cfg(feature = "failpoints")]
pub(super) async fn waited(child: &mut Child) -> Fallible<std::process::ExitStatus> {
    Ok(tokio::time::timeout(Duration::from_secs(30), child.wait()).await??)
}

pub(super) fn signal(child: &Child, signal: rustix::process::Signal) -> Fallible {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let id = id
        .and_then(rustix::process::Pid::from_raw)
        .ok_or("it has ended")?;
    rustix::process::kill_process(id, signal)?;
    Ok(())
}

#[tokio::test]
async fn a_signal_ends_it_in_good_order() -> Fallible {
    for request in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let dir = tempfile::TempDir::new()?;
        let data = dir.path().join("data");
        let (mut child, _) = serving(&data, &[]).await?;

        signal(&child, request)?;
        let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await??;

        assert_eq!(status.code(), Some(0), "{request:?}");
        assert!(!data.join("arkeep.db-wal").exists());
    }
    Ok(())
}

#[tokio::test]
async fn it_prints_one_line_with_the_setup_token() -> Fallible {
    let dir = tempfile::TempDir::new()?;
    let data = dir.path().join("data");
    let (mut child, _) = serving(&data, &[]).await?;
    let token = std::fs::read_to_string(data.join("setup-token"))?;

    signal(&child, rustix::process::Signal::TERM)?;
    let mut printed = String::new();
    let output = child.stdout.as_mut().ok_or("no standard output")?;
    output.read_to_string(&mut printed).await?;

    assert_eq!(printed, format!("setup token: {token}\n"));
    Ok(())
}

/// V8
#[tokio::test]
async fn it_leaves_no_core_and_lets_nobody_look() -> Fallible {
    let dir = tempfile::TempDir::new()?;
    let (child, _) = serving(&dir.path().join("data"), &[]).await?;
    let id = child.id().ok_or("it has ended")?;

    let limits = std::fs::read_to_string(format!("/proc/{id}/limits"))?;
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();

    assert_eq!(core.get(4..6), Some(&["0", "0"][..]), "{core:?}");
    arkeep_server::process::keep_memory_private()?;
    let dumpable = rustix::process::dumpable_behavior()?;
    assert_eq!(dumpable, rustix::process::DumpableBehavior::NotDumpable);
    Ok(())
}

#[tokio::test]
async fn the_service_manager_is_told_when_it_serves() -> Fallible {
    let dir = tempfile::TempDir::new()?;
    let path = dir.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path)?;
    let environment = [("NOTIFY_SOCKET", path.to_str().ok_or("not text")?)];

    let (_child, _) = serving(&dir.path().join("data"), &environment).await?;

    let mut message = [0; 64];
    let told = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut message)).await??;
    assert_eq!(message.get(..told), Some(&b"READY=1\n"[..]));
    Ok(())
}

#[tokio::test]
async fn a_flag_beats_the_variable_and_that_the_file() -> Fallible {
    let dir = tempfile::TempDir::new()?;
    let file = dir.path().join("arkeep.toml");
    std::fs::write(&file, "public-url = 'file'\n")?;
    let file = file.to_str().ok_or("not text")?;
    let variable = [("ARKEEP_PUBLIC_URL", "variable"), ("ARKEEP_CONFIG", file)];

    for (arguments, environment, named) in [
        (
            &["serve", "--public-url", "flag"][..],
            &variable[..],
            "flag",
        ),
        (&["serve"], &variable, "variable"),
        (&["serve"], &variable[1..], "file"),
    ] {
        let program = run(arguments, environment).await?;

        assert_eq!(program.code, Some(3));
        assert!(
            program.errors.contains(&format!("{named:?}")),
            "{}",
            program.errors
        );
    }
    Ok(())
}

#[tokio::test]
async fn exit_codes_are_those_of_the_contract() -> Fallible {
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["serve", "--help"], 0),
        (&[], 2),
        (&["serve", "--no-such-option"], 2),
        (&["dance"], 2),
        (&["serve", "--config", "/no/such/file"], 3),
        (&["serve", "--http-addr", "0.0.0.0:0"], 3),
        (&["serve", "--tls-cert", "x"], 3),
        (
            &["serve", "--database-url", "mysql://root:hunter2@db/arkeep"],
            3,
        ),
        (
            &[
                "serve",
                "--database-url",
                "postgres://root:hunter2@db/arkeep?sslmode=hunter2",
            ],
            3,
        ),
        // Nobody answers there.
        (
            &[
                "serve",
                "--database-url",
                "postgres://root:hunter2@127.0.0.1:1/arkeep",
            ],
            1,
        ),
        (&["serve", "--log-level", "no such level"], 3),
        (&["vault", "verify", "--data-dir", "/no/such/directory"], 3),
    ] {
        let program = run(arguments, &[]).await?;

        assert_eq!(
            program.code,
            Some(code),
            "{arguments:?}: {}",
            program.errors
        );
        assert!(!program.errors.contains("hunter2"), "{}", program.errors);
    }
    Ok(())
}

/// V4: a value in the environment is not shown by the help.
#[tokio::test]
async fn the_help_shows_no_value() -> Fallible {
    let secret = [("ARKEEP_DATABASE_URL", "postgres://root:hunter2@db/arkeep")];

    let help = run(&["serve", "--help"], &secret).await?;

    assert!(help.output.contains("ARKEEP_DATABASE_URL"));
    assert!(!help.output.contains("hunter2"));
    Ok(())
}
