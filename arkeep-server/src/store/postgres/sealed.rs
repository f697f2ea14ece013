use arkeep_core::StoreError;
use async_trait::async_trait;
use sqlx::QueryBuilder;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::columns::{Columns as _, failed};
use crate::store::sealed::{SealedColumn, SealedValue, SealedValues};

#[async_trait]
impl SealedValues for PostgresStore {
    async fn count(&self, column: SealedColumn) -> Result<u64, StoreError> {
        QueryBuilder::new("SELECT count(")
            .push(column.column())
            .push(") AS held FROM ")
            .push(column.table())
            .build()
            .fetch_one(&self.pool)
            .await
            .map_err(failed)?
            .count("held")
    }

    async fn page(
        &self,
        column: SealedColumn,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<SealedValue>, StoreError> {
        QueryBuilder::new("SELECT id, ")
            .push(column.column())
            .push(" AS sealed FROM ")
            .push(column.table())
            .push(" WHERE ")
            .push(column.column())
            .push(" IS NOT NULL AND id > ")
            // No id is empty.
            .push_bind(after.unwrap_or_default())
            .push(" ORDER BY id LIMIT ")
            .push_bind(i64::from(limit))
            .build()
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?
            .iter()
            .map(value)
            .collect()
    }

    async fn replace(
        &self,
        column: SealedColumn,
        id: &str,
        old: &[u8],
        new: &[u8],
    ) -> Result<bool, StoreError> {
        let replaced = QueryBuilder::new("UPDATE ")
            .push(column.table())
            .push(" SET ")
            .push(column.column())
            .push(" = ")
            .push_bind(new)
            .push(" WHERE id = ")
            .push_bind(id)
            .push(" AND ")
            .push(column.column())
            .push(" = ")
            .push_bind(old)
            .build()
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(replaced.rows_affected() == 1)
    }
}

pub(super) fn value(row: &PgRow) -> Result<SealedValue, StoreError> {
    Ok(SealedValue {
        id: row.text("id")?,
        sealed: row.blob("sealed")?,
    })
}
