//! The real program on directories that are not as they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::process::{refused, run, serving};
use super::{Fallible, Server, picture};

/// A directory in which a server has worked and was killed, so that there is a WAL too.
async fn used() -> Fallible<tempfile::TempDir> {
    let (server, mut admin) = Server::with_admin().await?;
    super::resources::policy(&mut admin).await?;
    let copy = tempfile::TempDir::new()?;
    copy_files(&server.data_dir(), &copy.path().join("data"))?;
    server.stop().await?;
    Ok(copy)
}

fn copy_files(from: &Path, to: &Path) -> Fallible {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn write_key(path: &Path, byte: u8, mode: u32) -> Fallible {
    fs::write(path, [byte; 32])?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// V6
#[tokio::test]
async fn a_wrong_key_changes_not_one_byte() -> Fallible {
    let dir = used().await?;
    let data = dir.path().join("data");
    let elsewhere = dir.path().join("other.key");
    write_key(&elsewhere, 7, 0o600)?;
    let before = picture(&data)?;
    assert!(
        before.iter().any(|(name, ..)| name == "arkeep.db-wal"),
        "nothing to lose"
    );

    // The right key lies in the directory; another one is named.
    let named = refused(&data, &["--vault-key-file", &elsewhere.to_string_lossy()]).await?;

    assert_eq!(named.code, Some(4), "{}", named.errors);
    assert_eq!(picture(&data)?, before);

    // Another key lies in the directory.
    write_key(&data.join("vault.key"), 7, 0o600)?;
    let before = picture(&data)?;
    let replaced = refused(&data, &[]).await?;

    assert_eq!(replaced.code, Some(4), "{}", replaced.errors);
    assert_eq!(picture(&data)?, before);
    Ok(())
}

/// V5, V6
#[tokio::test]
async fn a_missing_key_or_ring_is_refused_and_not_made_anew() -> Fallible {
    for (lost, mode) in [
        ("vault.key", None),
        ("vault.ring", None),
        ("vault.key", Some(0o640)),
    ] {
        let dir = used().await?;
        let data = dir.path().join("data");
        match mode {
            None => fs::remove_file(data.join(lost))?,
            Some(mode) => {
                fs::set_permissions(data.join(lost), fs::Permissions::from_mode(mode))?;
            }
        }
        let before = picture(&data)?;

        let program = refused(&data, &[]).await?;

        assert_eq!(program.code, Some(4), "{lost}: {}", program.errors);
        assert!(program.errors.contains(lost), "{}", program.errors);
        assert_eq!(picture(&data)?, before, "{lost}");
    }
    Ok(())
}

/// V6: a ring and the key that opens it, both of another server: after a kill, with everything in
/// the log; and after an orderly end, with no log at all.
#[tokio::test]
async fn a_ring_and_key_of_another_server_change_not_one_byte() -> Fallible {
    let (killed, other) = (used().await?, used().await?);
    let ended = super::vault::filled().await?;
    let other = other.path().join("data");

    for (dir, logged) in [(killed, true), (ended, false)] {
        let data = dir.path().join("data");
        for name in ["vault.key", "vault.ring"] {
            fs::copy(other.join(name), data.join(name))?;
        }
        assert_eq!(data.join("arkeep.db-wal").exists(), logged);
        let before = picture(&data)?;

        let program = refused(&data, &[]).await?;

        assert_eq!(program.code, Some(4), "{}", program.errors);
        assert!(program.errors.contains("vault.ring"), "{}", program.errors);
        assert_eq!(picture(&data)?, before, "log: {logged}");
    }
    Ok(())
}

/// V6: an older ring of the same server, whose newer values lie in the log alone.
#[tokio::test]
async fn an_older_ring_after_a_kill_changes_not_one_byte() -> Fallible {
    let dir = super::vault::filled().await?;
    let data = dir.path().join("data");
    let path = data.to_string_lossy().into_owned();
    let old = fs::read(data.join("vault.ring"))?;
    let (mut server, _) = serving(&data, &[]).await?;
    let rotated = run(&["vault", "rotate", "--data-dir", &path], &[]).await?;
    assert_eq!(rotated.code, Some(0), "{}", rotated.errors);
    server.kill().await?;
    let new = fs::read(data.join("vault.ring"))?;
    fs::write(data.join("vault.ring"), &old)?;
    assert!(fs::metadata(data.join("arkeep.db-wal"))?.len() > 0);
    let before = picture(&data)?;

    let program = refused(&data, &[]).await?;

    assert_eq!(program.code, Some(4), "{}", program.errors);
    assert!(program.errors.contains("older than"), "{}", program.errors);
    assert_eq!(picture(&data)?, before);
    fs::write(data.join("vault.ring"), new)?;
    let (mut server, _) = serving(&data, &[]).await?;
    Ok(server.kill().await?)
}

/// V6: the same when the walk had moved the server's own keys and not yet the rest.
#[tokio::test]
async fn a_ring_that_is_older_than_the_servers_own_keys_changes_not_one_byte() -> Fallible {
    let dir = super::vault::filled().await?;
    let data = dir.path().join("data");
    let path = data.to_string_lossy().into_owned();
    let old = tempfile::TempDir::new()?;
    copy_files(&data, &old.path().join("data"))?;
    let rotated = run(&["vault", "rotate", "--data-dir", &path], &[]).await?;
    assert_eq!(rotated.code, Some(0), "{}", rotated.errors);
    // What the walk had not come to.
    let before = old.path().join("data/arkeep.db").display().to_string();
    let mut database = <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!(
        "sqlite://{}",
        data.join("arkeep.db").display()
    ))
    .await?;
    for statement in [
        format!("ATTACH '{before}' AS old"),
        "UPDATE destinations SET credentials = (SELECT credentials FROM old.destinations AS was
         WHERE was.id = destinations.id)"
            .to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut database)
            .await?;
    }
    sqlx::Connection::close(database).await?;
    fs::copy(old.path().join("data/vault.ring"), data.join("vault.ring"))?;
    let before = picture(&data)?;

    let program = refused(&data, &[]).await?;
    let after = picture(&data)?;
    let verified = run(&["vault", "verify", "--data-dir", &path], &[]).await?;

    assert_eq!(program.code, Some(4), "{}", program.errors);
    assert!(
        program.errors.contains("the server's own keys"),
        "{}",
        program.errors
    );
    assert_eq!(after, before);
    assert_eq!(verified.code, Some(1), "{}", verified.errors);
    assert!(
        verified.output.contains("ca.private_key "),
        "{}",
        verified.output
    );
    Ok(())
}

/// A file where the directory should be.
#[tokio::test]
async fn a_file_in_place_of_the_directory_is_refused_as_such() -> Fallible {
    let file = tempfile::NamedTempFile::new()?;

    let served = refused(file.path(), &[]).await?;
    let path = file.path().to_string_lossy();
    let asked = run(&["vault", "status", "--data-dir", &path], &[]).await?;

    for ended in [served, asked] {
        assert_eq!(ended.code, Some(3), "{}", ended.errors);
        assert!(ended.errors.contains(&*path), "{}", ended.errors);
    }
    Ok(())
}

/// V6: the other way round, and the verification still names what does not open.
#[tokio::test]
async fn a_database_of_another_server_is_refused_and_verified() -> Fallible {
    let (dir, other) = (super::vault::filled().await?, super::vault::filled().await?);
    let (data, other) = (dir.path().join("data"), other.path().join("data"));
    fs::copy(other.join("arkeep.db"), data.join("arkeep.db"))?;
    let before = picture(&data)?;
    let path = data.to_string_lossy().into_owned();

    let program = refused(&data, &[]).await?;
    let rotated = run(&["vault", "rotate", "--data-dir", &path], &[]).await?;
    let after = picture(&data)?;
    let verified = run(&["vault", "verify", "--data-dir", &path], &[]).await?;

    assert_eq!(program.code, Some(4), "{}", program.errors);
    assert_eq!(rotated.code, Some(4), "{}", rotated.errors);
    assert_eq!(after, before);
    assert_eq!(verified.code, Some(1), "{}", verified.errors);
    let values = super::vault::VALUES;
    let told = format!("0 sealed values open, {values} do not\n");
    assert!(verified.output.ends_with(&told), "{}", verified.output);
    assert_eq!(verified.output.lines().count() as u64, values + 1);
    Ok(())
}

/// V6: neither does the directory for temporary files keep anything.
#[tokio::test]
async fn a_start_after_a_kill_is_an_ordinary_one() -> Fallible {
    let dir = used().await?;
    let data = dir.path().join("data");
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary)?;
    let temporary = temporary.to_string_lossy().into_owned();

    let (mut server, _) = super::process::serving(&data, &[("TMPDIR", &temporary)]).await?;
    server.kill().await?;

    assert_eq!(fs::read_dir(&temporary)?.count(), 0);
    Ok(())
}

/// V6
#[tokio::test]
async fn a_lost_database_is_not_replaced_by_an_empty_one() -> Fallible {
    let (database, log, memory) = ("arkeep.db", "arkeep.db-wal", "arkeep.db-shm");
    for (removed, emptied, code) in [
        (&[database, log, memory][..], None, 3),
        // What was left by a disk that was full, or by a copy that took one file of three.
        (&[log, memory], Some(database), 3),
        (&[log, memory], None, 3),
        (&[database, memory], None, 3),
        (&[database, memory, "vault.ring"], None, 4),
    ] {
        let dir = used().await?;
        let data = dir.path().join("data");
        for name in removed {
            fs::remove_file(data.join(name))?;
        }
        if let Some(name) = emptied {
            fs::write(data.join(name), b"")?;
        }
        let before = picture(&data)?;

        let program = refused(&data, &[]).await?;

        let errors = program.errors;
        assert_eq!(program.code, Some(code), "{removed:?}: {errors}");
        assert!(errors.contains("arkeep.db"), "{removed:?}: {errors}");
        assert_eq!(picture(&data)?, before, "{removed:?}");

        // With neither ring nor database a command finds no server, or no ring to change.
        let codes = match removed.contains(&"vault.ring") {
            true => 3..=4,
            false => code..=code,
        };
        let at = data.to_string_lossy();
        for command in ["verify", "status", "rotate", "rekey"] {
            let ended = run(&["vault", command, "--data-dir", &at], &[]).await?;
            let refused = ended.code.is_some_and(|code| codes.contains(&code));
            assert!(refused, "{command} {removed:?}: {}", ended.errors);
            assert_eq!(picture(&data)?, before, "{command} {removed:?}");
        }
    }
    Ok(())
}

/// V6: a service may have no directory for temporary files, and a log that was never folded in.
#[tokio::test]
async fn a_start_needs_no_directory_for_temporary_files() -> Fallible {
    let dir = used().await?;
    let data = dir.path().join("data");
    let nowhere = [("TMPDIR", "/nonexistent")];

    let (mut serving, _) = serving(&data, &nowhere).await?;

    serving.kill().await?;
    let names = fs::read_dir(&data)?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<Fallible<Vec<_>>>()?;
    let hidden = |name: &&std::ffi::OsString| name.as_encoded_bytes().starts_with(b".tmp");
    assert_eq!(names.iter().find(hidden), None);
    Ok(())
}

#[tokio::test]
async fn a_first_start_that_was_interrupted_is_finished_by_the_next() -> Fallible {
    let server = Server::start().await?;
    let key = fs::read(server.data_dir().join("vault.key"))?;
    let data = server.stop().await?;
    for name in fs::read_dir(data.path().join("data"))? {
        let path = name?.path();
        if !path.ends_with("vault.key") {
            fs::remove_file(path)?;
        }
    }

    let server = Server::start_in(data, &[]).await?;

    server.set_up().await?;
    assert_eq!(fs::read(server.data_dir().join("vault.key"))?, key);
    Ok(())
}

/// V6: a key that the operator named is never made, for the disk may not be mounted.
#[tokio::test]
async fn a_key_file_that_was_named_must_be_there() -> Fallible {
    let dir = tempfile::TempDir::new()?;
    let data = dir.path().join("data");
    let absent = dir.path().join("absent.key");

    let program = refused(&data, &["--vault-key-file", &absent.to_string_lossy()]).await?;

    assert_eq!(program.code, Some(4), "{}", program.errors);
    assert!(!absent.exists());
    Ok(())
}
