//! Sealed secrets, wherever they are kept.
//!
//! A blob opens only with the binding it was sealed for. The columns below are the one place that
//! spells the bindings, so that who seals and who opens cannot disagree; and [`COLUMNS`] is the one
//! list of them, so that whoever must see every secret (to verify it, to seal it again under a
//! new key, to count what a key is needed for) forgets none.
//!
//! Whoever adds a column marks it `-- sealed` in the schema and adds it here. A test compares the
//! two.

use std::{fmt, slice, vec};

use arkeep_auth::OidcProviderId;
use arkeep_core::{ChannelId, DestinationId, PolicyId, StoreError, UserId};
use arkeep_vault::Binding;
use async_trait::async_trait;

/// A column that holds sealed secrets. The key of its table is called `id` and is a text, or what
/// somebody who damaged the table left of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SealedColumn {
    table: &'static str,
    column: &'static str,
}

impl SealedColumn {
    // Not public: the names go into SQL as they are.
    const fn new(table: &'static str, column: &'static str) -> Self {
        Self { table, column }
    }

    /// The table.
    #[must_use]
    pub const fn table(self) -> &'static str {
        self.table
    }

    /// The column.
    #[must_use]
    pub const fn column(self) -> &'static str {
        self.column
    }

    /// What ties a secret to its row.
    #[must_use]
    pub fn binding(self, id: impl AsRef<[u8]>) -> Binding {
        Binding::new(self.table, self.column, id)
    }
}

impl fmt::Display for SealedColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// The private keys of the authorities.
pub const AUTHORITY_PRIVATE_KEY: SealedColumn = SealedColumn::new("ca", "private_key");
/// What opens channels, or proves to them that we are we.
pub const CHANNEL_SECRET: SealedColumn = SealedColumn::new("channels", "secret");
/// What opens the storage of destinations.
pub const DESTINATION_CREDENTIALS: SealedColumn = SealedColumn::new("destinations", "credentials");
/// What opens the token endpoints of identity providers.
pub const OIDC_CLIENT_SECRET: SealedColumn = SealedColumn::new("oidc_providers", "client_secret");
/// The passwords of repositories.
pub const POLICY_REPOSITORY_PASSWORD: SealedColumn =
    SealedColumn::new("policies", "repository_password");
/// What authenticators share with the server.
pub const SECOND_FACTOR_SECRET: SealedColumn = SealedColumn::new("second_factors", "secret");
/// The keys of access tokens.
pub const TOKEN_KEY_PRIVATE_KEY: SealedColumn = SealedColumn::new("token_keys", "private_key");

/// Every column that holds sealed secrets.
pub const COLUMNS: &[SealedColumn] = &[
    AUTHORITY_PRIVATE_KEY,
    CHANNEL_SECRET,
    DESTINATION_CREDENTIALS,
    OIDC_CLIENT_SECRET,
    POLICY_REPOSITORY_PASSWORD,
    SECOND_FACTOR_SECRET,
    TOKEN_KEY_PRIVATE_KEY,
];

/// `channels.secret` of this row.
#[must_use]
pub fn channel_secret(id: ChannelId) -> Binding {
    CHANNEL_SECRET.binding(id.to_string())
}

/// `destinations.credentials` of this row.
#[must_use]
pub fn destination_credentials(id: DestinationId) -> Binding {
    DESTINATION_CREDENTIALS.binding(id.to_string())
}

/// `policies.repository_password` of this row.
#[must_use]
pub fn policy_repository_password(id: PolicyId) -> Binding {
    POLICY_REPOSITORY_PASSWORD.binding(id.to_string())
}

/// `ca.private_key` of this row.
#[must_use]
pub fn authority_private_key(id: &str) -> Binding {
    AUTHORITY_PRIVATE_KEY.binding(id)
}

/// `token_keys.private_key` of this row.
#[must_use]
pub fn token_key_private_key(id: &str) -> Binding {
    TOKEN_KEY_PRIVATE_KEY.binding(id)
}

/// `second_factors.secret` of this user.
#[must_use]
pub fn second_factor_secret(user: UserId) -> Binding {
    SECOND_FACTOR_SECRET.binding(user.to_string())
}

/// `oidc_providers.client_secret` of this row.
#[must_use]
pub fn oidc_client_secret(id: OidcProviderId) -> Binding {
    OIDC_CLIENT_SECRET.binding(id.to_string())
}

/// Walks sealed secrets as what they are, bytes under an id, and puts others in their place.
///
/// The stores of this crate implement it for their own tables. What the bytes mean is none of its
/// business: they are opened and sealed by whoever calls.
///
/// # Security
///
/// [`replace`](Self::replace) must compare and write in one step. A secret that its owner changed
/// in between must not be put back.
///
/// # Cost
///
/// A walk reads each row once, by the key of its table, and holds no lock from one call to the
/// next. `replace` writes one row.
#[async_trait]
pub trait SealedValues: fmt::Debug + Send + Sync {
    /// How many secrets the column holds.
    async fn count(&self, column: SealedColumn) -> Result<u64, StoreError>;

    /// The first secrets of the column, or those whose ids come after `after`, in the order of their
    /// ids; at most `limit`. Rows without a secret are passed over, and no other is, whatever its id.
    /// The order is any that the store keeps to.
    async fn page(
        &self,
        column: SealedColumn,
        after: Option<&RowId>,
        limit: u32,
    ) -> Result<Vec<SealedValue>, StoreError>;

    /// Writes `new` to the row if it still holds `old`, and says whether it did. Nothing else of
    /// the row changes, its version neither: whoever edits it at the same time need not know.
    async fn replace(
        &self,
        column: SealedColumn,
        id: &RowId,
        old: &[u8],
        new: &[u8],
    ) -> Result<bool, StoreError>;
}

/// A sealed secret where it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// The key of its row.
    pub id: RowId,
    /// The blob, as it was stored.
    pub sealed: Vec<u8>,
}

/// The key of a row, as it was stored.
///
/// It is the text of an id in every row that this program wrote. A damaged table may hold anything,
/// and a secret in such a row must be named like the others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(Vec<u8>);

impl RowId {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }
}

impl From<Vec<u8>> for RowId {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<String> for RowId {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for RowId {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_owned())
    }
}

impl AsRef<[u8]> for RowId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// On one line, whatever it holds: whoever writes to the database writes no lines of our reports.
impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_text() {
            Some("") => f.write_str("\"\""),
            Some(text) => text.escape_debug().fmt(f),
            None => self.0.escape_ascii().fmt(f),
        }
    }
}

impl fmt::Debug for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowId({self})")
    }
}

/// Every sealed secret there is, one after the other: each column of [`COLUMNS`] from its first id
/// to its last.
///
/// What is added or removed behind the walk while it goes on, it does not see.
#[derive(Debug)]
pub struct Walk<'a> {
    values: &'a dyn SealedValues,
    columns: slice::Iter<'static, SealedColumn>,
    column: Option<SealedColumn>,
    page: vec::IntoIter<SealedValue>,
    after: Option<RowId>,
}

impl<'a> Walk<'a> {
    /// A walk that begins at the beginning.
    #[must_use]
    pub fn over(values: &'a dyn SealedValues) -> Self {
        let mut columns = COLUMNS.iter();
        Self {
            values,
            column: columns.next().copied(),
            columns,
            page: Vec::new().into_iter(),
            after: None,
        }
    }

    /// The next one.
    ///
    /// # Errors
    ///
    /// When the store does not answer. The walk can be taken up again from there.
    pub async fn next(&mut self) -> Result<Option<(SealedColumn, SealedValue)>, StoreError> {
        while let Some(column) = self.column {
            if let Some(value) = self.page.next() {
                self.after = Some(value.id.clone());
                return Ok(Some((column, value)));
            }
            let page = self.values.page(column, self.after.as_ref(), STRIDE);
            let page = page.await?;
            if page.is_empty() {
                self.column = self.columns.next().copied();
                self.after = None;
            }
            self.page = page.into_iter();
        }
        Ok(None)
    }
}

/// How many secrets a walk reads at a time.
const STRIDE: u32 = 100;
