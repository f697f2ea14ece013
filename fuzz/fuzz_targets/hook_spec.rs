//! Hooks as JSON: no panic, and a checked hook says what its text said.
#![no_main]

use arkeep_hooks::{Command, HookSet, HookSpec, Phase, RawHook, RawHookSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &str| {
    if let Ok(raw) = serde_json::from_str::<RawHook>(json) {
        let text = serde_json::to_string(&raw).expect("it is written");
        assert_eq!(serde_json::from_str::<RawHook>(&text).expect("it is read"), raw);
        if let Ok(spec) = HookSpec::check(raw.clone()) {
            assert_eq!(spec.timeout().as_secs(), raw.timeout);
            assert!((1..=86_400).contains(&raw.timeout));
            assert_ne!(raw.exec.is_some(), raw.shell.is_some());
            if let Command::Exec(argv) = spec.command() {
                assert_eq!(Some(argv), raw.exec.as_deref());
                assert!(argv[0].starts_with('/') && !argv.iter().any(|arg| arg.contains('\0')));
            }
        }
    }
    if let Ok(raw) = serde_json::from_str::<RawHookSet>(json)
        && let Ok(set) = HookSet::check(raw.clone())
    {
        assert_eq!(set.phase(Phase::Before).len(), raw.before.len());
        assert_eq!(set.phase(Phase::After).len(), raw.after.len());
        assert_eq!(set.phase(Phase::OnFailure).len(), raw.on_failure.len());
    }
});
