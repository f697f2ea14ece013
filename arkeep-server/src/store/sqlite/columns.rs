//! From rows to the words of the domain, and back.

use std::str::FromStr;

use arkeep_core::{StoreError, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::store::{Page, Refusal, WriteError};

/// Reads columns as the types that they were written from. What cannot be read is
/// [`StoreError::Corrupt`], naming the column and not its content.
pub(super) trait Columns {
    fn text(&self, column: &str) -> Result<String, StoreError>;
    fn text_if(&self, column: &str) -> Result<Option<String>, StoreError>;
    fn integer(&self, column: &str) -> Result<i64, StoreError>;
    fn integer_if(&self, column: &str) -> Result<Option<i64>, StoreError>;
    fn blob(&self, column: &str) -> Result<Vec<u8>, StoreError>;
    fn blob_if(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError>;

    fn count<T: TryFrom<i64>>(&self, column: &str) -> Result<T, StoreError> {
        T::try_from(self.integer(column)?).map_err(|_| corrupt(column))
    }

    fn flag(&self, column: &str) -> Result<bool, StoreError> {
        Ok(self.integer(column)? != 0)
    }

    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.integer(column).map(Timestamp::from_unix_millis)
    }

    fn time_if(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        let millis = self.integer_if(column)?;
        Ok(millis.map(Timestamp::from_unix_millis))
    }

    fn word<T: FromStr>(&self, column: &str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|_| corrupt(column))
    }

    fn word_if<T: FromStr>(&self, column: &str) -> Result<Option<T>, StoreError> {
        self.text_if(column)?
            .map(|text| text.parse().map_err(|_| corrupt(column)))
            .transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|_| corrupt(column))
    }

    fn json_if<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        self.text_if(column)?
            .map(|text| serde_json::from_str(&text).map_err(|_| corrupt(column)))
            .transpose()
    }
}

impl Columns for SqliteRow {
    fn text(&self, column: &str) -> Result<String, StoreError> {
        self.try_get(column).map_err(|_| corrupt(column))
    }

    fn text_if(&self, column: &str) -> Result<Option<String>, StoreError> {
        self.try_get(column).map_err(|_| corrupt(column))
    }

    fn integer(&self, column: &str) -> Result<i64, StoreError> {
        self.try_get(column).map_err(|_| corrupt(column))
    }

    fn integer_if(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.try_get(column).map_err(|_| corrupt(column))
    }

    fn blob(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        self.try_get(column).map_err(|_| corrupt(column))
    }

    fn blob_if(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.try_get(column).map_err(|_| corrupt(column))
    }
}

/// What a list query starts below: the cursor's id, or something above every id.
pub(super) fn below(page: &Page) -> String {
    page.cursor()
        .map_or_else(|| "g".to_owned(), |cursor| cursor.id().to_string())
}

/// One record more than the page holds, to see whether there is another page.
pub(super) fn one_more(page: &Page) -> i64 {
    i64::from(page.limit()) + 1
}

/// An unsigned number as SQLite keeps it. Numbers above its range, which no honest agent sends, are
/// kept as the largest it has.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::unavailable)
}

pub(super) fn corrupt(column: &str) -> StoreError {
    StoreError::Corrupt(format!("column {column}"))
}

pub(super) fn failed(error: sqlx::Error) -> StoreError {
    StoreError::unavailable(error)
}

/// Tells a broken uniqueness of `field` from a broken database.
pub(super) fn taken(field: &'static str) -> impl FnOnce(sqlx::Error) -> WriteError {
    move |error| match error.as_database_error() {
        Some(database) if database.is_unique_violation() => Refusal::Taken { field }.into(),
        _ => failed(error).into(),
    }
}

/// Tells a foreign key that points nowhere, or would be left so, from a broken database.
pub(super) fn bound(refusal: Refusal) -> impl FnOnce(sqlx::Error) -> WriteError {
    move |error| match is_dangling(&error) {
        true => refusal.into(),
        false => failed(error).into(),
    }
}

/// Whether a foreign key points nowhere, or would be left so.
pub(super) fn is_dangling(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|database| database.is_foreign_key_violation())
}
