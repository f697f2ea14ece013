use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::role::Role;

/// Which role each of a provider's groups gives. `*` stands for everybody whom the provider knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleMap(BTreeMap<String, Role>);

impl RoleMap {
    /// The groups and their roles.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Role)> {
        self.0.iter().map(|(group, role)| (group.as_str(), *role))
    }

    /// The strongest role of who has these claims. None when no group of theirs has a role.
    pub(super) fn role(&self, claim: Option<&str>, claims: &Map<String, Value>) -> Option<Role> {
        let groups = claim.map(|name| groups(name, claims)).unwrap_or_default();
        let of_groups = groups.iter().filter_map(|group| match *group {
            // A group of this name is no wildcard.
            EVERYBODY => None,
            group => self.0.get(group),
        });
        of_groups.chain(self.0.get(EVERYBODY)).max().copied()
    }
}

impl FromIterator<(String, Role)> for RoleMap {
    fn from_iter<I: IntoIterator<Item = (String, Role)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// The words of a claim: a member of this name, or else a path of members with dots between them.
fn groups<'a>(name: &str, claims: &'a Map<String, Value>) -> Vec<&'a str> {
    let mut path = name.split('.');
    let found = claims.get(name).or_else(|| {
        let first = claims.get(path.next()?)?;
        path.try_fold(first, |value, member| value.get(member))
    });
    match found {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

const EVERYBODY: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    fn role(claim: Option<&str>, claims: &str) -> Option<Role> {
        let map = [
            ("ops".to_owned(), Role::Operator),
            ("root".to_owned(), Role::Admin),
        ];
        let map: RoleMap = map.into_iter().collect();
        let claims = serde_json::from_str(claims).unwrap();
        map.role(claim, &claims)
    }

    /// A10
    #[test]
    fn the_strongest_group_decides() {
        for (claims, expected) in [
            (r#"{"groups":["ops","root","x"]}"#, Some(Role::Admin)),
            (r#"{"groups":["ops"]}"#, Some(Role::Operator)),
            (r#"{"groups":"ops"}"#, Some(Role::Operator)),
            (r#"{"groups":["Ops"," ops","*"]}"#, None),
            (r#"{"groups":{"ops":true}}"#, None),
            (r#"{"groups":[["ops"]]}"#, None),
            (r#"{"roles":["ops"]}"#, None),
            ("{}", None),
        ] {
            assert_eq!(role(Some("groups"), claims), expected, "{claims}");
        }
        assert_eq!(role(None, r#"{"groups":["root"]}"#), None);
    }

    #[test]
    fn a_claim_may_lie_deeper() {
        let deep = r#"{"realm_access":{"roles":["root"]}}"#;
        let flat = r#"{"realm_access.roles":["ops"],"realm_access":{"roles":["root"]}}"#;

        assert_eq!(role(Some("realm_access.roles"), deep), Some(Role::Admin));
        assert_eq!(role(Some("realm_access.roles"), flat), Some(Role::Operator));
        assert_eq!(role(Some("realm_access.x"), deep), None);
    }

    /// A10
    #[test]
    fn everybody_may_have_a_role() {
        let map: RoleMap = [
            ("*".to_owned(), Role::Viewer),
            ("ops".to_owned(), Role::Operator),
        ]
        .into_iter()
        .collect();
        let claims = |text: &str| serde_json::from_str(text).unwrap();

        assert_eq!(map.role(None, &claims("{}")), Some(Role::Viewer));
        let ops = claims(r#"{"g":["ops"]}"#);
        assert_eq!(map.role(Some("g"), &ops), Some(Role::Operator));
    }
}
