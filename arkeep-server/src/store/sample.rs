use super::sealed::{SealedColumn, SealedValue};

/// What a database holds, as far as it takes to tell whose it is.
#[derive(Debug, Default)]
pub struct Sample {
    /// A few sealed secrets of each column.
    pub values: Vec<(SealedColumn, SealedValue)>,
    /// Whether there are tables. A database without any is none of a server that has started.
    pub has_tables: bool,
}

/// How many secrets of each column are a few.
pub(super) const OF_EACH: u32 = 8;
