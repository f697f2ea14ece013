use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Which addresses may be called.
///
/// Whoever may name a provider could otherwise make this process knock at its own machine's doors,
/// or ask a cloud for the machine's credentials. Loopback, link-local, multicast and the addresses
/// at which clouds answer their machines are refused unless [`also`](Self::also) allows them;
/// private networks are where many providers live, and are not refused.
#[derive(Clone, Default)]
pub struct Reach {
    also: Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>,
}

impl Reach {
    /// Allows these addresses, too.
    #[must_use]
    pub fn also(allowed: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self {
            also: Some(Arc::new(allowed)),
        }
    }

    /// Whether this address may be called.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let allowed = self.also.as_ref().is_some_and(|also| also(address));
        allowed || !is_special(address)
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").finish_non_exhaustive()
    }
}

fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_special_v4(address),
        IpAddr::V6(address) => is_special_v6(address),
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first == 0
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || CLOUDS.contains(&address)
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let inner = |high: u16, low: u16| {
        let bits = u32::from(high) << 16 | u32::from(low);
        is_special_v4(Ipv4Addr::from(bits))
    };
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || [a, b, c, d, e, f, g, h] == AWS
        // A gateway may turn these into addresses of version 4: RFC 6052 §2.1, RFC 8215, RFC 3056,
        // and RFC 4291 §2.5.5.1.
        || ([a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] && inner(g, h))
        || ([a, b, c] == [0x64, 0xff9b, 1])
        || (a == 0x2002 && inner(b, c))
        || ([a, b, c, d, e, f] == [0; 6] && inner(g, h))
}

// Where clouds answer their machines, besides 169.254.169.254: Azure, Alibaba, Oracle.
const CLOUDS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
const AWS: [u16; 8] = [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254];

#[cfg(test)]
mod tests {
    use super::*;

    /// S11
    #[test]
    fn the_own_machine_and_the_clouds_doors_are_out_of_reach() {
        for text in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
        ] {
            let address = text.parse().unwrap();
            assert!(!Reach::default().covers(address), "{text}");
            assert!(Reach::also(|_| true).covers(address), "{text}");
        }
        for text in [
            "192.0.2.1",
            "10.1.2.3",
            "2001:db8::1",
            "fd12::1",
            "64:ff9b::c000:201",
        ] {
            assert!(Reach::default().covers(text.parse().unwrap()), "{text}");
        }
    }
}
