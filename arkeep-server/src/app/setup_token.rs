//! The token that sets the server up, on its way to the operator.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use arkeep_auth::SetupToken;
use arkeep_core::{Entropy, StoreError};

use crate::store::InstanceStore;
use crate::store::instance::SetupOffer;

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
    write(file, &token)?;
    Ok(Some(token))
}

/// The same for one of several replicas. One token sets all of them up: that of the first, which
/// offers it again when it starts again. The others have none to show.
pub(crate) async fn offer_among_replicas(
    instance: &dyn InstanceStore,
    entropy: &dyn Entropy,
    file: &Path,
) -> Result<Option<SetupToken>, OfferError> {
    let kept = fs::read_to_string(file).ok();
    let token = match kept.as_deref().and_then(SetupToken::parse) {
        Some(token) => token,
        None => {
            let token = SetupToken::generate(entropy);
            // Before it is offered: killed in between, it is offered at the next start. The other
            // way round nobody would know it.
            write(file, &token)?;
            token
        }
    };
    let digest = token.digest();
    match instance.offer_setup_once(digest.as_bytes()).await? {
        SetupOffer::Offered => return Ok(Some(token)),
        SetupOffer::OfferedByAnother => tracing::info!(
            "the setup token was made by another server on this database, and is in its data \
             directory; if that is lost, `arkeep-server user create --role admin` sets it up"
        ),
        SetupOffer::SetUp => {}
    }
    remove(file)?;
    Ok(None)
}

/// Removes a token that was used at another replica.
pub(crate) async fn tidy(instance: &dyn InstanceStore, file: &Path) -> Result<(), OfferError> {
    if file.exists() && instance.set_up_at().await?.is_some() {
        remove(file)?;
    }
    Ok(())
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(file: &Path, token: &SetupToken) -> io::Result<()> {
    // Made anew, so that an older file's mode or a link in its place does not matter.
    remove(file)?;
    let mut made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    made.write_all(token.expose().as_bytes())?;
    made.sync_all()
}
