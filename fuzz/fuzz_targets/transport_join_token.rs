//! Join tokens: whatever is read says the same when it is written, and has one spelling.
#![no_main]

use arkeep_core::{AgentId, ExposeSecret};
use arkeep_transport::token::JoinToken;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(token) = text.parse::<JoinToken>() else { return };

    let line = token.encode();
    assert!(line.expose_secret().len() <= 512);
    let again: JoinToken = line.expose_secret().parse().expect("what was written is read");
    let agent = AgentId::from_uuid(token.id().as_uuid());
    assert_eq!(again.offered_to(agent), token.offered_to(agent));
    assert_eq!(again.server(), token.server());
    assert_eq!(again.fingerprint(), token.fingerprint());
    let secret = line.expose_secret().rsplit('.').next().expect("a last part");
    assert!(!format!("{token:?}").contains(secret));
    assert!(text.contains(secret));
});
