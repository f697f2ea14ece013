use arkeep_core::SystemEntropy;

use super::*;

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn passwords(cost: HashCost) -> Result<Passwords, std::io::Error> {
    let pool = HashPool::start(1, 4)?;
    Ok(Passwords::new(cost, pool, Arc::new(SystemEntropy)))
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

/// A7
#[tokio::test]
async fn any_unicode_matches_itself_and_nothing_else() -> TestResult {
    let passwords = passwords(HashCost::for_testing())?;
    for text in [
        "pass word",
        "пароль🔑",
        "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}",
    ] {
        let hash = passwords.hash(&secret(text)).await?;

        let same = passwords.verify(&secret(text), Some(&hash)).await?;
        let more = passwords
            .verify(&secret(&format!("{text} ")), Some(&hash))
            .await?;

        assert_eq!(same, PasswordCheck::Matches, "{text:?}");
        assert_eq!(more, PasswordCheck::Differs, "{text:?}");
    }
    Ok(())
}

/// A7
#[tokio::test]
async fn is_judged_by_bytes_and_never_cut() -> TestResult {
    let passwords = passwords(HashCost::for_testing())?;
    let longest = "x".repeat(MAX_BYTES);

    let hash = passwords.hash(&secret(&longest)).await?;
    let whole = passwords.verify(&secret(&longest), Some(&hash)).await?;
    assert_eq!(whole, PasswordCheck::Matches);
    let cut = passwords
        .verify(&secret(&longest[1..]), Some(&hash))
        .await?;
    let grown = passwords
        .verify(&secret(&format!("{longest}x")), Some(&hash))
        .await?;

    assert_eq!(cut, PasswordCheck::Differs);
    assert_eq!(grown, PasswordCheck::Differs);
    assert_eq!(
        passwords.hash(&secret("1234567")).await,
        Err(PasswordError::TooShort)
    );
    assert!(passwords.hash(&secret("żółw")).await.is_err());
    assert!(passwords.hash(&secret("żółwżółw")).await.is_ok());
    assert_eq!(
        passwords.hash(&secret(&format!("{longest}x"))).await,
        Err(PasswordError::TooLong)
    );
    Ok(())
}

/// A7
#[tokio::test]
async fn what_anybody_would_try_is_refused_when_set_and_checked_when_shown() -> TestResult {
    let passwords = passwords(HashCost::for_testing())?;

    let refused = passwords.hash(&secret("Password1")).await;
    let old = passwords.rehash(&secret("password1")).await?;
    let check = passwords.verify(&secret("password1"), Some(&old)).await?;

    assert_eq!(refused, Err(PasswordError::Common));
    assert_eq!(check, PasswordCheck::Matches);
    Ok(())
}

/// A7
#[tokio::test]
async fn a_weaker_hash_is_outdated() -> TestResult {
    let weak = passwords(HashCost::for_testing())?;
    let strong = passwords(HashCost::default())?;
    let old = weak.hash(&secret("correct horse")).await?;
    let new = strong.hash(&secret("correct horse")).await?;

    let check = strong.verify(&secret("correct horse"), Some(&old)).await?;
    let back = weak.verify(&secret("correct horse"), Some(&new)).await?;

    assert_eq!(check, PasswordCheck::MatchesOutdated);
    assert_eq!(back, PasswordCheck::Matches);
    Ok(())
}

/// A7
#[test]
fn memory_passes_and_length_each_make_a_hash_outdated() {
    const SALT: &str = "c2FsdHNhbHRzYWx0c2FsdA";
    let long = "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";
    let short = "aGFzaGhhc2hoYXNoaGFzaA";
    let cost = HashCost::new(19_456, 2).ok();

    for (params, output, outdated) in [
        ("m=19456,t=2,p=1", long, false),
        ("m=65536,t=4,p=2", long, false),
        ("m=19455,t=2,p=1", long, true),
        ("m=65536,t=1,p=1", long, true),
        ("m=19456,t=2,p=1", short, true),
    ] {
        let stored = format!("$argon2id$v=19${params}${SALT}${output}");
        let parsed = parse(&PasswordHash::from_stored(stored.as_str()));

        let judged = cost.zip(parsed).map(|(cost, stored)| cost.exceeds(&stored));

        assert_eq!(judged, Some(outdated), "{stored}");
    }
}

/// A7
#[tokio::test]
async fn a_stored_hash_above_the_ceiling_is_refused_before_it_is_computed() -> TestResult {
    let passwords = passwords(HashCost::for_testing())?;
    let tail = "c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";
    for stored in [
        format!("$argon2id$v=19$m=4194304,t=1,p=1${tail}"),
        format!("$argon2id$v=19$m=64,t=1000000,p=1${tail}"),
        format!("$argon2id$v=19$m=64,t=1,p=8${tail}"),
        format!("$argon2i$v=19$m=64,t=1,p=1${tail}"),
        format!("$argon2id$v=16$m=64,t=1,p=1${tail}"),
        "$argon2id$v=19$m=64,t=1,p=1".to_owned(),
        "$2b$12$abcdefghijklmnopqrstuv".to_owned(),
        "plaintext".to_owned(),
        String::new(),
    ] {
        let hash = PasswordHash::from_stored(stored.as_str());

        let check = passwords.verify(&secret("plaintext"), Some(&hash)).await?;

        assert_eq!(check, PasswordCheck::Unusable, "{stored}");
    }
    Ok(())
}

/// A7
#[test]
fn weaker_than_the_standard_is_no_cost() {
    assert_eq!(HashCost::new(19_456, 2), Ok(HashCost::default()));
    assert!(HashCost::new(47_104, 1).is_ok());
    assert!(HashCost::new(12_288, 3).is_ok());
    for (memory, passes) in [
        (47_103, 1),
        (19_455, 2),
        (12_287, 3),
        (12_287, 9),
        (65_536, 0),
    ] {
        assert_eq!(HashCost::new(memory, passes), Err(CostError::TooWeak));
    }
    assert_eq!(HashCost::new(262_145, 1), Err(CostError::TooDear));
    assert_eq!(HashCost::new(19_456, 17), Err(CostError::TooDear));
}

/// A9
#[tokio::test]
async fn nobody_matches_the_dummy() -> TestResult {
    let passwords = passwords(HashCost::for_testing())?;

    let check = passwords.verify(&secret("correct horse"), None).await?;

    assert_eq!(check, PasswordCheck::Differs);
    assert_eq!(
        HashCost::for_testing().params().m_cost(),
        Params::try_from(&parse(&passwords.dummy).ok_or("a dummy")?)?.m_cost()
    );
    Ok(())
}
