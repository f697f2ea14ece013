//! Opening: bytes that nobody sealed, and genuine ones with something done to them.
#![no_main]

use std::sync::LazyLock;

use arkeep_vault::{
    Binding, ExposeSecret, KeyId, Keyring, OpenError, Sealed, Sealer, SecretString, Vault,
};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "correct horse battery staple";

static VAULT: LazyLock<(Vault, Sealed)> = LazyLock::new(|| {
    let id = KeyId::from_bytes([1; 8]);
    let vault = Vault::new(Keyring::single(id, &vec![7; 32].into(), 0).unwrap());
    let sealed = vault
        .seal_str(&SecretString::from(SECRET), &place())
        .unwrap();
    (vault, sealed)
});

fn place() -> Binding {
    Binding::new("table", "column", "record")
}

/// Each three bytes: what to do, where, and with what.
fn alter(genuine: &[u8], steps: &[u8]) -> Vec<u8> {
    let mut bytes = genuine.to_owned();
    for step in steps.chunks_exact(3) {
        let at = usize::from(step[1]) % (bytes.len() + 1);
        match step[0] % 4 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, step[2]),
            2 if at < bytes.len() => bytes[at] ^= step[2],
            3 => bytes.extend_from_slice(&genuine[at.min(genuine.len())..]),
            _ => {}
        }
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    let (vault, genuine) = &*VAULT;

    let opened = vault.open_bytes(input, &place());
    assert!(matches!(opened, Err(OpenError::Rejected)));

    let altered = alter(genuine.as_bytes(), input);
    match vault.open_bytes(&altered, &place()) {
        Ok(secret) => {
            assert_eq!(altered, genuine.as_bytes());
            assert_eq!(secret.expose_secret(), SECRET.as_bytes());
        }
        Err(error) => {
            assert!(matches!(error, OpenError::Rejected));
            assert_ne!(altered, genuine.as_bytes());
        }
    }

    let record = Binding::new("table", "column", input);
    assert_eq!(vault.open(genuine, &record).is_ok(), input == b"record");
});
