//! Who has which address. Subnets repeat in every topology: namespaces keep them apart.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};

/// Both addresses of one interface.
pub(crate) type Pair = (Ipv4Addr, Ipv6Addr);

/// A /24 and a /64 on one wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subnet {
    v4: [u8; 3],
    v6: u16,
}

/// Where the balancer and the backends are, and the client unless it is behind a router.
pub(crate) const FABRIC: Subnet = Subnet { v4: [10, 77, 0], v6: 0xfd77 };

/// The client's own subnet behind a router.
pub(crate) const OUTSIDE: Subnet = Subnet { v4: [10, 78, 0], v6: 0xfd78 };

pub(crate) const ROUTER: u8 = 1;
pub(crate) const BALANCER: u8 = 10;
pub(crate) const CLIENT: u8 = 20;

/// Backend 1 is .101, and there is room up to .254.
const FIRST_BACKEND: usize = 101;

impl Subnet {
    pub(crate) fn host(self, number: u8) -> Pair {
        let [a, b, c] = self.v4;
        let v6 = Ipv6Addr::new(self.v6, 0, 0, 0, 0, 0, 0, number.into());
        (Ipv4Addr::new(a, b, c, number), v6)
    }

    /// `ip` commands that give `interface` the addresses and bring it up.
    pub(crate) fn assign(self, interface: &str, number: u8) -> String {
        let (v4, v6) = self.host(number);
        format!(
            "addr add {v4}/24 dev {interface}\naddr add {v6}/64 dev {interface} nodad\nlink set {interface} up\n"
        )
    }
}

/// The host number of the backend with this 1-based index.
pub(crate) fn backend(index: usize) -> Result<u8> {
    let number = FIRST_BACKEND - 1 + index;
    ensure!((FIRST_BACKEND..=254).contains(&number), "there is no room for backend {index}");
    Ok(u8::try_from(number)?)
}

/// `ip` commands for default routes of both families.
pub(crate) fn default_routes((v4, v6): Pair) -> String {
    format!("route add 0.0.0.0/0 via {v4}\nroute add ::/0 via {v6}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_count_from_101_to_254() {
        assert_eq!(backend(1).unwrap(), 101);
        assert_eq!(backend(154).unwrap(), 254);
        assert!(backend(0).is_err());
        assert!(backend(155).is_err());
    }
}
