//! API tokens: whatever is read has the one spelling that it is written in.
#![no_main]

use arkeep_auth::api_token::ApiToken;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<ApiToken>() {
        assert_eq!(token.expose().as_str(), text);
    }
});
