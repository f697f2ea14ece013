//! A server that is started with a key that is not its own.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use arkeep_examples::{Programs, Server};

use crate::fleet::{Outcome, PASSWORD, scratch};

type Image = BTreeMap<PathBuf, (Vec<u8>, i64, i64, u32)>;

/// Every file with its bytes, its times and its mode.
fn image(directory: &Path) -> Result<Image, Box<dyn Error>> {
    let mut image = Image::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        assert!(metadata.is_file(), "{} is no file", path.display());
        let fact = (
            fs::read(&path)?,
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.mode(),
        );
        image.insert(path, fact);
    }
    Ok(image)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program's exit code is the subject"
)]
fn serve(
    programs: &Programs,
    data_dir: &Path,
    more: &[OsString],
) -> Result<(Option<i32>, String), Box<dyn Error>> {
    let output = std::process::Command::new(&programs.server)
        .args([
            "serve",
            "--http-addr",
            "127.0.0.1:0",
            "--grpc-addr",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(data_dir)
        .args(more)
        .env_clear()
        .output()?;
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

/// V6
#[tokio::test(flavor = "multi_thread")]
async fn is_refused_and_nothing_is_written() -> Outcome {
    let scratch = scratch()?;
    let programs = Programs::find()?;
    let data_dir = scratch.path().join("server");
    let mut server = Server::start(&programs, &data_dir, &[]).await?;
    server.set_up("admin@example.com", PASSWORD).await?;
    server.process().stop().await?;
    let other = scratch.path().join("other.key");
    let mut file = fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&other)?;
    std::io::Write::write_all(&mut file, &[7; 32])?;
    let before = image(&data_dir)?;

    let flag = ["--vault-key-file".into(), other.clone().into()];
    let (wrong_key, said) = serve(&programs, &data_dir, &flag)?;
    assert_eq!(wrong_key, Some(4), "{said}");
    assert!(said.contains("vault"), "{said}");
    assert_eq!(image(&data_dir)?, before);

    let key = data_dir.join("vault.key");
    let kept = fs::read(&key)?;
    fs::copy(&other, &key)?;
    let swapped = image(&data_dir)?;
    let (wrong_file, said) = serve(&programs, &data_dir, &[])?;
    assert_eq!(wrong_file, Some(4), "{said}");
    assert_eq!(image(&data_dir)?, swapped);

    fs::write(&key, kept)?;
    server.start_again().await?;
    Ok(())
}

/// V6: a ring that is gone is never made anew beside sealed rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_ring_is_refused_and_not_made_anew() -> Outcome {
    let scratch = scratch()?;
    let programs = Programs::find()?;
    let data_dir = scratch.path().join("server");
    let mut server = Server::start(&programs, &data_dir, &[]).await?;
    server.set_up("admin@example.com", PASSWORD).await?;
    server.process().stop().await?;
    let ring = data_dir.join("vault.ring");
    let aside = scratch.path().join("vault.ring");
    fs::rename(&ring, &aside)?;
    let before = image(&data_dir)?;

    let (code, said) = serve(&programs, &data_dir, &[])?;
    assert_eq!(code, Some(4), "{said}");
    assert_eq!(image(&data_dir)?, before);

    let key = data_dir.join("vault.key");
    fs::rename(&key, scratch.path().join("vault.key"))?;
    let before = image(&data_dir)?;
    let (code, said) = serve(&programs, &data_dir, &[])?;
    assert_eq!(code, Some(4), "{said}");
    assert_eq!(image(&data_dir)?, before);
    Ok(())
}
