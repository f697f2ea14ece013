//! What stays in memory of a secret that was sealed and dropped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::Child;

use arkeep_vault::{Binding, KeyEncryptionKey, Keyring, Sealer, Vault, WrappedRing, read_secret};

use crate::{TestResult, process};

type Error = Box<dyn std::error::Error>;

/// Not a test of its own: a process that reads a secret from a pipe, seals it, opens it, drops it,
/// and waits to be looked at.
#[test]
fn part() -> TestResult {
    let Some(task) = process::task() else {
        return Ok(());
    };
    // Not `io::stdin()`, which has a buffer of its own that nothing wipes.
    let mut input = File::open("/dev/stdin")?;
    let guard = KeyEncryptionKey::from_bytes(&read_secret(&mut (&mut input).take(32), 32)?)?;
    let ring = Keyring::generate(0)?;
    let locked = WrappedRing::lock(&ring, &guard)?;
    let vault = Vault::new(locked.unlock(&guard)?);
    let place = Binding::new("table", "column", "record");
    let secret = read_secret(&mut input, 1024)?;
    let sealed = vault.seal(&secret, &place)?;
    drop(vault.open(&sealed, &place)?);
    if task == "drop" {
        drop(secret);
    } else {
        // Kept to the end, to show that the search would find it.
        SECRET.set(secret).map_err(|_| "set twice")?;
    }
    drop((guard, vault, ring));

    println!("sealed {}", sealed.key_id());
    std::thread::park();
    Ok(())
}

static SECRET: std::sync::OnceLock<arkeep_vault::SecretSlice<u8>> = std::sync::OnceLock::new();

/// How often `needle` is found in what the process can read and write.
fn occurrences(child: &Child, needle: &[u8]) -> Result<usize, Error> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", child.id()))?;
    let mut memory = File::open(format!("/proc/{}/mem", child.id()))?;
    let mut found = 0;
    for line in maps.lines() {
        let mut columns = line.split(' ');
        let (Some(range), Some(rights)) = (columns.next(), columns.next()) else {
            continue;
        };
        let special = line.ends_with("[vvar]") || line.ends_with("[vsyscall]");
        if !rights.starts_with('r') || special {
            continue;
        }
        let (from, to) = range.split_once('-').ok_or("a range without a dash")?;
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        memory.seek(SeekFrom::Start(from))?;
        let mut content = vec![0; usize::try_from(to - from)?];
        // A part of the kernel's own pages cannot be read, and holds nothing of ours.
        if memory.read_exact(&mut content).is_ok() {
            found += content
                .windows(needle.len())
                .filter(|window| *window == needle)
                .count();
        }
    }
    Ok(found)
}

/// Starts the part, gives it a key and the secret, and waits until both are dropped.
fn sealed(task: &str, key: &[u8; 32], secret: &[u8]) -> Result<Child, Error> {
    let mut child = process::start("canary::part", task)?;
    let mut input = child.stdin.take().ok_or("no standard input")?;
    input.write_all(key)?;
    input.write_all(secret)?;
    drop(input);
    let mut output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
    let mut line = String::new();
    while !line.contains("sealed") {
        line.clear();
        if output.read_line(&mut line)? == 0 {
            return Err("the part ended early".into());
        }
    }
    Ok(child)
}

/// How often the secret, and the key that guards the ring, are found: the second half of each, since
/// a piece that was kept is enough.
fn look(task: &str) -> Result<(usize, usize), Error> {
    // Random, because a constant would be found in the program itself.
    let (mut key, mut secret) = ([0; 32], [0; 64]);
    getrandom::fill(&mut key)?;
    getrandom::fill(&mut secret)?;

    let mut child = sealed(task, &key, &secret)?;
    let found = occurrences(&child, &secret[32..]);
    let keys = occurrences(&child, &key[16..]);
    child.kill()?;
    child.wait()?;

    Ok((found?, keys?))
}

/// V4, V8
#[test]
fn nothing_of_a_dropped_secret_stays_in_memory() -> TestResult {
    assert_eq!(look("drop")?, (0, 0));
    Ok(())
}

/// V4: the search finds a secret that is still there.
#[test]
fn a_secret_that_is_kept_is_found() -> TestResult {
    let (found, keys) = look("keep")?;

    assert_eq!((found, keys), (1, 0));
    Ok(())
}
