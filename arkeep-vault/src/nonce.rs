//! Random nonces without a system call for each.
//!
//! Asking the kernel for 24 bytes costs more than encrypting a credential. When one thread seals
//! many secrets in a row, such as after a rotation, nonces are therefore fetched sixteen at a time.
//!
//! What is fetched ahead can be copied before it is used: a process that forks, or a virtual
//! machine that is cloned, leaves two holders of the same bytes, and a nonce used twice with one
//! key gives both secrets away. Three things stand against it:
//!
//! - A secret sealed by itself gets bytes that were fetched for it.
//! - What was fetched ahead is used within a millisecond, or thrown away.
//! - Each nonce is mixed with the nanosecond of its use, so that twins would have to reach the same
//!   nonce in the same nanosecond, too.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::xaes::Nonce;

/// A nonce that was never used before.
pub(crate) fn fresh() -> Result<Nonce, getrandom::Error> {
    SUPPLY.with_borrow_mut(|(since, supply)| supply.take(since.elapsed(), getrandom::fill))
}

thread_local! {
    #[expect(
        clippy::disallowed_methods,
        reason = "how old random bytes are is no business of a caller, and no test moves it"
    )]
    static SUPPLY: RefCell<(Instant, Supply)> = RefCell::new((Instant::now(), Supply::default()));
}

/// Nonces fetched ahead by one thread.
#[derive(Clone, Default)]
struct Supply {
    ahead: [Nonce; BATCH],
    /// How many of them are left, from the front.
    left: usize,
    fetched_at: Duration,
    asked_at: Option<Duration>,
}

impl Supply {
    fn take<E>(
        &mut self,
        now: Duration,
        fetch: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Nonce, E> {
        let in_a_row = self
            .asked_at
            .replace(now)
            .is_some_and(|last| now.saturating_sub(last) < FRESH);
        if now.saturating_sub(self.fetched_at) >= FRESH {
            self.left = 0;
        }
        let mut nonce = match self.ahead.get(..self.left).and_then(|left| left.last()) {
            Some(nonce) => {
                let nonce = *nonce;
                self.left -= 1;
                nonce
            }
            None if in_a_row => {
                fetch(self.ahead.as_flattened_mut().as_flattened_mut())?;
                self.left = BATCH - 1;
                self.fetched_at = now;
                let [.., last] = self.ahead;
                last
            }
            None => {
                let mut nonce = Nonce::default();
                fetch(nonce.as_flattened_mut())?;
                nonce
            }
        };
        // Any value mixed into uniformly random bytes leaves them uniformly random.
        let moment = now.as_nanos().to_be_bytes();
        for (byte, mixed) in nonce.as_flattened_mut().iter_mut().zip(moment) {
            *byte ^= mixed;
        }
        Ok(nonce)
    }
}

const BATCH: usize = 16;
const FRESH: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use super::*;

    /// Counts what is fetched, and never gives the same bytes twice.
    #[derive(Default)]
    struct Kernel {
        fetched: Vec<usize>,
        next: u64,
    }

    impl Kernel {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            self.fetched.push(bytes.len());
            for chunk in bytes.chunks_mut(24) {
                self.next += 1;
                chunk.fill(0xff);
                chunk[16..].copy_from_slice(&self.next.to_be_bytes());
            }
            Ok(())
        }
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// V1
    #[test]
    fn a_secret_by_itself_gets_bytes_fetched_for_it() -> Result<(), Infallible> {
        let (mut supply, mut kernel) = (Supply::default(), Kernel::default());

        for moment in [0, 1_000, 2_500, 1_000_000] {
            supply.take(micros(moment), |bytes| kernel.fill(bytes))?;
        }

        assert_eq!(kernel.fetched, [24; 4]);
        Ok(())
    }

    /// V9
    #[test]
    fn many_in_a_row_share_one_fetch() -> Result<(), Infallible> {
        let (mut supply, mut kernel) = (Supply::default(), Kernel::default());

        for moment in 0..33 {
            supply.take(micros(moment), |bytes| kernel.fill(bytes))?;
        }

        assert_eq!(kernel.fetched, [24, 384, 384]);
        Ok(())
    }

    /// V1
    #[test]
    fn what_is_fetched_is_used_once_and_wholly() -> Result<(), Infallible> {
        let (mut supply, mut kernel) = (Supply::default(), Kernel::default());
        let mut seen = HashSet::new();

        for _ in 0..1 + 2 * BATCH {
            assert!(seen.insert(supply.take(micros(7), |bytes| kernel.fill(bytes))?));
        }

        assert_eq!(kernel.fetched, [24, 384, 384]);
        Ok(())
    }

    /// V1
    #[test]
    fn what_is_older_than_a_millisecond_is_thrown_away() -> Result<(), Infallible> {
        let (mut supply, mut kernel) = (Supply::default(), Kernel::default());
        for moment in [0, 1] {
            supply.take(micros(moment), |bytes| kernel.fill(bytes))?;
        }

        supply.take(micros(600), |bytes| kernel.fill(bytes))?;
        assert_eq!(kernel.fetched, [24, 384]);
        supply.take(micros(1_001), |bytes| kernel.fill(bytes))?;
        assert_eq!(kernel.fetched, [24, 384, 384]);
        supply.take(micros(9_000), |bytes| kernel.fill(bytes))?;
        assert_eq!(kernel.fetched, [24, 384, 384, 24]);
        Ok(())
    }

    /// V1
    #[test]
    fn twins_do_not_use_the_same_nonce() -> Result<(), Infallible> {
        let (mut one, mut kernel) = (Supply::default(), Kernel::default());
        for moment in [0, 1] {
            one.take(micros(moment), |bytes| kernel.fill(bytes))?;
        }
        let mut other = one.clone();
        let mut seen = HashSet::new();

        for moment in 0..15 {
            let now = Duration::from_nanos(2_000 + 2 * moment);
            let then = Duration::from_nanos(2_001 + 2 * moment);
            assert!(seen.insert(one.take(now, |bytes| kernel.fill(bytes))?));
            assert!(seen.insert(other.take(then, |bytes| kernel.fill(bytes))?));
        }
        assert_eq!(kernel.fetched, [24, 384]);
        Ok(())
    }

    /// V1
    #[test]
    fn no_nonce_comes_twice() -> Result<(), getrandom::Error> {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| (0..10_000).map(|_| fresh()).collect::<Result<Vec<_>, _>>())
            })
            .collect();

        let mut seen = HashSet::new();
        for thread in threads {
            for nonce in thread.join().unwrap()? {
                assert!(seen.insert(nonce));
                assert!(nonce.iter().all(|half| *half != [0; 12]));
            }
        }
        Ok(())
    }

    /// V1
    #[test]
    fn a_fetch_that_fails_gives_nothing() {
        let mut supply = Supply::default();

        for moment in 0..3 {
            let taken = supply.take(micros(moment), |_| Err("no randomness"));

            assert_eq!(taken, Err("no randomness"));
        }
    }
}
