//! Where the key comes from, and what is said when it does not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::process::{run, serving};
use super::super::{Fallible, picture};
use super::{copy, done, filled, text, vault, write};

/// V5: a server is made and served with a key from anywhere, and its commands take it from there.
#[tokio::test]
async fn a_server_lives_with_a_key_from_any_source() -> Fallible {
    let dir = tempfile::TempDir::new()?;
    let path = |name: &str| dir.path().join(name);
    write(&path("hex.key"), "A0".repeat(32).as_bytes(), 0o600)?;
    write(&path("passphrase"), b"open sesame\n", 0o600)?;
    fs::create_dir(path("credentials"))?;
    write(&path("credentials/vault.key"), &[7; 32], 0o440)?;
    let (hex, passphrase) = (text(&path("hex.key")), text(&path("passphrase")));
    let (credentials, digits) = (text(&path("credentials")), "0f".repeat(32));
    let config = path("arkeep.toml");
    fs::write(&config, format!("vault-key-file = {hex:?}\n"))?;
    let config = text(&config);

    for (number, environment) in [
        [("ARKEEP_VAULT_KEY_FILE", hex.as_str())],
        [("ARKEEP_VAULT_PASSPHRASE_FILE", &passphrase)],
        [("ARKEEP_VAULT_KEY", &digits)],
        [("ARKEEP_VAULT_PASSPHRASE", "correct horse")],
        [("CREDENTIALS_DIRECTORY", &credentials)],
        [("ARKEEP_CONFIG", &config)],
    ]
    .iter()
    .enumerate()
    {
        let data = path(&format!("data{number}"));

        let (mut server, _) = serving(&data, environment).await?;
        let beside = vault(&data, &["verify"], environment).await?;
        server.kill().await?;
        let (mut again, _) = serving(&data, environment).await?;
        again.kill().await?;
        let without = vault(&data, &["verify"], &[]).await?;

        assert_eq!(beside.code, Some(0), "{environment:?}: {}", beside.errors);
        assert_eq!(without.code, Some(4), "{environment:?}: {}", without.errors);
        assert!(!data.join("vault.key").exists(), "{environment:?}");
    }
    Ok(())
}

/// V5
#[tokio::test]
async fn a_flag_beats_a_variable_and_that_the_file() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let (right, wrong) = (data.join("vault.key"), dir.path().join("wrong.key"));
    write(&wrong, &[7; 32], 0o600)?;
    let (right, wrong) = (text(&right), text(&wrong));
    let config = dir.path().join("arkeep.toml");
    fs::write(&config, format!("vault-key-file = {wrong:?}\n"))?;
    let (config, digits) = (text(&config), "0f".repeat(32));
    let flag = ["verify", "--vault-key-file", &right];

    for (arguments, environment, code) in [
        (&flag[..], &[("ARKEEP_VAULT_KEY", digits.as_str())][..], 0),
        (&flag, &[("ARKEEP_VAULT_PASSPHRASE", "wrong")], 0),
        (&flag, &[("ARKEEP_CONFIG", &config)], 0),
        (
            &flag[..1],
            &[
                ("ARKEEP_CONFIG", &config),
                ("ARKEEP_VAULT_KEY_FILE", &right),
            ],
            0,
        ),
        (&flag[..1], &[("ARKEEP_CONFIG", &config)], 4),
        (&flag[..1], &[("ARKEEP_VAULT_KEY", &digits)], 4),
        (
            &flag[..1],
            &[
                ("ARKEEP_VAULT_KEY", &digits),
                ("ARKEEP_VAULT_KEY_FILE", &right),
            ],
            3,
        ),
    ] {
        let ended = vault(&data, arguments, environment).await?;

        assert_eq!(
            ended.code,
            Some(code),
            "{arguments:?} {environment:?}: {}",
            ended.errors
        );
        assert!(!ended.errors.contains(&digits), "{}", ended.errors);
    }
    Ok(())
}

const COMMANDS: [&[&str]; 6] = [
    &["vault", "rotate"],
    &["vault", "rekey"],
    &["vault", "status"],
    &["vault", "verify"],
    &["user", "list"],
    &["ca", "status"],
];

type Spoil = fn(&Path) -> Fallible;

/// V5, V6: one clear error that names the file and says what to do, and not one byte changed; of
/// the server and of each command.
#[tokio::test]
async fn a_key_or_ring_that_is_none_is_refused_with_one_clear_line() -> Fallible {
    let template = filled().await?;
    let cases: [(&str, Spoil, &str); 14] = [
        (
            "vault.key",
            |at| write(at, &[7; 31], 0o600),
            "exactly 32 bytes",
        ),
        ("vault.key", |at| write(at, &[7; 33], 0o600), "(33 bytes)"),
        (
            "vault.key",
            |at| write(at, b"", 0o600),
            "64 hexadecimal digits",
        ),
        (
            "vault.key",
            |at| write(at, &[b'g'; 64], 0o600),
            "64 hexadecimal digits",
        ),
        (
            "vault.key",
            |at| write(at, &fs::read(at)?, 0o644),
            "chmod 600",
        ),
        (
            "vault.key",
            |at| write(at, &fs::read(at)?, 0o640),
            "chmod 600",
        ),
        (
            "vault.key",
            |at| Ok(fs::remove_file(at)?),
            "restore the file",
        ),
        (
            "vault.key",
            |at| {
                fs::remove_file(at)?;
                Ok(fs::create_dir(at)?)
            },
            "not a regular file",
        ),
        (
            "vault.key",
            |at| {
                fs::rename(at, at.with_extension("elsewhere"))?;
                Ok(symlink(at.with_extension("elsewhere"), at)?)
            },
            "symbolic link",
        ),
        (
            "vault.ring",
            |at| {
                let ring = fs::read(at)?;
                let half = ring.get(..ring.len() / 2).unwrap_or_default();
                write(at, half, 0o600)
            },
            "restore it from a backup",
        ),
        (
            "vault.ring",
            |at| write(at, b"", 0o600),
            "restore it from a backup",
        ),
        ("vault.ring", two_primaries, "2 primary keys"),
        (
            "vault.ring",
            |at| {
                fs::rename(at, at.with_extension("elsewhere"))?;
                Ok(symlink(at.with_extension("elsewhere"), at)?)
            },
            "symbolic link",
        ),
        ("vault.ring", |at| Ok(fs::remove_file(at)?), "from a backup"),
    ];

    for (number, (name, spoil, advice)) in cases.into_iter().enumerate() {
        let dir = tempfile::TempDir::new()?;
        let data = copy(&template.path().join("data"), &dir.path().join("data"))?;
        spoil(&data.join(name))?;
        let before = snapshot(&data)?;
        let path = text(&data);

        let serve = &["serve", "--http-addr", "127.0.0.1:0"][..];
        // Each of the others meets some of the cases, for they all open the ring in one way.
        let other = COMMANDS.get(number % COMMANDS.len()).ok_or("no command")?;
        for command in [serve, *other] {
            let all = [command, &["--data-dir", &path]].concat();

            let ended = run(&all, &[]).await?;

            let told = &ended.errors;
            assert_eq!(ended.code, Some(4), "{command:?} {advice}: {told}");
            assert!(told.contains(name) && told.contains(advice), "{told}");
            assert_eq!(told.lines().count(), 1, "{told}");
            assert_eq!(snapshot(&data)?, before, "{command:?} {advice}");
        }
    }
    Ok(())
}

/// V5, V6
#[tokio::test]
async fn a_variable_that_is_no_key_is_refused_without_its_value() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");
    let empty = dir.path().join("empty");
    write(&empty, b"\n", 0o600)?;
    let empty = text(&empty);
    let before = picture(&data)?;

    for (variable, value, advice) in [
        ("ARKEEP_VAULT_KEY", "hunter2", "64 hexadecimal digits"),
        ("ARKEEP_VAULT_KEY", "", "64 hexadecimal digits"),
        ("ARKEEP_VAULT_PASSPHRASE", "", "is empty"),
        ("ARKEEP_VAULT_PASSPHRASE_FILE", &empty, "is empty"),
        ("ARKEEP_VAULT_PASSPHRASE", "hunter2", "several words"),
        (
            "ARKEEP_VAULT_PASSPHRASE",
            "hunter2 again",
            "locked with: key",
        ),
    ] {
        let path = text(&data);
        let serve = ["serve", "--data-dir", &path, "--http-addr", "127.0.0.1:0"];
        let ended = run(&serve, &[(variable, value)]).await?;

        let told = &ended.errors;
        assert_eq!(ended.code, Some(4), "{variable}: {told}");
        assert!(told.contains(advice), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        assert_eq!(picture(&data)?, before);
    }
    Ok(())
}

/// V5: at the first start too, before anything is made.
#[tokio::test]
async fn a_first_start_with_no_key_makes_nothing() -> Fallible {
    let dir = tempfile::TempDir::new()?;
    let data = dir.path().join("data");
    let path = text(&data);

    for variable in ["ARKEEP_VAULT_KEY", "ARKEEP_VAULT_PASSPHRASE"] {
        let serve = ["serve", "--data-dir", &path, "--http-addr", "127.0.0.1:0"];
        let ended = run(&serve, &[(variable, "")]).await?;

        assert_eq!(ended.code, Some(4), "{variable}: {}", ended.errors);
        assert!(!data.exists(), "{variable}");
    }
    Ok(())
}

/// V4, V5: the help names the variables and shows no value.
#[tokio::test]
async fn the_help_names_every_source_and_shows_no_secret() -> Fallible {
    let secrets = [
        ("ARKEEP_VAULT_KEY", "hunter2"),
        ("ARKEEP_VAULT_PASSPHRASE", "hunter2"),
    ];

    let help = run(&["vault", "rekey", "--help"], &secrets).await?.output;

    for source in [
        "--vault-key-file",
        "--vault-passphrase-file",
        "--new-vault-key-file",
        "--new-vault-passphrase-file",
        "ARKEEP_VAULT_KEY",
        "ARKEEP_VAULT_PASSPHRASE",
        "ARKEEP_NEW_VAULT_KEY",
        "ARKEEP_NEW_VAULT_PASSPHRASE",
    ] {
        assert!(help.contains(source), "{source}: {help}");
    }
    assert!(!help.contains("hunter2"));
    Ok(())
}

/// A ring with two primary keys, and the key that opens it, as another program wrote them.
fn two_primaries(at: &Path) -> Fallible {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../arkeep-vault/tests/vectors");
    let vector = fs::read_to_string(vectors.join("ring_two_primaries.txt"))?;
    let bytes = |field: &str| {
        let digits = vector.lines().find_map(|line| line.strip_prefix(field));
        let digits = digits.ok_or("a field is missing")?.trim().as_bytes();
        digits
            .chunks(2)
            .map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?))
            .collect::<Fallible<Vec<u8>>>()
    };
    write(&at.with_extension("key"), &bytes("guard:")?, 0o600)?;
    write(at, &bytes("ring:")?, 0o600)
}

type Entry = (String, Option<Vec<u8>>, std::time::SystemTime, u32);

/// Every entry of a directory: its name, its bytes, when it changed, and its mode. A link is not
/// followed.
fn snapshot(of: &Path) -> Fallible<Vec<Entry>> {
    use std::os::unix::fs::MetadataExt as _;

    let mut entries = Vec::new();
    for entry in fs::read_dir(of)? {
        let entry = entry?;
        let facts = fs::symlink_metadata(entry.path())?;
        let bytes = facts
            .is_file()
            .then(|| fs::read(entry.path()))
            .transpose()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push((name, bytes, facts.modified()?, facts.mode()));
    }
    entries.sort();
    Ok(entries)
}

/// V7: what `vault status` tells.
#[tokio::test]
async fn the_status_shows_what_each_key_is_needed_for() -> Fallible {
    let dir = filled().await?;
    let data = dir.path().join("data");

    let status = done(&data, &["status"]).await?;

    let lines: Vec<Vec<&str>> = status
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.first().and_then(|line| line.first()), Some(&"key"));
    let key = lines.get(1).ok_or("no key")?;
    assert_eq!(key.get(1), Some(&"primary"));
    assert_eq!(key.last(), Some(&super::VALUES.to_string().as_str()));
    assert!(status.ends_with("unlocked by: key\n"), "{status}");
    Ok(())
}
