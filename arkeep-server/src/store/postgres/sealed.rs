use arkeep_core::StoreError;
use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};

use super::PostgresStore;
use super::columns::{Columns as _, corrupt, failed};
use crate::store::sealed::{RowId, SealedColumn, SealedValue, SealedValues};

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
        after: Option<&RowId>,
        limit: u32,
    ) -> Result<Vec<SealedValue>, StoreError> {
        let mut query = select(column);
        if let Some(after) = after {
            query.push(" AND id > ").push_bind(text(after)?);
        }
        query
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
            .push(" WHERE id = ")
            .push_bind(text(id)?)
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

/// What asks for the secrets of a column, and ends where a condition may follow.
pub(super) fn select(column: SealedColumn) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("SELECT id, ");
    query
        .push(column.column())
        .push(" AS sealed FROM ")
        .push(column.table())
        .push(" WHERE ")
        .push(column.column())
        .push(" IS NOT NULL");
    query
}

/// Every text that PostgreSQL keeps is one.
fn text(id: &RowId) -> Result<&str, StoreError> {
    id.as_text().ok_or_else(|| corrupt("id"))
}

pub(super) fn value(row: &PgRow) -> Result<SealedValue, StoreError> {
    Ok(SealedValue {
        id: row.text("id")?.into(),
        sealed: row.blob("sealed")?,
    })
}
