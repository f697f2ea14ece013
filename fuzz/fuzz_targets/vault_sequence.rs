//! Sequences of seal, open, rotate, reseal, disable, enable, remove, rekey and crash, by two
//! processes that share a ring file: no row is ever lost.
#![no_main]

use std::path::PathBuf;
use std::sync::Arc;

use arkeep_vault::{
    Binding, Census, ExposeSecret, KeyEncryptionKey, KeyError, KeyId, OpenError,
    REMOVAL_DELAY_MILLIS, RingFile, Sealed, Sealer, Vault,
};
use libfuzzer_sys::fuzz_target;

struct Data {
    directory: PathBuf,
    processes: [Arc<RingFile>; 2],
    rows: Vec<(u8, Sealed)>,
    now: i64,
}

impl Data {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("arkeep-fuzz-{}", std::process::id()));
        // What the last run left.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        let guard = KeyEncryptionKey::generate_file(directory.join("key")).unwrap();
        RingFile::create_new(directory.join("ring"), Arc::new(guard), 0).unwrap();
        Self {
            processes: [Self::start(&directory), Self::start(&directory)],
            directory,
            rows: Vec::new(),
            now: 0,
        }
    }

    fn start(directory: &std::path::Path) -> Arc<RingFile> {
        let guard = KeyEncryptionKey::from_file(directory.join("key")).unwrap();
        Arc::new(RingFile::open(directory.join("ring"), Arc::new(guard)).unwrap())
    }

    fn census(&self) -> Census {
        let mut census = Census::default();
        census.extend(self.rows.iter().map(|(_, sealed)| sealed));
        census
    }

    fn step(&mut self, which: u8, argument: u8) {
        let process = usize::from(which & 1);
        let ring = Arc::clone(&self.processes[process]);
        let vault = Vault::shared(ring.clone());
        let key = |argument: u8| -> KeyId {
            let keys = ring.keys();
            keys[usize::from(argument) % keys.len()].id
        };
        match (which >> 1) % 11 {
            0 => {
                let sealed = vault
                    .seal(&vec![argument; 20].into(), &place(argument))
                    .unwrap();
                self.rows.push((argument, sealed));
            }
            1 => self.open_all(&vault),
            2 if ring.keys().len() < 20 => drop(ring.rotate(self.now)),
            3 => {
                for (row, sealed) in &mut self.rows {
                    if let Ok(resealed) = vault.reseal(sealed, &place(*row)) {
                        *sealed = resealed;
                    }
                }
            }
            4 => drop(ring.disable(key(argument), self.now)),
            5 => drop(ring.enable(key(argument), self.now)),
            // What else shares the ring refreshes within the delay, as the documentation asks.
            6 => {
                for ring in &self.processes {
                    ring.refresh().unwrap();
                }
                drop(ring.remove(key(argument), &self.census(), self.now));
            }
            7 => ring.rekey_file(self.directory.join("key")).unwrap(),
            8 => {
                let other = KeyEncryptionKey::from_bytes(&vec![argument; 32].into()).unwrap();
                ring.begin_rekey(&other).unwrap();
            }
            9 => self.processes[process] = Self::start(&self.directory),
            10 => self.now += i64::from(argument) * REMOVAL_DELAY_MILLIS / 64,
            _ => {}
        }
    }

    fn open_all(&self, vault: &Vault) {
        for (row, sealed) in &self.rows {
            match vault.open(sealed, &place(*row)) {
                Ok(secret) => assert_eq!(secret.expose_secret(), vec![*row; 20]),
                Err(OpenError::Key(KeyError::Disabled { id })) => assert_eq!(id, sealed.key_id()),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn place(row: u8) -> Binding {
    Binding::new("table", "column", [row])
}

fuzz_target!(|steps: &[u8]| {
    let mut data = Data::new();
    for step in steps.chunks_exact(2).take(64) {
        data.step(step[0], step[1]);
    }

    let ring = Data::start(&data.directory);
    for key in ring.keys() {
        ring.enable(key.id, data.now).unwrap();
    }
    let vault = Vault::shared(ring);
    for (row, sealed) in &data.rows {
        let secret = vault.open(sealed, &place(*row)).unwrap();
        assert_eq!(secret.expose_secret(), vec![*row; 20]);
    }
});
