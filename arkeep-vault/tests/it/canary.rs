//! What stays in memory of a secret that was sealed and dropped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::Child;

use arkeep_vault::{
    Binding, KeyEncryptionKey, KeyId, Keyring, Sealer, Vault, WrappedRing, read_secret,
};

use crate::{TestResult, process};

type Error = Box<dyn std::error::Error>;

/// Not a test of its own: a process that reads keys and a secret from a pipe, seals it, opens it,
/// drops it all, and waits to be looked at.
#[test]
fn part() -> TestResult {
    let Some(task) = process::task() else {
        return Ok(());
    };
    // In a thread of its own, whose stack is kept for the next one: what it leaves there is not
    // overwritten by whatever this process does afterwards.
    let kept = task == "keep";
    let worker = std::thread::spawn(move || work(kept).map_err(|error| error.to_string()));
    worker.join().map_err(|_| "the worker panicked")??;

    println!("sealed");
    std::thread::park();
    Ok(())
}

fn work(kept: bool) -> TestResult {
    // Not `io::stdin()`, which has a buffer of its own that nothing wipes.
    let mut input = File::open("/dev/stdin")?;
    let guard = KeyEncryptionKey::from_bytes(&read_secret(&mut (&mut input).take(32), 32)?)?;
    let data_key = read_secret(&mut (&mut input).take(32), 32)?;
    let ring = Keyring::single(KeyId::from_bytes([1; 8]), &data_key, 0)?;
    let locked = WrappedRing::lock(&ring, &guard)?;
    let vault = Vault::new(locked.unlock(&guard)?);
    let place = Binding::new("table", "column", "record");
    let secret = read_secret(&mut input, 1024)?;
    let sealed = vault.seal(&secret, &place)?;
    vault.open(&sealed, &place)?;
    if kept {
        // To the end, to show that the search would find it.
        SECRET.set(secret).map_err(|_| "set twice")?;
    }
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

/// Starts the part, gives it what it reads, and waits until it has dropped it.
fn started(task: &str, input: &[&[u8]]) -> Result<Child, Error> {
    let mut child = process::start("canary::part", task)?;
    let mut pipe = child.stdin.take().ok_or("no standard input")?;
    pipe.write_all(&input.concat())?;
    drop(pipe);
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

/// How often the key that guards the ring, the data key and the secret are found: the second half
/// of each, since a piece that was kept is enough.
fn look(task: &str) -> Result<[usize; 3], Error> {
    // Random, because a constant would be found in the program itself.
    let (mut guard, mut data_key, mut secret) = ([0; 32], [0; 32], [0; 64]);
    getrandom::fill(&mut guard)?;
    getrandom::fill(&mut data_key)?;
    getrandom::fill(&mut secret)?;

    let mut child = started(task, &[&guard, &data_key, &secret])?;
    let found =
        [&guard[16..], &data_key[16..], &secret[32..]].map(|needle| occurrences(&child, needle));
    child.kill()?;
    child.wait()?;

    let [guard, data_key, secret] = found;
    Ok([guard?, data_key?, secret?])
}

/// V4, V8
#[test]
fn nothing_of_dropped_secrets_and_keys_stays_in_memory() -> TestResult {
    assert_eq!(look("drop")?, [0, 0, 0]);
    Ok(())
}

/// V4: the search finds a secret that is still there.
#[test]
fn a_secret_that_is_kept_is_found() -> TestResult {
    assert_eq!(look("keep")?, [0, 0, 1]);
    Ok(())
}
