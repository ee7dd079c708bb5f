//! From the agent's types to those of the maps, and back.

use crate::{
    config::{Forward, Protocol, ServiceKey, is_address},
    nexthop::NextHop,
};
use mesh_common::{
    abi::{self, BackendEntry, forward, protocol},
    encap,
};
use std::net::IpAddr;

/// A service's key as the maps have it: that of its packets if it owns one port of one address.
#[must_use]
pub fn abi_key(key: ServiceKey) -> abi::ServiceKey {
    let number = match key.protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
        Protocol::Any => 0,
    };
    if let (Some(port), true) = (key.ports.single(), is_address(key.vip)) {
        return exact_key(key.vip.addr(), port, number);
    }
    let (length, ports) = (key.vip.prefix_len(), [key.ports.first(), key.ports.last()]);
    match key.vip.addr() {
        IpAddr::V4(vip) => abi::ServiceKey::wide4(vip.octets(), length, ports, number),
        IpAddr::V6(vip) => abi::ServiceKey::wide6(vip.octets(), length, ports, number),
    }
}

/// The key of the service of one port of one address, as packets make it.
#[must_use]
pub fn exact_key(vip: IpAddr, port: u16, number: u8) -> abi::ServiceKey {
    let port = port.to_be_bytes();
    match vip {
        IpAddr::V4(vip) => abi::ServiceKey::v4(vip.octets(), port, number),
        IpAddr::V6(vip) => abi::ServiceKey::v6(vip.octets(), port, number),
    }
}

/// An address as the maps have it: IPv4 as an IPv4-mapped address.
#[must_use]
pub const fn wire_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => encap::map_ipv4(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// An address from the maps.
#[must_use]
pub fn host_address(address: [u8; 16]) -> IpAddr {
    if encap::is_mapped(address) { IpAddr::from(encap::unmap_ipv4(address)) } else { IpAddr::from(address) }
}

/// The entry of a living backend behind the service with id `service`. Without `port`, packets keep theirs.
#[must_use]
pub fn backend_entry(
    service: u32,
    port: Option<u16>,
    address: IpAddr,
    how: Forward,
    hop: &NextHop,
) -> BackendEntry {
    let (kind, checksum) = match (how, address, hop.source) {
        (Forward::L2, _, _) => (forward::L2, 0),
        (Forward::Ipip, IpAddr::V4(address), IpAddr::V4(source)) => {
            (forward::IPV4, encap::ipv4_sum(source.octets(), address.octets()))
        }
        // The kernel's route to an address has a source of the same family.
        (Forward::Ipip, _, _) => (forward::IPV6, 0),
    };
    BackendEntry {
        destination_mac: hop.destination_mac,
        source_mac: hop.source_mac,
        forward: kind,
        alive: 1,
        resolved: 1,
        reserved: 0,
        ifindex: hop.ifindex,
        mtu: u16::try_from(hop.mtu).unwrap_or(u16::MAX),
        port: port.unwrap_or(0),
        service,
        checksum,
        source: wire_address(hop.source),
        address: wire_address(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for address in ["10.1.2.3", "fd00::1", "::"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(host_address(wire_address(address)), address);
        }
    }
}
