//! Our own implementations keep what the traits promise.

mod vault {
    use arkeep_vault::testing::MemoryKeys;
    use arkeep_vault::{Vault, sealer_conformance};

    sealer_conformance!(|| Vault::new(MemoryKeys::new().unwrap()));
}

mod keyring {
    use arkeep_vault::{Keyring, key_provider_conformance};

    key_provider_conformance!(|| Keyring::generate(0).unwrap());
}

mod memory_keys {
    use arkeep_vault::key_provider_conformance;
    use arkeep_vault::testing::MemoryKeys;
    use arkeep_vault::{Binding, KeyError, OpenError, SealError, Sealer, SecretString, Vault};

    use crate::TestResult;

    key_provider_conformance!(|| MemoryKeys::new().unwrap());

    #[test]
    fn vanish_and_come_back() -> TestResult {
        let keys = MemoryKeys::new()?;
        let vault = Vault::new(keys.clone());
        let place = Binding::new("table", "column", "record");
        let secret = SecretString::from("hunter2");
        let sealed = vault.seal_str(&secret, &place)?;

        keys.set_reachable(false);
        let opened = vault.open(&sealed, &place);
        let resealed = vault.seal_str(&secret, &place);
        keys.set_reachable(true);

        assert!(matches!(
            opened,
            Err(OpenError::Key(KeyError::Unavailable { .. }))
        ));
        assert!(matches!(
            resealed,
            Err(SealError::Key(KeyError::Unavailable { .. }))
        ));
        assert!(vault.open(&sealed, &place).is_ok());
        Ok(())
    }

    #[test]
    fn rotate_under_the_vault_that_uses_them() -> TestResult {
        let keys = MemoryKeys::new()?;
        let vault = Vault::new(keys.clone());
        let place = Binding::new("table", "column", "record");
        let old = keys.primary();

        let new = keys.change(|ring| ring.rotate(1))?;

        let sealed = vault.seal_str(&SecretString::from("hunter2"), &place)?;
        assert_eq!((sealed.key_id(), keys.primary()), (new, new));
        assert_ne!(old, new);
        Ok(())
    }
}

mod ring_file {
    use std::sync::Arc;

    use arkeep_vault::{
        DataKey, KeyEncryptionKey, KeyError, KeyId, KeyProvider, RingFile, key_provider_conformance,
    };

    /// A ring file that takes its directory with it.
    #[derive(Debug)]
    struct Alone {
        ring: RingFile,
        _directory: tempfile::TempDir,
    }

    impl KeyProvider for Alone {
        fn current(&self) -> Result<Arc<DataKey>, KeyError> {
            self.ring.current()
        }

        fn by_id(&self, id: KeyId) -> Result<Arc<DataKey>, KeyError> {
            self.ring.by_id(id)
        }
    }

    key_provider_conformance!(|| {
        let directory = tempfile::tempdir().unwrap();
        let guard = KeyEncryptionKey::from_bytes(&vec![1; 32].into()).unwrap();
        let path = directory.path().join("vault.ring");
        Alone {
            ring: RingFile::create_new(path, Arc::new(guard), 0).unwrap(),
            _directory: directory,
        }
    });
}

mod key_encryption_key {
    use std::cell::Cell;

    use arkeep_vault::{KeyEncryptionKey, key_wrapper_conformance};

    key_wrapper_conformance!({
        let next = Cell::new(0);
        move || {
            next.set(next.get() + 1);
            KeyEncryptionKey::from_bytes(&vec![next.get(); 32].into()).unwrap()
        }
    });
}

mod passphrase {
    use std::cell::Cell;

    use arkeep_vault::{KeyEncryptionKey, PassphraseCost, SecretString, key_wrapper_conformance};

    key_wrapper_conformance!({
        let next = Cell::new(0);
        move || {
            next.set(next.get() + 1);
            let text = SecretString::from(format!("open sesame {}", next.get()));
            let cost = PassphraseCost {
                memory_kib: 16,
                passes: 1,
                lanes: 1,
            };
            KeyEncryptionKey::from_passphrase(text, cost).unwrap()
        }
    });
}
