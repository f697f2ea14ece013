//! Secrets on their way through a browser.

use std::time::Duration;

use crate::session::RefreshToken;

/// Name of the cookie. The prefix makes browsers refuse it without `Secure` and `Path=/`, and from
/// any other host (RFC 6265bis §4.1.3.2).
pub const NAME: &str = "__Host-arkeep_refresh";

/// The cookies of a request hold no one secret of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// There is none. Answer 401.
    #[error("no such cookie")]
    Missing,
    /// There are several: somebody planted one, and which is not for us to guess. Answer 401.
    #[error("more than one such cookie")]
    Ambiguous,
    /// It is none of ours. Answer 401.
    #[error("the cookie is none of ours")]
    Malformed,
}

/// Finds the refresh token in the `Cookie` headers of a request.
///
/// ```
/// use arkeep_auth::cookie::{self, CookieError};
///
/// assert!(matches!(cookie::find(["theme=dark"]), Err(CookieError::Missing)));
/// ```
pub fn find<'a>(headers: impl IntoIterator<Item = &'a str>) -> Result<RefreshToken, CookieError> {
    let value = find_value(NAME, headers)?;
    value.parse().map_err(|_| CookieError::Malformed)
}

/// The value of the one cookie of this name.
pub(crate) fn find_value<'a>(
    wanted: &str,
    headers: impl IntoIterator<Item = &'a str>,
) -> Result<&'a str, CookieError> {
    let mut values = headers
        .into_iter()
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='))
        .filter_map(|(name, value)| (name == wanted).then_some(value));
    let value = values.next().ok_or(CookieError::Missing)?;
    if values.next().is_some() {
        return Err(CookieError::Ambiguous);
    }
    Ok(value)
}

/// The `Set-Cookie` header that gives a refresh token to a browser. It holds the secret.
#[must_use]
pub fn set(token: &RefreshToken, lifetime: Duration) -> String {
    format!(
        "{NAME}={}; {ATTRIBUTES}; Max-Age={}",
        token.expose().as_str(),
        lifetime.as_secs()
    )
}

/// The `Set-Cookie` header that takes it away.
#[must_use]
pub fn clear() -> String {
    format!("{NAME}=; {ATTRIBUTES}; Max-Age=0")
}

const ATTRIBUTES: &str = "Secure; HttpOnly; SameSite=Strict; Path=/";

#[cfg(test)]
mod tests {
    use arkeep_core::SystemEntropy;

    use super::*;

    #[test]
    fn finds_what_was_set() -> Result<(), CookieError> {
        let token = RefreshToken::generate(&SystemEntropy);
        let header = set(&token, Duration::from_secs(604_800));
        let pair = header.split(';').next().unwrap_or_default();

        let found = find(["a=b", &format!("theme=dark; {pair}; x=y")])?;

        assert_eq!(found.digest(), token.digest());
        assert!(header.ends_with("; Secure; HttpOnly; SameSite=Strict; Path=/; Max-Age=604800"));
        Ok(())
    }

    #[test]
    fn refuses_doubled_cut_and_foreign_cookies() {
        let token = RefreshToken::generate(&SystemEntropy);
        let value = token.expose();
        let value = value.as_str();
        let ours = format!("{NAME}={value}");

        let doubled = format!("{ours}; {ours}");
        assert!(matches!(
            find([doubled.as_str()]),
            Err(CookieError::Ambiguous)
        ));
        assert!(matches!(
            find([ours.as_str(), ours.as_str()]),
            Err(CookieError::Ambiguous)
        ));

        for cut in 0..value.len() {
            let header = format!("{NAME}={}", &value[..cut]);
            assert!(
                matches!(find([header.as_str()]), Err(CookieError::Malformed)),
                "{cut}"
            );
        }
        for header in [
            "",
            ";;;",
            "=",
            NAME,
            "arkeep_refresh=x",
            "__host-arkeep_refresh=x",
        ] {
            assert!(
                matches!(find([header]), Err(CookieError::Missing)),
                "{header:?}"
            );
        }
        for bad in [
            format!("{ours}="),
            format!("{NAME}=\"{value}\""),
            format!("{NAME}= {value}"),
        ] {
            assert!(
                matches!(find([bad.as_str()]), Err(CookieError::Malformed)),
                "{bad}"
            );
        }
    }
}
