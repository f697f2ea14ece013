//! Long lists, a page at a time.
//!
//! A page begins after a record, not after a count, so that it costs the same at the first and at
//! the millionth record and does not shift when something is added in front of it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    limit: u32,
    after: Option<Cursor>,
}

impl Page {
    /// The most records that one page holds.
    pub const MAX_LIMIT: u32 = 200;

    /// The first `limit` records; none when `limit` is not between 1 and [`Self::MAX_LIMIT`].
    #[must_use]
    pub fn first(limit: u32) -> Option<Self> {
        (1..=Self::MAX_LIMIT)
            .contains(&limit)
            .then_some(Self { limit, after: None })
    }

    /// The page that begins after `cursor`.
    #[must_use]
    pub fn after(self, cursor: Cursor) -> Self {
        Self {
            after: Some(cursor),
            ..self
        }
    }

    /// How many records are wanted at most.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The record after which the page begins.
    #[must_use]
    pub const fn cursor(&self) -> Option<Cursor> {
        self.after
    }
}

/// Fifty records from the start.
impl Default for Page {
    fn default() -> Self {
        Self {
            limit: 50,
            after: None,
        }
    }
}

/// Where a page ended. To the world it is a text without meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(Uuid);

impl Cursor {
    /// The place just after the record of this id.
    #[must_use]
    pub const fn at(id: Uuid) -> Self {
        Self(id)
    }

    /// The id of the record before it.
    #[must_use]
    pub const fn id(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ParseCursorError)?;
        Uuid::from_slice(&bytes)
            .map(Self)
            .map_err(|_| ParseCursorError)
    }
}

/// The text is no cursor that this server gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this server")]
pub struct ParseCursorError;

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The records, newest first.
    pub items: Vec<T>,
    /// Where the next page begins; none when this was the last.
    pub next: Option<Cursor>,
}

impl<T> Listed<T> {
    /// Makes a page of what a query for one record more than `page` wants has found.
    #[must_use]
    pub fn cut(mut found: Vec<T>, page: &Page, id: impl Fn(&T) -> Uuid) -> Self {
        let limit = page.limit as usize;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| Cursor(id(last)));
        Self { items: found, next }
    }

    /// Translates each record.
    #[must_use]
    pub fn map<U>(self, translate: impl FnMut(T) -> U) -> Listed<U> {
        Listed {
            items: self.items.into_iter().map(translate).collect(),
            next: self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let cursor = Cursor::at(Uuid::from_u128(7));

        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn another_text_is_no_cursor() {
        for text in [
            "",
            "AAAA",
            "not base64!",
            "00000000-0000-0000-0000-000000000007",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(ParseCursorError), "{text}");
        }
    }

    #[test]
    fn a_page_has_one_to_two_hundred_records() {
        assert_eq!(Page::first(0), None);
        assert!(Page::first(1).is_some());
        assert!(Page::first(200).is_some());
        assert_eq!(Page::first(201), None);
    }

    #[test]
    fn the_last_page_has_no_next() {
        let ids: Vec<_> = (1..=3).map(Uuid::from_u128).collect();
        let (Some(two), Some(three)) = (Page::first(2), Page::first(3)) else {
            panic!("both are in range");
        };

        let cut = Listed::cut(ids.clone(), &two, |id| *id);
        assert_eq!(cut.items.len(), 2);
        assert_eq!(cut.next, Some(Cursor::at(Uuid::from_u128(2))));

        assert_eq!(Listed::cut(ids, &three, |id| *id).next, None);
    }
}
