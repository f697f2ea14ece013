//! What a signature holds together.

use std::sync::Arc;

use super::*;
use crate::hook::{HookSet, Phase, RawHookSet};

const HOOKS: &str = r#"{
    "before": [{"name": "stop", "shell": "docker stop web"},
               {"name": "dump", "exec": ["/usr/bin/pg_dump", "-f", "/b", "db"]}],
    "after": [{"name": "start", "shell": "docker start web"}]
}"#;

const STATEMENT: Statement<'_> = Statement {
    agent: "a1",
    policy: "p1",
    sequence: 7,
    not_before_millis: 1_000,
    not_after_millis: 2_000,
};

struct Desk {
    key: SigningKey,
    owner: Signed,
}

impl Desk {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let owner = Signed::new(vec![key.public()], Arc::new(MemorySequences::default()));
        Self { key, owner }
    }

    fn sign(&self, json: &str, statement: &Statement<'_>) -> RawHookSet {
        let mut raw: RawHookSet = serde_json::from_str(json).unwrap();
        let hooks = HookSet::check(raw.clone()).unwrap();
        raw.sign(&self.key.sign(&hooks, statement).unwrap());
        raw
    }

    /// Reviews every hook, as the agent would; the rule that refused first.
    fn review(&self, raw: &RawHookSet) -> Result<(), Rule> {
        self.review_at(raw, "a1", "p1", 1_500)
    }

    fn review_at(&self, raw: &RawHookSet, agent: &str, policy: &str, now: i64) -> Result<(), Rule> {
        let hooks = HookSet::check(raw.clone()).unwrap();
        for phase in Phase::ALL {
            let at = Review {
                agent,
                policy,
                phase,
                hooks: &hooks,
                now_unix_millis: now,
            };
            for hook in hooks.phase(phase) {
                self.owner
                    .review(hook, &at)
                    .map_err(|refusal| refusal.rule())?;
            }
        }
        Ok(())
    }
}

/// H6
#[test]
fn lets_a_signed_list_through() {
    let desk = Desk::new();

    assert_eq!(desk.review(&desk.sign(HOOKS, &STATEMENT)), Ok(()));
}

/// H6
#[test]
fn refuses_a_list_without_a_signature() {
    let raw = serde_json::from_str(HOOKS).unwrap();

    assert_eq!(Desk::new().review(&raw), Err(Rule::Unsigned));
}

/// H6
#[test]
fn refuses_a_list_that_another_key_signed() {
    let raw = Desk::new().sign(HOOKS, &STATEMENT);

    assert_eq!(Desk::new().review(&raw), Err(Rule::Signature));
}

/// H6
#[test]
fn trusts_each_of_several_keys() {
    let (one, two) = (Desk::new(), SigningKey::generate().unwrap());
    let keys = vec![two.public(), one.key.public()];
    let raw = one.sign(HOOKS, &STATEMENT);
    let either = Desk {
        owner: Signed::new(keys, Arc::new(MemorySequences::default())),
        key: two,
    };

    assert_eq!(either.review(&raw), Ok(()));
    assert_eq!(either.review(&either.sign(HOOKS, &STATEMENT)), Ok(()));
}

type Change = fn(&mut RawHookSet);

/// H6
#[test]
fn refuses_any_change_to_the_list() {
    let desk = Desk::new();
    let changes: &[(&str, Change)] = &[
        ("dropped", |raw| drop(raw.before.remove(0))),
        ("reordered", |raw| raw.before.swap(0, 1)),
        ("added", |raw| raw.before.push(raw.before[0].clone())),
        ("moved", |raw| raw.on_failure.push(raw.after.remove(0))),
        ("renamed", |raw| raw.after[0].name = "x".to_owned()),
        ("slower", |raw| raw.after[0].timeout += 1),
        ("other line", |raw| {
            raw.before[0].shell = Some("docker stop db".to_owned())
        }),
        ("other argument", |raw| {
            raw.before[1].exec.as_mut().unwrap()[3] = "d".to_owned()
        }),
        ("joined arguments", |raw| {
            raw.before[1]
                .exec
                .as_mut()
                .unwrap()
                .splice(1..3, ["-f/b".to_owned()]);
        }),
        ("exec for shell", |raw| {
            raw.after[0].shell = None;
            raw.after[0].exec = Some(vec!["/docker start web".to_owned()]);
        }),
    ];
    for (name, change) in changes {
        let mut raw = desk.sign(HOOKS, &STATEMENT);
        change(&mut raw);

        assert_eq!(desk.review(&raw), Err(Rule::Signature), "{name}");
    }
}

/// H6
#[test]
fn refuses_it_elsewhere_and_at_other_times() {
    let desk = Desk::new();
    let raw = desk.sign(HOOKS, &STATEMENT);

    assert_eq!(
        desk.review_at(&raw, "a2", "p1", 1_500),
        Err(Rule::Signature)
    );
    assert_eq!(
        desk.review_at(&raw, "a1", "p2", 1_500),
        Err(Rule::Signature)
    );
    assert_eq!(
        desk.review_at(&raw, "a1p", "1", 1_500),
        Err(Rule::Signature)
    );
    assert_eq!(desk.review_at(&raw, "a1", "p1", 999), Err(Rule::Expired));
    assert_eq!(desk.review_at(&raw, "a1", "p1", 2_001), Err(Rule::Expired));
    assert_eq!(desk.review_at(&raw, "a1", "p1", 1_000), Ok(()));
    assert_eq!(desk.review_at(&raw, "a1", "p1", 2_000), Ok(()));
}

/// H6
#[test]
fn refuses_every_changed_bit_of_the_signature() {
    let desk = Desk::new();
    let raw = desk.sign(HOOKS, &STATEMENT);
    let good = Signature::parse(raw.after[0].signature.as_deref().unwrap()).unwrap();
    let changed = |change: &dyn Fn(&mut Signature)| {
        let mut signature = good.clone();
        change(&mut signature);
        let mut raw = raw.clone();
        raw.sign(&signature.to_string());
        desk.review(&raw)
    };

    for bit in 0..512 {
        let flip = |signature: &mut Signature| signature.bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(changed(&flip), Err(Rule::Signature), "bit {bit}");
    }
    assert_eq!(
        changed(&|signature| signature.sequence += 1),
        Err(Rule::Signature)
    );
    assert_eq!(changed(&|_| ()), Ok(()));
}

/// H6: Ed25519 without this check has two signatures for each one.
#[test]
fn refuses_a_scalar_beyond_the_order() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let desk = Desk::new();
    let mut raw = desk.sign(HOOKS, &STATEMENT);
    let mut signature = Signature::parse(raw.after[0].signature.as_deref().unwrap()).unwrap();
    let mut carry = 0;
    for (byte, order) in signature.bytes[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = carry as u8;
        carry >>= 8;
    }
    raw.sign(&signature.to_string());

    assert_eq!(desk.review(&raw), Err(Rule::Signature));
}

/// H6
#[test]
fn trusts_no_key_under_which_anybody_can_sign() {
    use base64::Engine as _;
    for (first, middle, last) in [(1, 0, 0), (0, 0, 0), (0xec, 0xff, 0x7f), (0xed, 0xff, 0xff)] {
        let mut bytes = [middle; 32];
        (bytes[0], bytes[31]) = (first, last);
        let text = format!(
            "ed25519:{}",
            base64::engine::general_purpose::STANDARD.encode(bytes)
        );

        assert!(
            matches!(text.parse::<TrustedKey>(), Err(KeyError::Weak)),
            "{text}"
        );
    }
}

/// H6
#[test]
fn trusts_keys_that_are_only_near_the_weak_ones() {
    use base64::Engine as _;
    for (first, middle, last) in [(0xed, 0x11, 0x7f), (0xec, 0x11, 0x7f), (0xee, 0xff, 0x11)] {
        let mut bytes = [middle; 32];
        (bytes[0], bytes[7], bytes[31]) = (first, 0xff, last);
        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);

        assert!(format!("ed25519:{encoded}").parse::<TrustedKey>().is_ok());
    }
}

/// H6
#[test]
fn refuses_a_lower_number_and_other_bytes_under_the_same() {
    let desk = Desk::new();
    let other = HOOKS.replace("web", "db");
    let newer = Statement {
        sequence: 8,
        ..STATEMENT
    };
    let longer = Statement {
        not_after_millis: 3_000,
        ..newer
    };

    assert_eq!(desk.review(&desk.sign(HOOKS, &newer)), Ok(()));
    assert_eq!(desk.review(&desk.sign(HOOKS, &newer)), Ok(()));
    assert_eq!(desk.review(&desk.sign(HOOKS, &longer)), Err(Rule::Replayed));
    assert_eq!(desk.review(&desk.sign(&other, &newer)), Err(Rule::Replayed));
    assert_eq!(
        desk.review(&desk.sign(HOOKS, &STATEMENT)),
        Err(Rule::Replayed)
    );
}

/// H6
#[test]
fn writes_keys_as_text_and_never_shows_the_secret_half() {
    let key = SigningKey::generate().unwrap();
    let secret = key.secret_text();

    assert_eq!(
        SigningKey::from_secret_text(&secret).unwrap().public(),
        key.public()
    );
    assert_eq!(
        key.public().to_string().parse::<TrustedKey>().unwrap(),
        key.public()
    );
    let (_, encoded) = secret.split_once(':').unwrap();
    assert!(!format!("{key:?}").contains(encoded));
}

/// H6
#[test]
fn parses_no_signature_from_other_text() {
    for text in ["", "akh1.", "akh1.AAAA", "akh2.AAAA", "akh1.$$$$"] {
        assert_eq!(Signature::parse(text), None, "{text}");
    }
}

mod file_sequences {
    use super::super::{FileSequences, SequenceError, SequenceStore as _};

    /// H6
    #[test]
    fn remember_through_a_restart() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("sequences");

        assert!(FileSequences::new(&path).admit("p 1", 5, &[1; 32])?);

        let after = FileSequences::new(&path);
        assert!(!after.admit("p 1", 4, &[1; 32])?);
        assert!(!after.admit("p 1", 5, &[2; 32])?);
        assert!(after.admit("p 1", 5, &[1; 32])?);
        assert!(after.admit("p 2", 1, &[1; 32])?);
        assert!(after.admit("p 1", 6, &[2; 32])?);
        Ok(())
    }

    /// H6
    #[test]
    fn do_not_start_over_when_the_file_cannot_be_read() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;

        let said = FileSequences::new(dir.path()).admit("p1", 9, &[1; 32]);

        assert!(matches!(said, Err(SequenceError::File(_))), "{said:?}");
        // Neither is a file that is no text.
        let path = dir.path().join("sequences");
        std::fs::write(&path, [0xff, b'\n'])?;
        let said = FileSequences::new(&path).admit("p1", 9, &[1; 32]);
        assert!(matches!(said, Err(SequenceError::File(_))), "{said:?}");
        assert_eq!(std::fs::read(&path)?, [0xff, b'\n']);
        Ok(())
    }

    /// H6
    #[test]
    fn do_not_start_over_when_the_file_is_damaged() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("sequences");
        let signed = format!("7031 5 {}", "+f".repeat(32));
        for damage in ["x", "7031 5", "7031 5 00", "7031 5 zz 1", "\n", &signed] {
            std::fs::write(&path, damage)?;

            let said = FileSequences::new(&path).admit("p1", 9, &[1; 32]);

            assert!(
                matches!(said, Err(SequenceError::Damaged)),
                "{damage:?}: {said:?}"
            );
        }
        Ok(())
    }
}
