//! Which column each sealed secret belongs to.
//!
//! A blob opens only with the binding it was sealed for. These functions are the one place that
//! spells the bindings, so that who seals and who opens cannot disagree.

use arkeep_core::{DestinationId, PolicyId, UserId};
use arkeep_vault::Binding;

/// Every column that holds sealed secrets, as table and column. Each table's key is `id`.
pub const COLUMNS: [(&str, &str); 5] = [
    ("ca", "private_key"),
    ("destinations", "credentials"),
    ("policies", "repository_password"),
    ("second_factors", "secret"),
    ("token_keys", "private_key"),
];

/// `destinations.credentials` of this row.
#[must_use]
pub fn destination_credentials(id: DestinationId) -> Binding {
    Binding::new("destinations", "credentials", id.to_string())
}

/// `policies.repository_password` of this row.
#[must_use]
pub fn policy_repository_password(id: PolicyId) -> Binding {
    Binding::new("policies", "repository_password", id.to_string())
}

/// `ca.private_key` of this row.
#[must_use]
pub fn authority_private_key(id: &str) -> Binding {
    Binding::new("ca", "private_key", id)
}

/// `token_keys.private_key` of this row.
#[must_use]
pub fn token_key_private_key(id: &str) -> Binding {
    Binding::new("token_keys", "private_key", id)
}

/// `second_factors.secret` of this user.
#[must_use]
pub fn second_factor_secret(user: UserId) -> Binding {
    Binding::new("second_factors", "secret", user.to_string())
}
