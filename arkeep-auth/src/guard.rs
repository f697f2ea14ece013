//! Slowing down whoever guesses.
//!
//! Guesses are counted by account and by address, and failures only. A few cost nothing; each one
//! after them doubles the wait, up to a quarter of an hour. Whoever is told to wait is told for how
//! long, and what they try meanwhile is neither checked nor counted.
//!
//! A count by account alone would be a weapon: anybody could keep a user out by failing in their
//! name. So an address from which an account came in before is *known* to it, and has a count of
//! its own for this account. What strangers do elsewhere does not touch that count, and neither does
//! what others do behind the same address to other accounts.
//!
//! ```
//! use arkeep_auth::guard::LoginGuard;
//! use arkeep_core::Timestamp;
//!
//! let guard = LoginGuard::default();
//! let now = Timestamp::from_unix_seconds(1_750_000_000);
//! let stranger = "203.0.113.9".parse().ok();
//!
//! for _ in 0..LoginGuard::FREE_FAILURES {
//!     // Each is a failure unless somebody says otherwise.
//!     guard.admit("ada@example.com", stranger, now)?;
//! }
//! let told = guard.admit("ada@example.com", stranger, now).unwrap_err();
//! assert_eq!(told.retry_after.as_secs(), 1);
//! # Ok::<(), arkeep_auth::guard::Throttled>(())
//! ```

mod count;

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arkeep_core::Timestamp;
use aws_lc_rs::digest;

use count::{Charge, Counts};

/// Too many failures. Tell the client when to come back, with 429 and `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed attempts")]
pub struct Throttled {
    /// How long to wait, in whole seconds, at least one.
    pub retry_after: Duration,
}

/// Counts failed attempts, in this process.
///
/// # Security
///
/// Replicas count each for themselves: with three of them a guesser has three times the guesses.
/// Account names are kept as digests, and at most [`CAPACITY`](Self::CAPACITY) of each kind of
/// count: a flood of invented names costs the guesser a hash each, and pushes out the oldest counts.
///
/// The address must be the peer's, or what a proxy that the operator trusts says it is.
#[derive(Debug, Default)]
pub struct LoginGuard {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accounts: Counts<AccountKey>,
    networks: Counts<NetworkKey>,
    /// An account at an address it is known at.
    known: Counts<(AccountKey, NetworkKey)>,
}

type AccountKey = [u8; 16];
type NetworkKey = [u8; 16];

/// An attempt that may be made, and was counted as a failure in advance.
///
/// Counting first lets no crowd of simultaneous guesses through. An attempt that is dropped, because
/// its client hung up, stays a failure.
#[derive(Debug)]
#[must_use = "an attempt is a failure until it is settled"]
pub struct Attempt<'a> {
    guard: &'a LoginGuard,
    account: AccountKey,
    network: Option<NetworkKey>,
    charged: Charged,
    now: Timestamp,
}

#[derive(Debug, Clone, Copy)]
enum Charged {
    Stranger {
        account: Charge,
        network: Option<Charge>,
    },
    Known(Charge),
}

impl LoginGuard {
    /// So many failures cost no wait, for an account and for an account at a known address.
    pub const FREE_FAILURES: u32 = 5;
    /// So many failures cost no wait for an address, behind which there may be many.
    pub const FREE_FAILURES_OF_ADDRESS: u32 = 20;
    /// The longest wait.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
    /// After so long without a failure, a count begins anew.
    pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
    /// An address stays known for so long after the last login from it.
    pub const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    /// So many counts of a kind are kept.
    pub const CAPACITY: usize = 100_000;

    /// Lets one attempt be made for an account, whether or not it exists.
    pub fn admit(
        &self,
        account: &str,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Attempt<'_>, Throttled> {
        let account = account_key(account);
        let network = address.map(network_key);
        let charged = self.change(|state| state.charge(account, network, now))?;
        Ok(Attempt {
            guard: self,
            account,
            network,
            charged,
            now,
        })
    }

    /// Takes note that an account came in from an address, for instance as the list of its sessions
    /// shows.
    pub fn recognise(&self, account: &str, address: IpAddr, now: Timestamp) {
        let key = (account_key(account), network_key(address));
        self.change(|state| state.known.recognise(key, now));
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn charge(
        &mut self,
        account: AccountKey,
        network: Option<NetworkKey>,
        now: Timestamp,
    ) -> Result<Charged, Throttled> {
        if let Some(network) = network
            && self.known.contains(&(account, network), now)
        {
            let charge = self.known.charge((account, network), now)?;
            return Ok(Charged::Known(charge));
        }
        // Both are asked before either is charged.
        self.accounts
            .may(&account, LoginGuard::FREE_FAILURES, now)?;
        let network = match network {
            Some(network) => {
                self.networks
                    .may(&network, LoginGuard::FREE_FAILURES_OF_ADDRESS, now)?;
                Some(self.networks.add(network, now))
            }
            None => None,
        };
        let account = self.accounts.add(account, now);
        Ok(Charged::Stranger { account, network })
    }
}

impl Attempt<'_> {
    /// It was right: it was no failure, and its address is known from now.
    pub fn succeeded(self) {
        self.give_back();
        if let Some(network) = self.network {
            let key = (self.account, network);
            self.guard.change(|state| state.known.begin(key, self.now));
        }
    }

    /// It was not decided, because a store or the hashing was not to be had.
    pub fn undecided(self) {
        self.give_back();
    }

    fn give_back(&self) {
        self.guard.change(|state| match self.charged {
            Charged::Stranger { account, network } => {
                state.accounts.give_back(&self.account, account);
                if let (Some(key), Some(charge)) = (&self.network, network) {
                    state.networks.give_back(key, charge);
                }
            }
            Charged::Known(charge) => {
                if let Some(network) = self.network {
                    state.known.give_back(&(self.account, network), charge);
                }
            }
        });
    }
}

fn account_key(account: &str) -> AccountKey {
    let lower = account.to_ascii_lowercase();
    first_half(digest::digest(&digest::SHA256, lower.as_bytes()).as_ref())
}

/// A whole address of version 4; of version 6 the 64 bits that one subscriber has.
fn network_key(address: IpAddr) -> NetworkKey {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => (u128::from(address) >> 64 << 64).to_be_bytes(),
    }
}

fn first_half(digest: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(digest) {
        *to = *from;
    }
    half
}

#[cfg(test)]
mod tests;
