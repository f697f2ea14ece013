//! The token that sets the server up, on its way to the operator.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use arkeep_auth::SetupToken;
use arkeep_core::{Entropy, StoreError};

use crate::store::InstanceStore;

/// The setup token cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The database does not answer. Worth a retry.
    #[error("the setup token cannot be stored")]
    Store(#[from] StoreError),

    /// The file cannot be written.
    #[error("the setup token cannot be written to its file")]
    File(#[from] io::Error),
}

/// Offers a new token unless the server is set up, and writes it to `file`: the token and nothing
/// else. Whatever was offered before is worth nothing any more.
pub(crate) async fn offer(
    instance: &dyn InstanceStore,
    entropy: &dyn Entropy,
    file: &Path,
) -> Result<Option<SetupToken>, OfferError> {
    let token = SetupToken::generate(entropy);
    if !instance.offer_setup(token.digest().as_bytes()).await? {
        return Ok(None);
    }
    // Made anew, so that an older file's mode or a link in its place does not matter.
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    made.write_all(token.expose().as_bytes())?;
    made.sync_all()?;
    Ok(Some(token))
}
