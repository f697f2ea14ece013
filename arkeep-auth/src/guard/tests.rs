use super::*;

const ADA: &str = "ada@example.com";

fn noon() -> Timestamp {
    Timestamp::from_unix_seconds(1_750_000_000)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Fails until told to wait, and returns for how long.
fn exhaust(guard: &LoginGuard, account: &str, from: Option<IpAddr>, now: Timestamp) -> Duration {
    loop {
        if let Err(told) = guard.admit(account, from, now) {
            return told.retry_after;
        }
    }
}

/// A9
#[test]
fn each_failure_after_the_free_ones_doubles_the_wait() -> Result<(), Throttled> {
    let guard = LoginGuard::default();
    let stranger = address("203.0.113.9");
    let mut now = noon();

    let mut waits = vec![exhaust(&guard, ADA, stranger, now)];
    for _ in 0..12 {
        now = now.plus(waits[waits.len() - 1]);
        drop(guard.admit(ADA, stranger, now)?);
        waits.push(exhaust(&guard, ADA, stranger, now));
    }

    let seconds: Vec<u64> = waits.iter().map(Duration::as_secs).collect();
    assert_eq!(
        seconds,
        [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]
    );
    Ok(())
}

/// A9
#[test]
fn counts_failures_only() -> Result<(), Throttled> {
    let guard = LoginGuard::default();

    for _ in 0..1_000 {
        guard
            .admit(ADA, address("203.0.113.9"), noon())?
            .succeeded();
        guard
            .admit(ADA, address("203.0.113.8"), noon())?
            .undecided();
        guard.admit(ADA, None, noon())?.undecided();
    }
    Ok(())
}

/// A9
#[test]
fn a_success_elsewhere_forgives_no_failure() -> Result<(), Throttled> {
    let guard = LoginGuard::default();
    let (stranger, owner) = (address("203.0.113.9"), address("198.51.100.7"));
    for _ in 0..4 {
        drop(guard.admit(ADA, stranger, noon())?);
    }

    guard.admit(ADA, owner, noon())?.succeeded();
    drop(guard.admit(ADA, stranger, noon())?);

    assert!(guard.admit(ADA, stranger, noon()).is_err());
    Ok(())
}

/// A9
#[test]
fn a_success_makes_nobody_wait() -> Result<(), Throttled> {
    let guard = LoginGuard::default();
    let (one, other) = (address("198.51.100.7"), address("198.51.100.8"));
    exhaust(&guard, ADA, one, noon());
    let later = noon().plus(seconds(10));

    guard.admit(ADA, one, later)?.succeeded();

    guard.admit(ADA, other, later)?.succeeded();
    Ok(())
}

/// A9
#[test]
fn nobody_locks_an_account_out_of_an_address_it_is_known_at() -> Result<(), Throttled> {
    let guard = LoginGuard::default();
    let home = address("198.51.100.7");
    guard.admit(ADA, home, noon())?.succeeded();

    // From everywhere in the world, and from behind the same address to other accounts.
    for last in 0..=255 {
        exhaust(&guard, ADA, address(&format!("203.0.113.{last}")), noon());
    }
    for other in 0..100 {
        exhaust(&guard, &format!("{other}@example.com"), home, noon());
    }

    guard.admit(ADA, home, noon())?.succeeded();
    assert!(guard.admit(ADA, address("192.0.2.1"), noon()).is_err());
    assert!(guard.admit("bob@example.com", home, noon()).is_err());
    Ok(())
}

/// A9
#[test]
fn guesses_from_a_known_address_are_counted_too() -> Result<(), Throttled> {
    let guard = LoginGuard::default();
    let home = address("198.51.100.7");
    guard.admit(ADA, home, noon())?.succeeded();

    assert_eq!(exhaust(&guard, ADA, home, noon()), seconds(1));
    // That it is known is no news, and no pardon.
    guard.recognise(ADA, IpAddr::from([198, 51, 100, 7]), noon());
    assert!(guard.admit(ADA, home, noon()).is_err());
    // Elsewhere the owner is not kept waiting for that.
    guard.admit(ADA, address("192.0.2.1"), noon())?.succeeded();
    Ok(())
}

/// A9
#[test]
fn one_address_does_not_try_one_password_on_everybody() {
    let guard = LoginGuard::default();
    let stranger = address("203.0.113.9");

    let admitted = (0..100)
        .filter(|number| {
            guard
                .admit(&format!("{number}@x"), stranger, noon())
                .is_ok()
        })
        .count();

    assert_eq!(admitted, LoginGuard::FREE_FAILURES_OF_ADDRESS as usize);
}

/// A9
#[test]
fn many_addresses_do_not_try_one_account() {
    let guard = LoginGuard::default();

    let admitted = (0..100)
        .filter(|last| {
            guard
                .admit(ADA, address(&format!("2001:db8:{last}::1")), noon())
                .is_ok()
        })
        .count();

    assert_eq!(admitted, LoginGuard::FREE_FAILURES as usize);
}

/// A9
#[test]
fn one_subscriber_is_one_address_and_one_account_has_one_name() {
    let guard = LoginGuard::default();
    for last in 0..LoginGuard::FREE_FAILURES_OF_ADDRESS {
        let from = address(&format!("2001:db8::{last:x}"));
        assert!(guard.admit(&format!("{last}@x"), from, noon()).is_ok());
    }
    assert!(
        guard
            .admit("new@x", address("2001:db8::ffff:1"), noon())
            .is_err()
    );
    assert!(
        guard
            .admit("new@x", address("2001:db8:0:1::1"), noon())
            .is_ok()
    );

    exhaust(&guard, "Ada@Example.com", address("203.0.113.9"), noon());
    assert!(guard.admit(ADA, address("203.0.113.8"), noon()).is_err());

    exhaust(&guard, "bob@x", address("::ffff:192.0.2.1"), noon());
    guard.recognise("bob@x", IpAddr::from([192, 0, 2, 1]), noon());
    assert!(
        guard
            .admit("bob@x", address("::ffff:192.0.2.1"), noon())
            .is_ok()
    );
}

/// A9
#[test]
fn a_day_without_failures_is_a_new_beginning() {
    let guard = LoginGuard::default();
    let stranger = address("203.0.113.9");
    exhaust(&guard, ADA, stranger, noon());

    let later = noon().plus(LoginGuard::FORGOTTEN_AFTER);

    assert_eq!(exhaust(&guard, ADA, stranger, later), seconds(1));
}

#[test]
fn an_address_is_forgotten_after_a_month() -> Result<(), Throttled> {
    let guard = LoginGuard::default();
    let home = address("198.51.100.7");
    guard.admit(ADA, home, noon())?.succeeded();
    let later = noon().plus(LoginGuard::KNOWN_FOR);
    exhaust(&guard, ADA, address("203.0.113.9"), later);

    assert!(guard.admit(ADA, home, later).is_err());
    Ok(())
}

#[test]
fn a_clock_that_steps_back_makes_nobody_wait_longer_than_the_longest_wait() {
    let guard = LoginGuard::default();
    exhaust(&guard, ADA, None, noon());

    let told = guard.admit(ADA, None, noon().minus(seconds(86_400)));

    assert!(told.is_err_and(|told| told.retry_after <= LoginGuard::LONGEST_WAIT));
}

/// A9
#[test]
fn a_flood_of_names_takes_bounded_memory_and_keeps_the_newest() {
    let guard = LoginGuard::default();
    for number in 0..LoginGuard::CAPACITY + 10 {
        let now = noon().plus(Duration::from_millis(number as u64));
        drop(guard.admit(&number.to_string(), None, now));
    }
    let now = noon().plus(Duration::from_millis(LoginGuard::CAPACITY as u64 + 10));
    exhaust(&guard, ADA, None, now);

    let kept = guard.change(|state| state.accounts.len());

    assert!(kept <= LoginGuard::CAPACITY);
    assert!(guard.admit(ADA, None, now).is_err());
}

/// A9
#[test]
fn the_limits_are_those_that_are_promised() {
    assert_eq!(LoginGuard::LONGEST_WAIT.as_secs(), 900);
    assert_eq!(LoginGuard::FORGOTTEN_AFTER.as_secs(), 86_400);
    assert_eq!(LoginGuard::KNOWN_FOR.as_secs(), 2_592_000);
}

/// A9: what is over makes room before anything is forgotten early; then the oldest tenth goes.
#[test]
fn what_is_over_makes_room_first() {
    let entry = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let mut counts = Counts::<u64>::default();
    let month = noon().plus(LoginGuard::KNOWN_FOR);
    // One that was seen within the month, in a house full of others that were not.
    counts.recognise(0, noon().plus(seconds(3_600)));
    for number in 1..LoginGuard::CAPACITY {
        counts.recognise(entry(number), noon());
    }
    counts.add(entry(LoginGuard::CAPACITY), month);
    assert_eq!(counts.len(), 2);
    assert!(counts.contains(&0, month));

    let start = counts.len();
    for number in start..LoginGuard::CAPACITY {
        counts.add(
            entry(1_000_000 + number),
            month.plus(Duration::from_millis(entry(number))),
        );
    }
    assert_eq!(counts.len(), LoginGuard::CAPACITY);
    let later = month.plus(Duration::from_millis(entry(LoginGuard::CAPACITY)));
    // One that is there already needs no room.
    counts.add(entry(1_000_000 + LoginGuard::CAPACITY - 1), later);
    assert_eq!(counts.len(), LoginGuard::CAPACITY);

    counts.add(u64::MAX, later.plus(seconds(1)));
    let tenth = LoginGuard::CAPACITY / 10;
    assert_eq!(counts.len(), LoginGuard::CAPACITY - tenth);
    assert!(!counts.contains(&0, later));
    assert!(counts.contains(&u64::MAX, later.plus(seconds(1))));
}
