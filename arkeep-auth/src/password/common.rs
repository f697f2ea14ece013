use zeroize::Zeroizing;

/// Whether a password is one of the 3,000 commonest of at least 8 bytes, in any case.
///
/// The list is Mark Burnett's, who counted ten million leaked passwords and gave them to the public
/// domain: the commonest first, in the order in which zxcvbn ranks them.
pub(super) fn is_common(password: &str) -> bool {
    let lower = Zeroizing::new(password.to_lowercase());
    COMMON.lines().any(|common| common == *lower)
}

// A search from the front takes less than a thousandth of the hash that follows it.
const COMMON: &str = include_str!("common.txt");

#[cfg(test)]
mod tests {
    use super::*;

    /// A7
    #[test]
    fn the_commonest_are_known_in_any_case() {
        assert_eq!(COMMON.lines().count(), 3_000);
        assert!(COMMON.lines().all(|password| password.len() >= 8));
        for password in COMMON.lines().step_by(97).chain(COMMON.lines().last()) {
            assert!(is_common(password), "{password}");
        }
        assert!(is_common("PassWord"));
        assert!(is_common("1QAZ2wsx"));
        assert!(!is_common("correct horse battery"));
        assert!(!is_common("password "));
        assert!(!is_common(""));
    }
}
