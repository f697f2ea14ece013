//! Sequences of seal, open, rotate, reseal, disable, enable, remove and rekey by two processes that
//! share a ring, each of which may die in the middle of any write, before it took effect or after:
//! whatever was sealed before still opens.
#![no_main]

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use arkeep_vault::{
    Binding, Census, ExposeSecret, KeyEncryptionKey, KeyError, KeyId, OpenError,
    REMOVAL_DELAY_MILLIS, RingError, RingFile, RingPlace, Sealed, Sealer, Vault,
};
use libfuzzer_sys::fuzz_target;

/// Keeps a ring, and lets a writer die.
#[derive(Debug, Default)]
struct Place {
    kept: Mutex<Option<(u64, Vec<u8>)>>,
    fault: AtomicU8,
}

const BEFORE: u8 = 1;
const AFTER: u8 = 2;

impl RingPlace for Place {
    fn name(&self) -> String {
        "the place".to_owned()
    }

    fn generation(&self) -> io::Result<Option<u64>> {
        Ok(self.read()?.map(|(generation, _)| generation))
    }

    fn read(&self) -> io::Result<Option<(u64, Vec<u8>)>> {
        Ok(self.kept.lock().unwrap().clone())
    }

    fn replace(&self, expected: Option<u64>, ring: &[u8]) -> io::Result<Option<u64>> {
        let fault = self.fault.swap(0, Ordering::Relaxed);
        if fault == BEFORE {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut kept = self.kept.lock().unwrap();
        if kept.as_ref().map(|(generation, _)| *generation) != expected {
            return Ok(None);
        }
        let next = expected.unwrap_or_default() + 1;
        *kept = Some((next, ring.to_owned()));
        match fault {
            AFTER => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Ok(Some(next)),
        }
    }
}

struct World {
    place: Arc<Place>,
    /// The key that each process was started with.
    processes: [(u32, Arc<RingFile>); 2],
    /// The keys of which one opens the ring.
    guards: Vec<u32>,
    rows: Vec<(u8, Sealed)>,
    made: u32,
    now: i64,
}

impl World {
    fn new() -> Self {
        let place = Arc::new(Place::default());
        RingFile::create_in(Arc::clone(&place) as Arc<_>, guard(0), 0).unwrap();
        let start = || {
            let ring = RingFile::open_in(Arc::clone(&place) as Arc<_>, guard(0));
            (0, Arc::new(ring.unwrap()))
        };
        Self {
            processes: [start(), start()],
            place,
            guards: vec![0],
            rows: Vec::new(),
            made: 0,
            now: 0,
        }
    }

    /// As a program that starts does it, with whichever key the operator still has.
    fn start(&self) -> (u32, Arc<RingFile>) {
        for number in self.guards.iter().rev() {
            match RingFile::open_in(Arc::clone(&self.place) as Arc<_>, guard(*number)) {
                Ok(ring) => return (*number, Arc::new(ring)),
                Err(RingError::WrongKey { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("no key opens the ring");
    }

    fn step(&mut self, which: u8, argument: u8) {
        let process = usize::from(which & 1);
        let (number, ring) = self.processes[process].clone();
        let vault = Vault::shared(Arc::clone(&ring) as Arc<_>);
        let key = |argument: u8| -> KeyId {
            let keys = ring.keys();
            keys[usize::from(argument) % keys.len()].id
        };
        let done = match (which >> 1) % 11 {
            0 => match vault.seal(&vec![argument; 20].into(), &binding(argument)) {
                Ok(sealed) => {
                    self.rows.push((argument, sealed));
                    true
                }
                Err(_) => false,
            },
            1 if ring.keys().len() < 20 => ring.rotate(self.now).is_ok(),
            2 => {
                for (row, sealed) in &mut self.rows {
                    if let Ok(resealed) = vault.reseal(sealed, &binding(*row)) {
                        *sealed = resealed;
                    }
                }
                true
            }
            3 => ring.disable(key(argument), self.now).is_ok(),
            4 => ring.enable(key(argument), self.now).is_ok(),
            // What else shares the ring refreshes within the delay, as the documentation asks.
            5 => {
                for process in 0..2 {
                    if self.processes[process].1.refresh().is_err() {
                        self.processes[process] = self.start();
                    }
                }
                let mut census = Census::default();
                census.extend(self.rows.iter().map(|(_, sealed)| sealed));
                let ring = Arc::clone(&self.processes[process].1);
                let keys = ring.keys();
                let key = keys[usize::from(argument) % keys.len()].id;
                ring.remove(key, &census, self.now).is_ok()
            }
            6 => {
                self.made += 1;
                let new = self.made;
                // Whether or not the answer comes, both may open it.
                self.guards.push(new);
                ring.begin_rekey(guard(new).as_ref()).is_ok()
            }
            7 => {
                let newest = self.guards.last().copied().unwrap_or(number);
                let finished = ring.finish_rekey(guard(newest)).is_ok();
                if finished {
                    self.guards = vec![newest];
                    self.processes[process].0 = newest;
                }
                finished
            }
            8 => {
                self.place.fault.store(1 + argument % 2, Ordering::Relaxed);
                return;
            }
            9 => false,
            10 => {
                self.now += i64::from(argument) * REMOVAL_DELAY_MILLIS / 64;
                return;
            }
            _ => return,
        };
        // Whoever could not do it may have died of it.
        if !done {
            self.processes[process] = self.start();
        }
        self.all_open();
    }

    /// Every row opens in a program that starts now, unless its key was taken out of use.
    fn all_open(&self) {
        let (_, ring) = self.start();
        let vault = Vault::shared(ring);
        for (row, sealed) in &self.rows {
            match vault.open(sealed, &binding(*row)) {
                Ok(secret) => assert_eq!(secret.expose_secret(), vec![*row; 20]),
                Err(OpenError::Key(KeyError::Disabled { id })) => assert_eq!(id, sealed.key_id()),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

fn guard(number: u32) -> Arc<KeyEncryptionKey> {
    let mut bytes = vec![7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Arc::new(KeyEncryptionKey::from_bytes(&bytes.into()).unwrap())
}

fn binding(row: u8) -> Binding {
    Binding::new("table", "column", [row])
}

fuzz_target!(|steps: &[u8]| {
    let mut world = World::new();
    for step in steps.chunks_exact(2).take(64) {
        world.step(step[0], step[1]);
    }

    world.place.fault.store(0, Ordering::Relaxed);
    let (_, ring) = world.start();
    for key in ring.keys() {
        ring.enable(key.id, world.now).unwrap();
    }
    world.all_open();
});
