//! The identity of a service.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Protocol;

/// What makes a service the same service over reloads: VIP, port and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The address that clients talk to.
    pub vip: IpAddr,
    /// The port that clients talk to.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.vip, self.port), self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(vip: &str, port: u16, protocol: Protocol) -> String {
        ServiceKey { vip: vip.parse().unwrap(), port, protocol }.to_string()
    }

    #[test]
    fn ipv6_is_shown_in_brackets() {
        assert_eq!(shown("203.0.113.10", 80, Protocol::Tcp), "203.0.113.10:80/tcp");
        assert_eq!(shown("2001:db8::10", 53, Protocol::Udp), "[2001:db8::10]:53/udp");
    }
}
