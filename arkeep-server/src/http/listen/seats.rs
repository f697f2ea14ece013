use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Cidr;

/// The connections that there may be, in all and of each address.
#[derive(Debug)]
pub(super) struct Seats {
    all: Arc<Semaphore>,
    taken: Arc<Taken>,
    of_one: usize,
    /// Many people come from their addresses.
    trusted_proxies: Vec<Cidr>,
}

/// A seat for somebody who has not come yet.
#[derive(Debug)]
pub(super) struct Free<'a> {
    seats: &'a Seats,
    permit: OwnedSemaphorePermit,
}

/// A seat that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    taken: Arc<Taken>,
    by: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Taken(Mutex<HashMap<IpAddr, usize>>);

impl Taken {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    pub(super) fn new(all: usize, of_one: usize, trusted_proxies: Vec<Cidr>) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            taken: Arc::default(),
            of_one,
            trusted_proxies,
        }
    }

    /// Waits until there is a free one.
    pub(super) async fn free(&self) -> io::Result<Free<'_>> {
        let permit = Arc::clone(&self.all).acquire_owned().await;
        Ok(Free {
            seats: self,
            permit: permit.map_err(io::Error::other)?,
        })
    }
}

impl Free<'_> {
    /// Gives the seat to an address, unless it has its share.
    pub(super) fn take(self, address: IpAddr) -> Option<Seat> {
        let seats = self.seats;
        let address = address.to_canonical();
        let is_proxy = seats
            .trusted_proxies
            .iter()
            .any(|network| network.contains(address));
        let by = (!is_proxy).then(|| household(address));
        if let Some(by) = by {
            let mut taken = seats.taken.lock();
            let held = taken.entry(by).or_default();
            if *held >= seats.of_one {
                return None;
            }
            *held += 1;
        }
        Some(Seat {
            taken: Arc::clone(&seats.taken),
            by,
            _permit: self.permit,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(by) = self.by else { return };
        let mut taken = self.taken.lock();
        if let Some(held) = taken.get_mut(&by) {
            *held -= 1;
            if *held == 0 {
                taken.remove(&by);
            }
        }
    }
}

// Whoever has one address of IPv6 has a whole /64 of them.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(seats: &Seats, address: &str) -> Option<Seat> {
        let address = address.parse().expect("an address");
        seats.free().await.expect("open").take(address)
    }

    /// S10
    #[tokio::test]
    async fn one_address_has_its_share_and_no_more() {
        let seats = Seats::new(8, 2, Vec::new());

        let first = take(&seats, "192.0.2.1").await;
        let second = take(&seats, "::ffff:192.0.2.1").await;
        assert!(first.is_some() && second.is_some());
        assert!(take(&seats, "192.0.2.1").await.is_none());

        assert!(take(&seats, "192.0.2.2").await.is_some());
        drop(first);
        assert!(take(&seats, "192.0.2.1").await.is_some());
    }

    /// S10
    #[tokio::test]
    async fn a_network_of_ipv6_counts_as_one() {
        let seats = Seats::new(8, 1, Vec::new());

        let first = take(&seats, "2001:db8::1").await;

        assert!(first.is_some());
        assert!(take(&seats, "2001:db8::ffff:2").await.is_none());
        assert!(take(&seats, "2001:db8:0:1::1").await.is_some());
    }

    /// S10
    #[tokio::test]
    async fn a_trusted_proxy_speaks_for_many() {
        let proxy = "10.0.0.0/8".parse().expect("a network");
        let seats = Seats::new(8, 1, vec![proxy]);

        let first = take(&seats, "10.1.2.3").await;
        let second = take(&seats, "10.1.2.3").await;

        assert!(first.is_some() && second.is_some());
    }
}
