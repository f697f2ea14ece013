//! A person signs the hooks of a policy; a server relays them; an agent judges.
//!
//! Three parties, of which only the first has the key:
//!
//! 1. the desk: reads the list, signs it as a whole;
//! 2. the server: stores text and hands it on, and can make no signature;
//! 3. the agent: trusts the public half, and remembers the newest list in its state directory.
//!
//! ```text
//! cargo run -p arkeep-hooks --example sign_a_hook --features signed
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use arkeep_hooks::signed::{FileSequences, Signed, SigningKey, Statement, TrustedKey};
use arkeep_hooks::{HookPolicy as _, HookRefusal, HookSet, Phase, RawHookSet, Review, Rule};

const AGENT: &str = "0190a0b0-0000-7000-8000-000000000001";
const POLICY: &str = "0190a0b0-0000-7000-8000-000000000002";
const NOON: i64 = 1_800_000_000_000;
const A_DAY: i64 = 24 * 60 * 60 * 1000;

const HOOKS: &str = r#"{
    "before": [{"name": "stop", "exec": ["/usr/bin/systemctl", "stop", "app"]},
               {"name": "dump", "shell": "pg_dump app | gzip > /var/backups/app.gz"}],
    "after": [{"name": "start", "exec": ["/usr/bin/systemctl", "start", "app"]}]
}"#;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let state = tempfile::tempdir()?;

    // At the desk. The secret half goes into a file of its owner, the public half to the agents.
    let key = SigningKey::generate()?;
    let kept = key.secret_text();
    let published = key.public().to_string();
    let first = sign(&SigningKey::from_secret_text(&kept)?, HOOKS, 1)?;

    // On the agent, which restarts between any two of these lines.
    let agent = || agent(&published, state.path());
    review(&agent()?, &first)?;

    // A server that was taken over tries what it can.
    assert_eq!(
        refused(&agent()?, &HOOKS.replace("stop", "kill"))?,
        Rule::Unsigned
    );
    assert_eq!(
        refused(&agent()?, &first.replace("/app.gz", "/etc.gz"))?,
        Rule::Signature
    );
    assert_eq!(
        refused(&agent()?, &without_the_last_phase(&first)?)?,
        Rule::Signature
    );
    assert_eq!(
        refused(&agent()?, &sign(&SigningKey::generate()?, HOOKS, 9)?)?,
        Rule::Signature
    );

    // The desk signs a newer list; the older one is over, also for an agent that restarted.
    let second = sign(&key, &HOOKS.replace("app.gz", "app.sql.gz"), 2)?;
    review(&agent()?, &second)?;
    assert_eq!(refused(&agent()?, &first)?, Rule::Replayed);
    review(&agent()?, &second)?;
    Ok(())
}

/// The desk: what is signed is the list as it was understood, not the text that it came in.
fn sign(key: &SigningKey, json: &str, sequence: u64) -> Result<String, Box<dyn Error>> {
    let mut raw: RawHookSet = serde_json::from_str(json)?;
    let hooks = HookSet::check(raw.clone())?;
    let statement = Statement {
        agent: AGENT,
        policy: POLICY,
        sequence,
        not_before_millis: NOON,
        not_after_millis: NOON + A_DAY,
    };
    raw.sign(&key.sign(&hooks, &statement)?);
    Ok(serde_json::to_string(&raw)?)
}

/// The agent's owner decided once, in a file that no server reaches.
fn agent(published: &str, state: &Path) -> Result<Signed, Box<dyn Error>> {
    let trusted: TrustedKey = published.parse()?;
    let sequences = FileSequences::new(state.join("hook-sequences"));
    Ok(Signed::new(vec![trusted], Arc::new(sequences)))
}

/// What the agent does with a list that the server sent: every hook of it, before any of them runs.
fn review(owner: &Signed, json: &str) -> Result<(), Box<dyn Error>> {
    let hooks = HookSet::check(serde_json::from_str(json)?)?;
    for phase in Phase::ALL {
        let at = Review {
            agent: AGENT,
            policy: POLICY,
            phase,
            hooks: &hooks,
            now_unix_millis: NOON + A_DAY / 2,
        };
        for hook in hooks.phase(phase) {
            owner.review(hook, &at)?;
        }
    }
    Ok(())
}

/// The rule by which a list was refused; an error when it was not.
fn refused(owner: &Signed, json: &str) -> Result<Rule, Box<dyn Error>> {
    let Err(error) = review(owner, json) else {
        return Err("this list should have been refused".into());
    };
    let refusal = error.downcast::<HookRefusal>()?;
    Ok(refusal.rule())
}

fn without_the_last_phase(json: &str) -> Result<String, Box<dyn Error>> {
    let mut raw: RawHookSet = serde_json::from_str(json)?;
    raw.after.clear();
    Ok(serde_json::to_string(&raw)?)
}
