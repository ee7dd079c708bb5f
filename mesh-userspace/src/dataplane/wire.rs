//! From the agent's types to those of the maps, and back.

use crate::{
    config::{Forward, Protocol, ServiceKey},
    nexthop::NextHop,
};
use mesh_common::{
    abi::{self, BackendEntry, forward, protocol},
    encap,
};
use std::net::IpAddr;

/// A service's key as the maps have it.
#[must_use]
pub fn abi_key(key: ServiceKey) -> abi::ServiceKey {
    let port = key.port.to_be_bytes();
    let number = match key.protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
    };
    match key.vip {
        IpAddr::V4(vip) => abi::ServiceKey::v4(vip.octets(), port, number),
        IpAddr::V6(vip) => abi::ServiceKey::v6(vip.octets(), port, number),
    }
}

/// The VIP in a service's key.
#[must_use]
pub fn vip_of(key: abi::ServiceKey) -> IpAddr {
    host_address(key.vip())
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

/// The longest packet on any way: one byte less than what lengths that need more than 16 bits are taken for.
const LONGEST: u16 = u16::MAX - 1;

/// The entry of a living backend behind the service with id `service`.
#[must_use]
pub fn backend_entry(service: u32, port: u16, address: IpAddr, how: Forward, hop: &NextHop) -> BackendEntry {
    let (kind, overhead, checksum) = match (how, address, hop.source) {
        (Forward::L2, _, _) => (forward::L2, 0, 0),
        (Forward::Ipip, IpAddr::V4(address), IpAddr::V4(source)) => {
            let sum = encap::ipv4_sum(source.octets(), address.octets());
            (forward::IPV4, encap::LENGTH_IPV4, sum)
        }
        // The kernel's route to an address has a source of the same family.
        (Forward::Ipip, _, _) => (forward::IPV6, encap::LENGTH_IPV6, 0),
    };
    BackendEntry {
        destination_mac: hop.destination_mac,
        source_mac: hop.source_mac,
        forward: kind,
        alive: 1,
        reserved: [0; 2],
        ifindex: hop.ifindex,
        room: u16::try_from(hop.mtu).unwrap_or(u16::MAX).min(LONGEST).saturating_sub(overhead),
        port,
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
    fn no_way_has_room_for_lengths_beyond_16_bits() {
        for mtu in [0xfffe, 0xffff, 0x1_0000, u32::MAX] {
            let hop = NextHop { mtu, ..NextHop::some() };
            let entry = backend_entry(1, 80, [10, 0, 0, 1].into(), Forward::L2, &hop);
            assert_eq!(entry.room, 0xfffe);
        }
    }

    #[test]
    fn a_key_gives_its_vip_back() {
        for vip in ["192.0.2.10", "255.255.255.255", "2001:db8::10", "fd00::ffff:1.2.3.4"] {
            let key = ServiceKey { vip: vip.parse().unwrap(), port: 0xffff, protocol: Protocol::Udp };
            assert_eq!(vip_of(abi_key(key)), key.vip);
        }
    }

    #[test]
    fn addresses_come_back() {
        for address in ["10.1.2.3", "fd00::1", "::"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(host_address(wire_address(address)), address);
        }
    }
}
