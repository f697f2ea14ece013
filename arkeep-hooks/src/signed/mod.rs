//! Hooks that a person signed, away from the server.
//!
//! The private key is on no machine of the fleet. Its owner reads the hooks of a policy, signs the
//! whole list, and the server stores and relays the signature; it cannot make one. The agent
//! trusts the public keys in its own configuration.
//!
//! A signature speaks about one list, of one policy, on one agent, for a time, and under a sequence
//! number. What a lying server can still do is to send nothing, or the newest list that was signed.
//!
//! ```
//! use std::sync::Arc;
//! use arkeep_hooks::signed::{MemorySequences, Signed, SigningKey, Statement};
//! use arkeep_hooks::{HookPolicy, HookSet, Phase, RawHookSet, Review};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut raw: RawHookSet = serde_json::from_str(
//!     r#"{"before": [{"name": "dump", "shell": "pg_dump app > /var/backups/app.sql"}]}"#,
//! )?;
//!
//! // At the desk of whoever holds the key:
//! let key = SigningKey::generate()?;
//! let hooks = HookSet::check(raw.clone())?;
//! let statement = Statement {
//!     agent: "a1", policy: "p1", sequence: 7, not_before_millis: 0, not_after_millis: 9_000,
//! };
//! raw.sign(&key.sign(&hooks, &statement)?);
//!
//! // On the agent, which trusts the public half:
//! let owner = Signed::new(vec![key.public()], Arc::new(MemorySequences::default()));
//! let hooks = HookSet::check(raw)?;
//! let at = Review {
//!     agent: "a1", policy: "p1", phase: Phase::Before, hooks: &hooks, now_unix_millis: 5_000,
//! };
//! for hook in hooks.phase(Phase::Before) {
//!     owner.review(hook, &at)?;
//! }
//! # Ok(()) }
//! ```

mod keys;
mod sequence;
mod statement;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use keys::{KeyError, SigningKey, TrustedKey};
pub use sequence::{FileSequences, MemorySequences, SequenceError, SequenceStore};
pub use statement::Statement;
use statement::{Signature, digest, encode};

use crate::hook::{HookSpec, RawHookSet};
use crate::policy::{ApprovedHook, HookPolicy, Review};
use crate::refusal::{HookRefusal, Rule};

/// Runs hooks that a trusted key signed, and no older list than the newest it has seen.
#[derive(Debug, Clone)]
pub struct Signed {
    keys: Vec<TrustedKey>,
    sequences: Arc<dyn SequenceStore>,
}

impl Signed {
    /// A policy that trusts these keys. With none it refuses everything.
    pub fn new(keys: Vec<TrustedKey>, sequences: Arc<dyn SequenceStore>) -> Self {
        Self { keys, sequences }
    }
}

impl HookPolicy for Signed {
    fn review(&self, spec: &HookSpec, at: &Review<'_>) -> Result<ApprovedHook, HookRefusal> {
        let Some(text) = spec.signature() else {
            return Err(refuse(
                Rule::Unsigned,
                "this agent runs signed hooks only; sign the policy's list of hooks with \
                 `arkeep-agent hook sign` where the key is, and save it with the signature",
            ));
        };
        let signature = Signature::parse(text).ok_or_else(wrong)?;
        let listed = at.hooks.phase(at.phase).contains(spec);
        let message = encode(at.hooks, &signature.statement(at.agent, at.policy));
        let trusted = self
            .keys
            .iter()
            .any(|key| key.verify(&message, &signature.bytes));
        if !listed || !trusted {
            return Err(wrong());
        }
        // Only now: what is read below is what the key's owner wrote.
        if !signature.is_valid_at(at.now_unix_millis) {
            return Err(refuse(
                Rule::Expired,
                "the signature is not valid at this time; check this machine's clock, or sign \
                 the list again",
            ));
        }
        match self
            .sequences
            .admit(at.policy, signature.sequence, &digest(&message))
        {
            Ok(true) => Ok(ApprovedHook::mint(spec, at)),
            Ok(false) => Err(refuse(
                Rule::Replayed,
                "a newer list of hooks was signed for this policy; send that one, or sign this \
                 list again with a higher sequence number",
            )),
            Err(error) => Err(refuse(
                Rule::State,
                &format!(
                    "the agent cannot read or write which list of hooks is the newest ({error}); \
                     look at its state directory"
                ),
            )),
        }
    }
}

impl RawHookSet {
    /// Puts a signature of the whole list to each of its hooks.
    pub fn sign(&mut self, signature: &str) {
        for hook in self
            .before
            .iter_mut()
            .chain(&mut self.after)
            .chain(&mut self.on_failure)
        {
            hook.signature = Some(signature.to_owned());
        }
    }
}

/// One answer for every signature that does not fit, whatever does not fit about it.
fn wrong() -> HookRefusal {
    refuse(
        Rule::Signature,
        "the signature is not by a key of `trusted_keys`, or not for these hooks of this policy \
         on this agent; sign the list as it stands now",
    )
}

fn refuse(rule: Rule, hint: &str) -> HookRefusal {
    HookRefusal::new(rule, hint)
}
