use arkeep_core::StoreError;
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use super::SqliteStore;
use super::columns::{Columns as _, failed};
use crate::store::sealed::{RowId, SealedColumn, SealedValue, SealedValues};

#[async_trait]
impl SealedValues for SqliteStore {
    async fn count(&self, column: SealedColumn) -> Result<u64, StoreError> {
        QueryBuilder::new("SELECT count(")
            .push(column.column())
            .push(") AS held FROM ")
            .push(column.table())
            .build()
            .fetch_one(&self.reader)
            .await
            .map_err(failed)?
            .count("held")
    }

    async fn page(
        &self,
        column: SealedColumn,
        after: Option<&RowId>,
        limit: u32,
    ) -> Result<Vec<SealedValue>, StoreError> {
        let mut query = select(column);
        if let Some(after) = after {
            // Compared as the bytes that they are, text or not, and found by the index.
            query
                .push(" AND id > CAST(")
                .push_bind(after.as_ref())
                .push(" AS TEXT)");
        }
        query
            .push(" ORDER BY id LIMIT ")
            .push_bind(i64::from(limit))
            .build()
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?
            .iter()
            .map(value)
            .collect()
    }

    async fn replace(
        &self,
        column: SealedColumn,
        id: &RowId,
        old: &[u8],
        new: &[u8],
    ) -> Result<bool, StoreError> {
        let replaced = QueryBuilder::new("UPDATE ")
            .push(column.table())
            .push(" SET ")
            .push(column.column())
            .push(" = ")
            .push_bind(new)
            .push(" WHERE id = CAST(")
            .push_bind(id.as_ref())
            .push(" AS TEXT) AND ")
            .push(column.column())
            .push(" = ")
            .push_bind(old)
            .build()
            .execute(&self.writer)
            .await
            .map_err(failed)?;
        Ok(replaced.rows_affected() == 1)
    }
}

/// What asks for the secrets of a column, and ends where a condition may follow.
pub(super) fn select(column: SealedColumn) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT CAST(id AS BLOB) AS id, ");
    query
        .push(column.column())
        .push(" AS sealed FROM ")
        .push(column.table())
        .push(" WHERE ")
        .push(column.column())
        .push(" IS NOT NULL");
    query
}

pub(super) fn value(row: &SqliteRow) -> Result<SealedValue, StoreError> {
    Ok(SealedValue {
        id: row.blob("id")?.into(),
        sealed: row.blob("sealed")?,
    })
}
