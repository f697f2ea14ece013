//! What holds for every secret, place, key and sequence of changes.

use arkeep_vault::{
    Binding, Census, ExposeSecret, KeyEncryptionKey, KeyId, KeyState, Keyring, OpenError,
    REMOVAL_DELAY_MILLIS, Sealed, Sealer, SecretString, Vault, WrappedRing,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const NAMES: [&str; 5] = ["", "a", "table", "tablec", "destinations"];

fn binding() -> impl Strategy<Value = Binding> {
    let name = || select(&NAMES[..]);
    (name(), name(), name(), vec(any::<u8>(), 0..40)).prop_map(|(domain, table, column, record)| {
        Binding::new(table, column, record).in_domain(domain)
    })
}

fn vault(key: [u8; 32]) -> Vault {
    let id = KeyId::from_bytes([1; 8]);
    Vault::new(Keyring::single(id, &key.to_vec().into(), 0).unwrap())
}

fn rejected<T>(opened: &Result<T, OpenError>) -> bool {
    matches!(opened, Err(OpenError::Rejected))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// V1
    #[test]
    fn every_secret_comes_back(secret in vec(any::<u8>(), 0..3000), place in binding(), key: [u8; 32]) {
        let vault = vault(key);

        let sealed = vault.seal(&secret.clone().into(), &place)?;

        prop_assert_eq!(sealed.as_bytes().len(), secret.len() + 50);
        let opened = vault.open(&Sealed::parse(sealed.as_bytes())?, &place)?;
        prop_assert_eq!(opened.expose_secret(), secret);
    }

    /// V2
    #[test]
    fn no_secret_opens_in_another_place(here in binding(), there in binding(), key: [u8; 32]) {
        let vault = vault(key);

        let sealed = vault.seal_str(&SecretString::from("hunter2"), &here)?;

        prop_assert_eq!(rejected(&vault.open(&sealed, &there)), here != there);
    }

    /// V3
    #[test]
    fn no_altered_blob_opens(
        secret in vec(any::<u8>(), 0..300),
        place in binding(),
        key: [u8; 32],
        index: Index,
        change in 1..=u8::MAX,
    ) {
        let vault = vault(key);
        let mut bytes = vault.seal(&secret.into(), &place)?.into_bytes();
        let index = index.index(bytes.len());

        bytes[index] ^= change;

        prop_assert!(rejected(&vault.open_bytes(&bytes, &place)));
    }

    /// V3
    #[test]
    fn no_other_key_opens(one: [u8; 32], other: [u8; 32], place in binding()) {
        prop_assume!(one != other);
        let sealed = vault(one).seal_str(&SecretString::from("hunter2"), &place)?;

        prop_assert!(rejected(&vault(other).open(&sealed, &place)));
    }

    /// V3
    #[test]
    fn no_bytes_make_opening_panic(head in vec(any::<u8>(), 0..60), ours: bool, place in binding()) {
        let bytes = match ours {
            true => [&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1][..], &head].concat(),
            false => head,
        };

        prop_assert!(rejected(&vault([7; 32]).open_bytes(&bytes, &place)));
    }

    /// V5
    #[test]
    fn no_bytes_make_a_ring_panic(bytes in vec(any::<u8>(), 0..400), headed: bool) {
        let bytes = match headed {
            true => [b"ARKVRING\x01", &bytes[..]].concat(),
            false => bytes,
        };

        prop_assert!(WrappedRing::parse(&bytes).is_err());
    }

    /// V4, V8: whatever is printed, the secret is not in it.
    #[test]
    fn nothing_that_is_printed_shows_the_secret(secret in "[a-z]{12,40}", place in binding()) {
        let vault = vault([7; 32]);
        let text = SecretString::from(secret.as_str());
        let sealed = vault.seal_str(&text, &place)?;
        let opened = vault.open_str(&sealed, &place)?;
        let not_text = [secret.as_bytes(), &[0xff]].concat();
        let broken = vault.seal(&not_text.into(), &place)?;
        let error = vault.open_str(&broken, &place).unwrap_err();

        for printed in [
            format!("{text:?} {opened:?} {sealed:?} {vault:?} {place:?}"),
            format!("{error:?} {error}"),
        ] {
            prop_assert!(!printed.contains(&secret), "{}", printed);
        }
    }
}

/// One thing that can be done to a ring.
#[derive(Debug, Clone)]
enum Step {
    Seal(u8),
    Rotate,
    Disable(Index),
    Enable(Index),
    Remove(Index),
    ResealAll,
    Store,
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Seal),
        2 => Just(Step::Rotate),
        2 => any::<Index>().prop_map(Step::Disable),
        1 => any::<Index>().prop_map(Step::Enable),
        2 => any::<Index>().prop_map(Step::Remove),
        2 => Just(Step::ResealAll),
        2 => Just(Step::Store),
        1 => (0..2 * REMOVAL_DELAY_MILLIS).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// V7: whatever is done, and refused, a row never loses its key. It opens, unless its key is
    /// disabled, and then it opens as soon as the key is enabled.
    #[test]
    fn no_sequence_of_changes_loses_a_row(steps in vec(step(), 1..60)) {
        let guard = KeyEncryptionKey::from_bytes(&vec![7; 32].into())?;
        let mut ring = Keyring::generate(0)?;
        let mut rows: Vec<(u8, Sealed)> = Vec::new();
        let mut now = 0;
        let place = |row: u8| Binding::new("table", "column", [row]);

        for step in steps {
            let key = |index: Index| ring.keys()[index.index(ring.keys().len())].id;
            match step {
                Step::Seal(row) => {
                    let vault = Vault::new(ring.clone());
                    rows.push((row, vault.seal(&vec![row; 20].into(), &place(row))?));
                }
                Step::Rotate => {
                    let _full = ring.rotate(now);
                }
                Step::Disable(index) => {
                    let id = key(index);
                    let _primary = ring.disable(id, now);
                }
                Step::Enable(index) => {
                    let id = key(index);
                    ring.enable(id, now)?;
                }
                Step::Remove(index) => {
                    let id = key(index);
                    let mut census = Census::default();
                    census.extend(rows.iter().map(|(_, sealed)| sealed));
                    let removed = ring.remove(id, &census, now);
                    prop_assert!(removed.is_err() || census.sealed_by(id) == 0);
                }
                Step::ResealAll => {
                    let vault = Vault::new(ring.clone());
                    for (row, sealed) in &mut rows {
                        if let Ok(resealed) = vault.reseal(sealed, &place(*row)) {
                            *sealed = resealed;
                        }
                    }
                }
                Step::Store => {
                    let stored = WrappedRing::lock(&ring, &guard)?.to_bytes();
                    let read = WrappedRing::parse(&stored)?.unlock(&guard)?;
                    prop_assert_eq!(read.keys(), ring.keys());
                    ring = read;
                }
                Step::Wait(millis) => now += millis,
            }
            let primaries = ring.keys().iter().filter(|key| key.state == KeyState::Primary).count();
            prop_assert_eq!(primaries, 1);
        }

        for key in ring.keys() {
            ring.enable(key.id, now)?;
        }
        let vault = Vault::new(ring);
        for (row, sealed) in &rows {
            let opened = vault.open(sealed, &place(*row))?;
            prop_assert_eq!(opened.expose_secret(), vec![*row; 20]);
        }
    }
}
