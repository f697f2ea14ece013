//! Policies made of policies.

use std::sync::Arc;

use crate::hook::HookSpec;
use crate::policy::{ApprovedHook, HookPolicy, Review};
use crate::refusal::{HookRefusal, Rule};

/// Runs what one of these policies lets through. They are asked in order, until one does.
///
/// With none it refuses everything. The refusal is that of the first.
///
/// ```
/// use std::sync::Arc;
/// use arkeep_hooks::{AllowList, AnyOf};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let signed = Arc::new(arkeep_hooks::Off);
/// let harmless = AllowList::new(vec![vec!["/usr/bin/sync".into()]])?;
/// let owner = AnyOf::new([Arc::new(harmless) as _, signed as _]);
/// # drop::<AnyOf>(owner);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct AnyOf(Vec<Arc<dyn HookPolicy>>);

/// Runs what every one of these policies lets through. They are asked in order, until one refuses.
///
/// With none it refuses everything. Put a policy that remembers, such as `Signed`, last: it then
/// remembers only what the others allow.
#[derive(Debug, Clone)]
pub struct AllOf(Vec<Arc<dyn HookPolicy>>);

impl AnyOf {
    /// One of these has to agree.
    pub fn new(policies: impl IntoIterator<Item = Arc<dyn HookPolicy>>) -> Self {
        Self(policies.into_iter().collect())
    }
}

impl AllOf {
    /// All of these have to agree.
    pub fn new(policies: impl IntoIterator<Item = Arc<dyn HookPolicy>>) -> Self {
        Self(policies.into_iter().collect())
    }
}

impl HookPolicy for AnyOf {
    fn review(&self, spec: &HookSpec, at: &Review<'_>) -> Result<ApprovedHook, HookRefusal> {
        let mut first = None;
        for policy in &self.0 {
            match policy.review(spec, at) {
                Ok(approved) => return Ok(approved),
                Err(refusal) => first = first.or(Some(refusal)),
            }
        }
        Err(first.unwrap_or_else(nobody))
    }
}

impl HookPolicy for AllOf {
    fn review(&self, spec: &HookSpec, at: &Review<'_>) -> Result<ApprovedHook, HookRefusal> {
        let mut agreed: Option<ApprovedHook> = None;
        for policy in &self.0 {
            let approved = policy.review(spec, at)?;
            // Each has to approve the same hook for the same place, or they agree on nothing.
            if agreed.is_some_and(|before| before != approved) {
                return Err(HookRefusal::by_policy(
                    "two policies of this agent approved different hooks; correct the program",
                ));
            }
            agreed = Some(approved);
        }
        agreed.ok_or_else(nobody)
    }
}

fn nobody() -> HookRefusal {
    HookRefusal::new(
        Rule::Policy,
        "this agent asks no policy, so nobody can allow a hook",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::{HookSet, Phase, RawHook};
    use crate::policy::{AllowList, Any, Off};

    fn spec(program: &str) -> HookSpec {
        HookSpec::check(RawHook {
            name: "hook".to_owned(),
            exec: Some(vec![program.to_owned()]),
            shell: None,
            timeout: 10,
            signature: None,
        })
        .unwrap()
    }

    fn list(program: &str) -> Arc<dyn HookPolicy> {
        Arc::new(AllowList::new(vec![vec![program.to_owned()]]).unwrap())
    }

    fn review(policy: &dyn HookPolicy, program: &str) -> Result<ApprovedHook, Rule> {
        let at = Review {
            agent: "a",
            policy: "p",
            phase: Phase::Before,
            hooks: &HookSet::default(),
            now_unix_millis: 0,
        };
        let reviewed = policy.review(&spec(program), &at);
        reviewed.map_err(|refusal| refusal.rule())
    }

    #[derive(Debug)]
    struct Another;

    impl HookPolicy for Another {
        fn review(&self, _: &HookSpec, at: &Review<'_>) -> Result<ApprovedHook, HookRefusal> {
            Any.review(&spec("/bin/another"), at)
        }
    }

    /// H6
    #[test]
    fn any_of_lets_through_what_one_allows() {
        let either = AnyOf::new([list("/bin/a"), Arc::new(Off) as _]);

        assert!(review(&either, "/bin/a").is_ok());
        assert_eq!(review(&either, "/bin/b"), Err(Rule::NotListed));
        assert!(review(&AnyOf::new([Arc::new(Off) as _, list("/bin/b")]), "/bin/b").is_ok());
    }

    /// H6
    #[test]
    fn all_of_lets_through_what_each_allows() {
        let both = AllOf::new([list("/bin/a"), Arc::new(Any) as _]);

        assert!(review(&both, "/bin/a").is_ok());
        assert_eq!(review(&both, "/bin/b"), Err(Rule::NotListed));
        assert_eq!(
            review(
                &AllOf::new([Arc::new(Any) as _, Arc::new(Off) as _]),
                "/bin/a"
            ),
            Err(Rule::Off)
        );
    }

    /// H6
    #[test]
    fn all_of_does_not_take_an_approval_of_something_else() {
        let both = AllOf::new([Arc::new(Any) as _, Arc::new(Another) as _]);

        assert_eq!(review(&both, "/bin/a"), Err(Rule::Policy));
    }

    /// H6
    #[test]
    fn nobody_allows_nothing() {
        assert_eq!(review(&AnyOf::new([]), "/bin/a"), Err(Rule::Policy));
        assert_eq!(review(&AllOf::new([]), "/bin/a"), Err(Rule::Policy));
    }
}
