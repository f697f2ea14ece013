//! Cookie headers: several, doubled, cut, and with anything in them.
#![no_main]

use std::time::Duration;

use arkeep_auth::cookie;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Lines stand for several headers.
    let Ok(token) = cookie::find(text.lines()) else { return };

    let value = token.expose();
    assert_eq!(value.len(), 43);
    let ours = format!("{}=", cookie::NAME);
    let pairs = text.lines().flat_map(|line| line.split(';'));
    let named = pairs.filter(|pair| pair.trim_matches([' ', '\t']).starts_with(&ours));
    assert_eq!(named.count(), 1);
    let header = cookie::set(&token, Duration::from_secs(1));
    let pair = header.split(';').next().expect("a first part");
    let again = cookie::find([pair]).expect("what was set is found");
    assert_eq!(again.digest(), token.digest());
});
