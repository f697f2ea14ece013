//! The vectors of `tests/vectors`, which another implementation of the format wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arkeep_vault::{
    Binding, ExposeSecret, KeyEncryptionKey, KeyId, KeyState, KeyWrapper, Keyring, OpenError,
    ParseError, PassphraseCost, RingFormatError, Sealed, Sealer, SecretString, UnlockError, Vault,
    WrappedRing,
};

use crate::TestResult;

type Error = Box<dyn std::error::Error>;

struct Vector {
    name: String,
    fields: BTreeMap<String, String>,
}

impl Vector {
    fn read(path: &Path) -> Result<Self, Error> {
        let name = path.file_stem().ok_or("no name")?.to_string_lossy();
        let text = fs::read_to_string(path)?;
        let fields = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| {
                let (field, value) = line.split_once(':').ok_or("a line without a colon")?;
                Ok((field.to_owned(), value.trim().to_owned()))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            name: name.into_owned(),
            fields,
        })
    }

    fn text(&self, field: &str) -> &str {
        &self.fields[field]
    }

    fn bytes(&self, field: &str) -> Result<Vec<u8>, Error> {
        let digits = self.text(field).as_bytes();
        digits
            .chunks(2)
            .map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?))
            .collect()
    }

    /// Bindings take names of a schema, which live as long as the program.
    fn name(&self, field: &str) -> &'static str {
        self.text(field).to_owned().leak()
    }
}

fn all(kind: &str) -> Result<Vec<Vector>, Error> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut vectors = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(kind) && name.ends_with(".txt") {
            vectors.push(Vector::read(&path)?);
        }
    }
    Ok(vectors)
}

fn open_blob(vector: &Vector) -> Result<String, Error> {
    let id = KeyId::from_bytes(vector.bytes("key-id")?.as_slice().try_into()?);
    let vault = Vault::new(Keyring::single(id, &vector.bytes("key")?.into(), 0)?);
    let place = Binding::new(
        vector.name("table"),
        vector.name("column"),
        vector.bytes("record")?,
    )
    .in_domain(vector.name("domain"));
    let stored = vector.bytes("blob")?;

    let sealed = match Sealed::parse(&stored) {
        Ok(sealed) => sealed,
        Err(error) => {
            let opened = vault.open_bytes(&stored, &place);
            assert!(
                matches!(opened, Err(OpenError::Rejected)),
                "{}",
                vector.name
            );
            return Ok(match error {
                ParseError::TooShort => "too short".into(),
                ParseError::Version { version } => format!("version {version}"),
                ParseError::Algorithm { algorithm } => format!("algorithm {algorithm}"),
                error => error.to_string(),
            });
        }
    };
    Ok(match vault.open(&sealed, &place) {
        Ok(secret) => {
            assert_eq!(
                secret.expose_secret(),
                vector.bytes("secret")?,
                "{}",
                vector.name
            );
            "opens".into()
        }
        Err(OpenError::Rejected) => "rejected".into(),
        Err(error) => error.to_string(),
    })
}

fn open_ring(vector: &Vector) -> Result<String, Error> {
    let guard: Box<dyn KeyWrapper> = match vector.fields.get("passphrase") {
        Some(text) => Box::new(KeyEncryptionKey::from_passphrase(
            SecretString::from(text.as_str()),
            PassphraseCost::default(),
        )?),
        None => Box::new(KeyEncryptionKey::from_bytes(
            &vector.bytes("guard")?.into(),
        )?),
    };
    let unlocked = WrappedRing::parse(&vector.bytes("ring")?)
        .map_err(UnlockError::from)
        .and_then(|ring| ring.unlock(&*guard));
    Ok(match unlocked {
        Ok(ring) => {
            assert_eq!(keys(&ring), vector.text("keys"), "{}", vector.name);
            "opens".into()
        }
        Err(UnlockError::WrongKey) => "wrong key".into(),
        Err(UnlockError::Damaged(damage)) => match damage {
            RingFormatError::NotARing => "not a ring".into(),
            RingFormatError::Version { version } => format!("version {version}"),
            RingFormatError::CutShort => "cut short".into(),
            RingFormatError::TooLong => "too long".into(),
            RingFormatError::Checksum => "checksum".into(),
            RingFormatError::Slots => "slots".into(),
            RingFormatError::Altered => "altered".into(),
            RingFormatError::Primaries { count } => format!("primaries {count}"),
            RingFormatError::Keys => "keys".into(),
            error => error.to_string(),
        },
        Err(error) => error.to_string(),
    })
}

fn keys(ring: &Keyring) -> String {
    let keys: Vec<_> = ring
        .keys()
        .iter()
        .map(|key| {
            let state = match key.state {
                KeyState::Primary => "primary",
                KeyState::Decrypt => "decrypt",
                KeyState::Disabled => "disabled",
                _ => "?",
            };
            format!(
                "{} {state} {} {} {}",
                key.id, key.created_at, key.changed_at, key.messages_sealed
            )
        })
        .collect();
    keys.join(", ")
}

/// V1, V2, V3: what the format page says, and no more, opens.
#[test]
fn blobs_open_or_are_refused_as_the_format_says() -> TestResult {
    let vectors = all("blob_")?;

    assert!(vectors.len() >= 60, "only {} blobs", vectors.len());
    for vector in &vectors {
        assert_eq!(open_blob(vector)?, vector.text("expect"), "{}", vector.name);
    }
    Ok(())
}

/// V5, V6: a wrong key and each kind of damage are told apart.
#[test]
fn rings_open_or_are_refused_as_the_format_says() -> TestResult {
    let vectors = all("ring_")?;

    assert!(vectors.len() >= 60, "only {} rings", vectors.len());
    for vector in &vectors {
        assert_eq!(open_ring(vector)?, vector.text("expect"), "{}", vector.name);
    }
    Ok(())
}
