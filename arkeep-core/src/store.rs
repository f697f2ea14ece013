use std::error::Error;

/// A store could not answer.
///
/// It never means "not there": absence is a value, and a caller that cannot reach the truth must
/// refuse, not guess.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached or is overloaded. Worth a retry.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),

    /// What the store holds cannot be understood: a bug, or another program wrote there.
    #[error("the store holds something that cannot be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Wraps the error of a database driver or a disk.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(source.into())
    }
}
