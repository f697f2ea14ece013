use std::fs;
use std::sync::Arc;

use arkeep_vault::{KeyEncryptionKey, RingFile};

use super::super::process::refused;
use super::super::{Fallible, Server};
use super::{
    VALUES, all_open, copy, credentials, done, fill, filled, text, values_of, vault, write,
};

/// V7
#[tokio::test]
async fn the_key_file_is_replaced_where_it_lies() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let key = fs::read(data.join("vault.key"))?;
    let before = values_of(&data).await?;

    done(&data, &["rekey"]).await?;

    assert_ne!(fs::read(data.join("vault.key"))?, key);
    assert_eq!(values_of(&data).await?, before, "it seals nothing again");
    assert!(!data.join("vault.key.new").exists());
    all_open(&data).await?;
    fs::write(data.join("vault.key"), key)?;
    let old = refused(&data, &[]).await?;
    assert_eq!(old.code, Some(4), "{}", old.errors);
    Ok(())
}

/// V7: a server goes on that reads its key from the file.
#[tokio::test]
async fn a_server_that_runs_follows_the_key_file() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    fill(&mut admin).await?;
    let data = server.data_dir();

    done(&data, &["rekey"]).await?;
    credentials(&mut admin, "after the rekey").await?;
    done(&data, &["rotate"]).await?;
    credentials(&mut admin, "after the rotation").await?;

    let verified = done(&data, &["verify"]).await?;
    assert_eq!(
        verified,
        format!("{} sealed values open, 0 do not\n", VALUES + 2)
    );
    Ok(())
}

/// V5, V7: from each kind of source to each other.
#[tokio::test]
async fn the_ring_moves_from_any_source_to_any_other() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let path = |name: &str| dir.path().join(name);
    write(&path("raw.key"), &[7; 32], 0o600)?;
    write(&path("passphrase"), b"open sesame\n", 0o600)?;
    fs::create_dir(path("credentials"))?;
    write(
        &path("credentials/vault.key"),
        "0f".repeat(32).as_bytes(),
        0o440,
    )?;
    write(
        &path("credentials/vault.key.new"),
        "0f".repeat(32).as_bytes(),
        0o440,
    )?;
    let (key_file, passphrase_file) = (text(&path("raw.key")), text(&path("passphrase")));
    let (credentials, digits) = (text(&path("credentials")), "a0".repeat(32));
    // How each is named as the present key, and as the new one.
    let sources = [
        (
            vec!["--vault-key-file", &key_file],
            vec![],
            vec!["--new-vault-key-file", &key_file],
            vec![],
        ),
        (
            vec!["--vault-passphrase-file", &passphrase_file],
            vec![],
            vec!["--new-vault-passphrase-file", &passphrase_file],
            vec![],
        ),
        (
            vec![],
            vec![("ARKEEP_VAULT_KEY", digits.as_str())],
            vec![],
            vec![("ARKEEP_NEW_VAULT_KEY", digits.as_str())],
        ),
        (
            vec![],
            vec![("CREDENTIALS_DIRECTORY", credentials.as_str())],
            vec![],
            vec![("CREDENTIALS_DIRECTORY", credentials.as_str())],
        ),
        (
            vec![],
            vec![("ARKEEP_VAULT_PASSPHRASE", "correct horse")],
            vec![],
            vec![("ARKEEP_NEW_VAULT_PASSPHRASE", "correct horse")],
        ),
    ];
    let (mut flags, mut variables) = (vec![], vec![]);

    for (next_flags, next_variables, new_flags, new_variables) in sources {
        let arguments = [&["rekey"], &flags[..], &new_flags[..]].concat();
        // The credential directory of the new key serves the old one only when that is meant.
        let environment = [&variables[..], &new_variables[..]].concat();
        let named_by_flag = !flags.is_empty() || !variables.is_empty();
        let flags_of_default = text(&data.join("vault.key"));
        let default = ["--vault-key-file", flags_of_default.as_str()];
        let arguments = match named_by_flag {
            true => arguments,
            false => [&arguments[..], &default].concat(),
        };

        let ended = vault(&data, &arguments, &environment).await?;
        assert_eq!(ended.code, Some(0), "{new_flags:?}: {}", ended.errors);
        let old = [&["verify"], &flags[..]].concat();
        let old = vault(&data, &old, &variables).await?;
        let new = [&["verify"], &next_flags[..]].concat();
        let new = vault(&data, &new, &next_variables).await?;

        assert_eq!(old.code, Some(4), "{}", old.errors);
        assert_eq!(new.code, Some(0), "{}", new.errors);
        (flags, variables) = (next_flags, next_variables);
    }
    Ok(())
}

/// V5, V7: whatever is wrong with the new key, the old one is not given up.
#[tokio::test]
async fn a_new_key_that_is_none_changes_nothing() -> Fallible {
    let template = filled().await?;
    let dir = tempfile::TempDir::new()?;
    let data = copy(&template.path().join("data"), &dir.path().join("data"))?;
    let bad = dir.path().join("bad");
    write(&bad, &[7; 31], 0o600)?;
    let (bad, own) = (text(&bad), text(&data.join("vault.key")));
    let before = super::super::picture(&data)?;

    for (arguments, environment, code) in [
        (&["--new-vault-key-file", bad.as_str()][..], &[][..], 4),
        (&["--new-vault-key-file", own.as_str()], &[], 3),
        (&["--new-vault-passphrase-file", "/no/such/file"], &[], 4),
        (&[], &[("ARKEEP_NEW_VAULT_KEY", "0f0f")], 4),
        (&[], &[("ARKEEP_NEW_VAULT_PASSPHRASE", "")], 4),
    ] {
        let all = [&["rekey"], arguments].concat();

        let ended = vault(&data, &all, environment).await?;

        assert_eq!(ended.code, Some(code), "{all:?}: {}", ended.errors);
        assert_eq!(super::super::picture(&data)?, before, "{all:?}");
    }
    Ok(())
}

/// V7: an attempt that was cut off is ended by naming the key that it let in, also when the program
/// was started with that one since.
#[tokio::test]
async fn the_new_key_ends_an_attempt_that_was_cut_off() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let next = dir.path().join("next.key");
    write(&next, &[7; 32], 0o600)?;
    let ring = |key: &std::path::Path| -> Fallible<RingFile> {
        let guard = KeyEncryptionKey::from_file(key)?;
        Ok(RingFile::open(data.join("vault.ring"), Arc::new(guard))?)
    };
    ring(&data.join("vault.key"))?.begin_rekey(&KeyEncryptionKey::from_file(&next)?)?;
    let next_text = text(&next);
    let arguments = [
        "rekey",
        "--vault-key-file",
        &next_text,
        "--new-vault-key-file",
        &next_text,
    ];

    let ended = vault(&data, &arguments, &[]).await?;
    let again = vault(&data, &arguments, &[]).await?;

    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(ring(&next)?.guards().len(), 1);
    assert!(ring(&data.join("vault.key")).is_err());
    assert_eq!(again.code, Some(3), "{}", again.errors);
    Ok(())
}

/// V7: a key that is no file cannot be replaced where it is.
#[tokio::test]
async fn a_key_from_the_environment_is_replaced_only_by_a_named_one() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let digits = "0f".repeat(32);
    let to = vault(&data, &["rekey"], &[("ARKEEP_NEW_VAULT_KEY", &digits)]).await?;
    assert_eq!(to.code, Some(0), "{}", to.errors);

    let ended = vault(&data, &["rekey"], &[("ARKEEP_VAULT_KEY", &digits)]).await?;

    assert_eq!(ended.code, Some(3), "{}", ended.errors);
    assert!(
        ended.errors.contains("--new-vault-key-file"),
        "{}",
        ended.errors
    );
    assert!(!ended.errors.contains(&digits));
    Ok(())
}
