use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::role::Role;

/// What an API token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Reads.
    Read,
    /// Runs and cancels jobs.
    Run,
    /// Browses snapshots and restores.
    Restore,
    /// Edits policies.
    Policies,
    /// Everything that its owner may do without a step-up.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 5] = [
        Self::Read,
        Self::Run,
        Self::Restore,
        Self::Policies,
        Self::Admin,
    ];

    /// The name, as in a request and in a database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Restore => "restore",
            Self::Policies => "policies",
            Self::Admin => "admin",
        }
    }

    /// The weakest role that may do all of it. A token has no more than the strongest of these.
    const fn ceiling(self) -> Role {
        match self {
            Self::Read => Role::Viewer,
            Self::Run | Self::Restore | Self::Policies => Role::Operator,
            Self::Admin => Role::Admin,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Run => 2,
            Self::Restore => 4,
            Self::Policies => 8,
            Self::Admin => 16,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a scope: read, run, restore, policies or admin")]
pub struct ParseScopeError;

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or(ParseScopeError)
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether the set permits what needs `scope`. `admin` permits everything; otherwise a scope
    /// permits itself, and every scope permits reading what it is about to change.
    #[must_use]
    pub const fn permit(self, scope: Scope) -> bool {
        let all = self.0 & Scope::Admin.bit() != 0;
        let reads = matches!(scope, Scope::Read) && self.0 != 0;
        all || reads || self.0 & scope.bit() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL
            .into_iter()
            .filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// The owner's role, cut down. `None` for the empty set, which may do nothing.
    pub(crate) fn cut(self, owner: Role) -> Option<Role> {
        let ceiling = self.iter().map(Scope::ceiling).max()?;
        Some(ceiling.min(owner))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Scope::as_str))
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names
            .iter()
            .map(|name| name.parse::<Scope>())
            .collect::<Result<Self, _>>()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scopes: &[Scope]) -> Scopes {
        scopes.iter().copied().collect()
    }

    /// A13
    #[test]
    fn a_scope_permits_itself_and_reading() {
        for one in Scope::ALL {
            for other in Scope::ALL {
                let permitted = set(&[one]).permit(other);
                let expected = one == other || one == Scope::Admin || other == Scope::Read;
                assert_eq!(permitted, expected, "{one} and {other}");
            }
            assert!(!Scopes::default().permit(one));
        }
    }

    /// A13
    #[test]
    fn the_owners_role_is_cut_down() {
        assert_eq!(set(&[Scope::Read]).cut(Role::Admin), Some(Role::Viewer));
        assert_eq!(set(&[Scope::Run]).cut(Role::Admin), Some(Role::Operator));
        assert_eq!(
            set(&[Scope::Restore]).cut(Role::Admin),
            Some(Role::Operator)
        );
        assert_eq!(
            set(&[Scope::Policies]).cut(Role::Viewer),
            Some(Role::Viewer)
        );
        assert_eq!(
            set(&[Scope::Admin]).cut(Role::Operator),
            Some(Role::Operator)
        );
        assert_eq!(
            set(&[Scope::Read, Scope::Admin]).cut(Role::Admin),
            Some(Role::Admin)
        );
        assert_eq!(Scopes::default().cut(Role::Admin), None);
    }

    #[test]
    fn is_a_list_of_names() -> Result<(), serde_json::Error> {
        let scopes: Scopes = serde_json::from_str(r#"["run","read","run"]"#)?;

        assert_eq!(scopes, set(&[Scope::Read, Scope::Run]));
        assert_eq!(serde_json::to_string(&scopes)?, r#"["read","run"]"#);
        for bad in [r#"["root"]"#, r#"["Read"]"#, r#""read""#, r#"[1]"#, "null"] {
            assert!(serde_json::from_str::<Scopes>(bad).is_err(), "{bad}");
        }
        Ok(())
    }
}
