//! Places where repositories lie.

use std::fmt;

use arkeep_core::repository::Location;
use arkeep_core::{DestinationId, StoreError, Timestamp};
use async_trait::async_trait;

use super::policies::RepositoryPasswords;
use super::{Listed, Page, SecretChange, WriteError};

/// Keeps destinations.
#[async_trait]
pub trait DestinationStore: fmt::Debug + Send + Sync {
    /// Adds a destination. Names are unique without regard to case of ASCII letters.
    async fn create(&self, new: &NewDestination) -> Result<Destination, WriteError>;

    /// The destination of this id.
    async fn find(&self, id: DestinationId) -> Result<Option<Destination>, StoreError>;

    /// Destinations, newest first.
    async fn list(&self, page: &Page) -> Result<Listed<Destination>, StoreError>;

    /// Changes a destination that is still of the version that the edit was made from.
    ///
    /// A new place must not bring repositories of different passwords together: refused as
    /// [`Refusal::OtherPassword`](super::Refusal::OtherPassword).
    async fn update(
        &self,
        edit: &DestinationEdit,
        passwords: &dyn RepositoryPasswords,
    ) -> Result<Destination, WriteError>;

    /// Removes a destination that no policy names, and to which no job was sent that is still open.
    async fn delete(&self, id: DestinationId, version: Option<u64>) -> Result<(), WriteError>;
}

/// A destination to be.
#[derive(Debug, Clone)]
pub struct NewDestination {
    /// Its id, to which the credentials are sealed.
    pub id: DestinationId,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// Sealed for [`sealed::destination_credentials`](super::sealed::destination_credentials).
    pub credentials: Option<Vec<u8>>,
    /// Whether jobs may use it.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its id.
    pub id: DestinationId,
    /// Grows by one with each change.
    pub version: u64,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// What opens it, sealed.
    pub credentials: Option<Vec<u8>>,
    /// When the credentials were last set or cleared.
    pub credentials_updated_at: Option<Timestamp>,
    /// Whether jobs may use it.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a destination is to become.
#[derive(Debug, Clone)]
pub struct DestinationEdit {
    /// Which one.
    pub id: DestinationId,
    /// The version that was read.
    pub version: u64,
    /// Its name from now on.
    pub name: String,
    /// Its place from now on.
    pub location: Location,
    /// What becomes of the credentials.
    pub credentials: SecretChange,
    /// Whether jobs may use it from now on.
    pub enabled: bool,
    /// When it changes.
    pub at: Timestamp,
}
