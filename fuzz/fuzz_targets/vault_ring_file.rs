//! A ring file: any bytes, those with a checksum that fits, and the list behind the encryption.
#![no_main]

use arkeep_vault::testing::parse_key_list;
use arkeep_vault::{KeyEncryptionKey, KeyState, PassphraseCost, WrappedRing};
use libfuzzer_sys::fuzz_target;

fn check(bytes: &[u8]) {
    let Ok(ring) = WrappedRing::parse(bytes) else {
        return;
    };
    assert_eq!(ring.to_bytes(), bytes);
    assert!((1..=2).contains(&ring.guards().count()));
    assert!(
        ring.guards()
            .all(|kind| kind.bytes().all(|byte| byte.is_ascii_graphic()))
    );
    let guard = KeyEncryptionKey::from_bytes(&vec![7; 32].into()).unwrap();
    assert!(ring.unlock(&guard).is_err());
    if dear(bytes) {
        return;
    }
    let guard = KeyEncryptionKey::from_passphrase("close sesame".into(), PassphraseCost::default());
    assert!(ring.unlock(&guard.unwrap()).is_err());
}

/// A passphrase slot may ask for a gigabyte, and a fuzzer should not pay it.
fn dear(bytes: &[u8]) -> bool {
    let name = b"passphrase";
    bytes
        .windows(name.len() + 14)
        .filter(|window| window.starts_with(name))
        .any(|window| window[12..15] != [0, 0, 0] || window[19] > 4)
}

/// As for CRC-32 of ISO 3309.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_be_bytes()
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    check(&[bytes, &checksum(bytes)].concat());
    if let Ok(ring) = parse_key_list(bytes) {
        let keys = ring.keys();
        let primaries = keys.iter().filter(|key| key.state == KeyState::Primary);
        assert_eq!(primaries.count(), 1);
        assert_eq!(bytes.len(), 10 + 65 * keys.len());
    }
});
