//! Real servers on ports of their own, ended with the test.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::bench::until;

/// A program of the machine that a test needs.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests' one place that starts processes"
)]
pub(crate) fn tool(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// A server, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) const USER: &str = "back-up";
pub(crate) const SERVER_PASSWORD: &str = "s3rver/pass w%rd";

/// `rclone serve` of a kind, with the test's user and password, over a directory.
pub(crate) async fn rclone_serve(
    kind: &str,
    directory: &Path,
    more: &[&str],
) -> Result<Server, Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    let port = free_port()?;
    let mut command = tool("rclone");
    command
        .args(["serve", kind, "--addr", &format!("127.0.0.1:{port}")])
        .args(["--user", USER, "--pass", SERVER_PASSWORD])
        .args(more)
        .arg(directory);
    start(command, port).await
}

/// `sshd`, which lets the user of this process in with `key`, and the line of `known_hosts` for it.
pub(crate) async fn sshd(directory: &Path) -> Result<(Server, String, String), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all("/run/sshd")?;
    }
    let port = free_port()?;
    let host = keygen(&directory.join("host"))?;
    let own = keygen(&directory.join("own"))?;
    fs::write(directory.join("authorized_keys"), &own)?;
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile \
         {0}/authorized_keys\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
         PasswordAuthentication no\nSubsystem sftp internal-sftp\n",
        directory.display()
    );
    fs::write(directory.join("config"), config)?;
    let mut command = tool("/usr/sbin/sshd");
    command
        .args(["-D", "-e", "-f"])
        .arg(directory.join("config"));
    let server = start(command, port).await?;
    let known = format!("[127.0.0.1]:{port} {host}");
    Ok((server, fs::read_to_string(directory.join("own"))?, known))
}

/// An S3 server in memory, of the Python package `moto`. `None` where there is none.
pub(crate) async fn moto() -> Result<Option<Server>, Box<dyn Error>> {
    let there = tool("moto_server").arg("--help").output();
    if !there.is_ok_and(|answer| answer.status.success()) {
        return Ok(None);
    }
    let port = free_port()?;
    let mut command = tool("moto_server");
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    start(command, port).await.map(Some)
}

/// Makes a key and returns its public half.
pub(crate) fn keygen(file: &Path) -> Result<String, Box<dyn Error>> {
    let made = tool("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(file)
        .status()?;
    assert!(made.success());
    Ok(fs::read_to_string(file.with_extension("pub"))?)
}

async fn start(mut command: Command, port: u16) -> Result<Server, Box<dyn Error>> {
    let process = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let server = Server { process, port };
    until("the server listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
    .await;
    Ok(server)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
