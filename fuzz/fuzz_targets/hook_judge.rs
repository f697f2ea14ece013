//! Shell lines: no panic, nothing forbidden gets through, and the canonical text means the same.
#![no_main]

use arkeep_hooks::judge::{MAX_BYTES, judge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let script = match judge(line) {
        Ok(script) => script,
        Err(refusal) => {
            if let Some(span) = refusal.span() {
                assert!(line.get(span).is_some(), "the span is a part of the line");
            }
            assert!(!refusal.hint().is_empty());
            return;
        }
    };

    assert!(line.len() <= MAX_BYTES);
    for forbidden in ["$(", "`", ".."] {
        assert!(!line.contains(forbidden));
    }
    assert!(!line.chars().any(char::is_control));
    let canonical = script.to_string();
    if canonical.len() <= MAX_BYTES {
        let again = judge(&canonical).expect("what was accepted is accepted again");
        assert_eq!(again, script);
        assert_eq!(again.to_string(), canonical);
    }
});
