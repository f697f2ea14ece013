//! Signatures: any text is refused, and so is a good one with any of its characters changed.
#![no_main]

use std::sync::{Arc, LazyLock};

use arkeep_hooks::signed::{MemorySequences, Signed, SigningKey, Statement};
use arkeep_hooks::{HookPolicy as _, HookSet, Phase, RawHookSet, Review};
use libfuzzer_sys::fuzz_target;

struct Desk {
    owner: Signed,
    hooks: RawHookSet,
    good: String,
}

static DESK: LazyLock<Desk> = LazyLock::new(|| {
    let key = SigningKey::generate().expect("random bytes");
    let hooks: RawHookSet =
        serde_json::from_str(r#"{"before":[{"name":"a","exec":["/bin/true"]}]}"#).expect("hooks");
    let statement = Statement {
        agent: "a",
        policy: "p",
        sequence: 1,
        not_before_millis: 0,
        not_after_millis: i64::MAX,
    };
    let good = key.sign(&HookSet::check(hooks.clone()).expect("hooks"), &statement).expect("signed");
    let owner = Signed::new(vec![key.public()], Arc::new(MemorySequences::default()));
    Desk { owner, hooks, good }
});

fn admits(signature: &str) -> bool {
    let mut hooks = DESK.hooks.clone();
    hooks.sign(signature);
    let hooks = HookSet::check(hooks).expect("hooks");
    let at =
        Review { agent: "a", policy: "p", phase: Phase::Before, hooks: &hooks, now_unix_millis: 5 };
    hooks.phase(Phase::Before).iter().all(|hook| DESK.owner.review(hook, &at).is_ok())
}

fuzz_target!(|data: &[u8]| {
    assert!(admits(&DESK.good));
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(!admits(text) || text == DESK.good);
    }
    // Pairs of a place and a character.
    let mut changed = DESK.good.clone().into_bytes();
    for pair in data.chunks_exact(2) {
        let place = usize::from(pair[0]) % changed.len();
        changed[place] = pair[1];
    }
    if let Ok(changed) = String::from_utf8(changed) {
        assert_eq!(admits(&changed), changed == DESK.good);
    }
});
