//! A sealed secret as a database returns it: any bytes at all.
#![no_main]

use arkeep_vault::{KeyId, Sealed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stored: &[u8]| {
    let Ok(sealed) = Sealed::parse(stored) else {
        return;
    };
    assert_eq!(sealed.as_bytes(), stored);
    assert_eq!(stored[0], 1);
    assert_eq!(stored[1], sealed.algorithm());
    assert_eq!(stored[2..10], sealed.key_id().to_bytes());
    assert_eq!(stored[10..], *sealed.body());
    assert!(sealed.algorithm() >= 128 || stored.len() >= 50);
    assert_eq!(
        sealed.key_id().to_string().parse::<KeyId>(),
        Ok(sealed.key_id())
    );
    assert_eq!(sealed.into_bytes(), stored);
});
