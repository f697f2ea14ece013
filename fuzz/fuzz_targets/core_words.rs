//! The words that arrive from outside: ids, times, snapshot ids, relative paths.
#![no_main]

use arkeep_core::repository::RelativePath;
use arkeep_core::snapshot::ResticId;
use arkeep_core::{JobId, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<JobId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        assert_eq!(moment.to_string().parse(), Ok(moment));
    }
    if let Ok(id) = text.parse::<ResticId>() {
        assert!(!id.as_str().starts_with('-'));
    }
    if let Ok(path) = text.parse::<RelativePath>() {
        assert!(!path.as_str().starts_with('/'));
        assert!(path.as_str().split('/').all(|part| part != ".."));
    }
});
