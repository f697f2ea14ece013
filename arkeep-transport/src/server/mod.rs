//! The port that agents dial.

mod ending;
pub(crate) mod handle;

use tonic::Status;

/// The one answer to whoever is not welcome. It says nothing of what exists, nor why.
pub(crate) fn refusal() -> Status {
    Status::unauthenticated("a valid agent certificate is required")
}
