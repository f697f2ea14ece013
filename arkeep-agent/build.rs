//! Builds a restic in, for the feature `bundled-restic`.
//!
//! `ARKEEP_BUNDLED_RESTIC` names the program and `ARKEEP_BUNDLED_RESTIC_SHA256` pins it. A file
//! that has another hash ends the build. With neither, nothing is built in.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo talks to a build script through its environment"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={FILE}");
    println!("cargo::rerun-if-env-changed={PIN}");
    if env::var_os("CARGO_FEATURE_BUNDLED_RESTIC").is_none() {
        return Ok(());
    }
    let generated = match (env::var_os(FILE), env::var(PIN).ok()) {
        (Some(file), Some(pin)) => built_in(&PathBuf::from(file), &pin)?,
        (None, None) => "None".to_owned(),
        _ => return Err(format!("{FILE} and {PIN} go together").into()),
    };
    let out = env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?;
    fs::write(PathBuf::from(out).join("bundled.rs"), generated)?;
    Ok(())
}

/// The expression for the program and its hash, once the file is what was pinned.
fn built_in(file: &Path, pin: &str) -> Result<String, Box<dyn Error>> {
    let file = file
        .canonicalize()
        .map_err(|error| format!("{FILE}: {}: {error}", file.display()))?;
    println!("cargo::rerun-if-changed={}", file.display());
    let content = fs::read(&file)?;
    let digest = Sha256::digest(&content);
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    if !hash.eq_ignore_ascii_case(pin.trim()) {
        return Err(format!(
            "{} has the SHA-256 {hash}, and {PIN} says {pin}",
            file.display()
        )
        .into());
    }
    // A copy, so that what is built in is what was hashed.
    let out = env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?;
    let copy = PathBuf::from(out).join("bundled-restic");
    fs::write(&copy, content)?;
    let bytes: Vec<String> = digest.iter().map(ToString::to_string).collect();
    Ok(format!(
        "Some((include_bytes!({copy:?}), [{}]))",
        bytes.join(", ")
    ))
}

const FILE: &str = "ARKEEP_BUNDLED_RESTIC";
const PIN: &str = "ARKEEP_BUNDLED_RESTIC_SHA256";
