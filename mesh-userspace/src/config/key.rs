//! The identity of a service.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Protocol;

/// What makes a service the same service over reloads: VIP, ports and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The address that clients talk to, or the prefix of such addresses; no bit is set behind the prefix.
    pub vip: IpNet,
    /// The ports that clients talk to.
    pub ports: Ports,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl ServiceKey {
    /// The key of one port of one address.
    #[must_use]
    pub fn exact(vip: IpAddr, port: u16, protocol: Protocol) -> Self {
        Self { vip: vip.into(), ports: Ports::one(port), protocol }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vip, Self { ports, protocol, .. }) = (Vip(self.vip), self);
        match self.vip {
            IpNet::V4(_) => write!(f, "{vip}:{ports}/{protocol}"),
            IpNet::V6(_) => write!(f, "[{vip}]:{ports}/{protocol}"),
        }
    }
}

/// Shows a VIP: one address without the length of its prefix.
#[derive(Debug, Clone, Copy)]
pub struct Vip(pub IpNet);

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_address(self.0) { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// Whether a VIP is one address.
#[must_use]
pub fn is_address(vip: IpNet) -> bool {
    vip.prefix_len() == vip.max_prefix_len()
}

/// The ports of a service: one, a range, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Every port, and packets that have none.
    pub const ANY: Self = Self { first: 0, last: u16::MAX };

    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The ports from `first` to `last`, which is no lower.
    pub(super) const fn between(first: u16, last: u16) -> Self {
        assert!(first <= last);
        Self { first, last }
    }

    /// The ports from `first` to `last`; `None` when there are none.
    #[must_use]
    pub const fn range(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// The lowest.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether a port is one of them.
    #[must_use]
    pub const fn contain(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// The port, if it is one.
    #[must_use]
    pub const fn single(self) -> Option<u16> {
        if self.first == self.last { Some(self.first) } else { None }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.single()) {
            (Self::ANY, _) => f.write_str("any"),
            (_, Some(port)) => write!(f, "{port}"),
            (Self { first, last }, None) => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(vip: &str, ports: Ports, protocol: Protocol) -> String {
        let vip = vip.parse().unwrap_or_else(|_| vip.parse::<IpAddr>().unwrap().into());
        ServiceKey { vip, ports, protocol }.to_string()
    }

    #[test]
    fn ipv6_is_shown_in_brackets() {
        assert_eq!(shown("203.0.113.10", Ports::one(80), Protocol::Tcp), "203.0.113.10:80/tcp");
        assert_eq!(shown("2001:db8::10", Ports::one(53), Protocol::Udp), "[2001:db8::10]:53/udp");
    }

    #[test]
    fn what_is_wide_is_shown_as_it_is_configured() {
        let range = Ports::range(8000, 8100).unwrap();
        assert_eq!(shown("203.0.113.0/24", range, Protocol::Tcp), "203.0.113.0/24:8000-8100/tcp");
        assert_eq!(shown("2001:db8::/64", Ports::ANY, Protocol::Any), "[2001:db8::/64]:any/any");
        assert_eq!(shown("203.0.113.10/32", Ports::ANY, Protocol::Udp), "203.0.113.10:any/udp");
    }
}
