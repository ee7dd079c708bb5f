//! From the agent's types to those of the maps, and back.

use crate::{
    config::{Oversized, Protocol, ServiceKey, is_address},
    delivery::Delivery,
    nexthop::NextHop,
};
use ipnet::IpNet;
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
        Protocol::Udp | Protocol::Quic => protocol::UDP,
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

/// The VIP in a service's key, or the prefix of them.
#[must_use]
pub fn vip_of(key: abi::ServiceKey) -> IpNet {
    let address = host_address(abi::whole(key.address()));
    let unmapped = if address.is_ipv4() { 96 } else { 0 };
    let length = key.extent().map_or(128, |extent| extent.length).saturating_sub(unmapped);
    IpNet::new(address, length).unwrap_or(address.into())
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

/// The entry of a living backend behind a service, which has the id `service`.
#[must_use]
pub fn backend_entry(
    service: u32,
    key: ServiceKey,
    address: IpAddr,
    delivery: &Delivery,
    hop: &NextHop,
) -> BackendEntry {
    // The kernel's route to an address has a source of the same family.
    let source = delivery.source(address, hop.source);
    let kind = delivery.kind(address, source);
    let mtu = u16::try_from(hop.mtu).unwrap_or(u16::MAX);
    BackendEntry {
        destination_mac: hop.destination_mac,
        source_mac: hop.source_mac,
        forward: kind,
        alive: 1,
        spread: source.spread,
        weight: 0,
        ifindex: hop.ifindex,
        room: mtu.min(LONGEST).saturating_sub(encap::overhead(kind, key.vip.addr().is_ipv4())),
        port: delivery.tunnel_port().or(delivery.port).or(key.ports.single()).unwrap_or(0),
        service,
        checksum: checksum(kind, source.prefix, address),
        tell: u8::from(delivery.oversized == Oversized::Tell),
        is_here: hop.is_here.into(),
        source: wire_address(source.prefix),
        address: wire_address(address),
    }
}

/// What the entry says about the checksum of an outer IPv4 header, if there is one.
fn checksum(kind: u8, source: IpAddr, address: IpAddr) -> u16 {
    match (source, address) {
        (IpAddr::V4(source), IpAddr::V4(address)) if kind != forward::L2 => {
            encap::ipv4_sum(source.octets(), address.octets())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Forward, OuterSource, Ports};

    #[test]
    fn no_way_has_room_for_lengths_beyond_16_bits() {
        for mtu in [0xfffe, 0xffff, 0x1_0000, u32::MAX] {
            let hop = NextHop { mtu, ..NextHop::some() };
            let key = ServiceKey::exact([192, 0, 2, 10].into(), 80, Protocol::Tcp);
            let entry = backend_entry(1, key, [10, 0, 0, 1].into(), &Delivery::plain(Forward::L2), &hop);
            assert_eq!(entry.room, 0xfffe);
        }
    }

    #[test]
    fn a_key_gives_its_vip_back() {
        for vip in ["192.0.2.10", "255.255.255.255", "2001:db8::10", "fd00::ffff:1.2.3.4"] {
            let key = ServiceKey::exact(vip.parse().unwrap(), 0xffff, Protocol::Udp);
            assert_eq!(vip_of(abi_key(key)), key.vip);
        }
        for vip in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/64"] {
            let key = ServiceKey { vip: vip.parse().unwrap(), ports: Ports::ANY, protocol: Protocol::Any };
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

    const WAYS: [Forward; 4] = [Forward::L2, Forward::Ipip, Forward::Gue, Forward::Geneve];

    fn entry(vip: &str, address: &str, delivery: &Delivery) -> BackendEntry {
        let key = ServiceKey::exact(vip.parse().unwrap(), 80, Protocol::Tcp);
        let own: IpAddr = if address.contains(':') { "fd00::9" } else { "10.0.0.9" }.parse().unwrap();
        let hop = NextHop { source: own, ..NextHop::some() };
        backend_entry(1, key, address.parse().unwrap(), delivery, &hop)
    }

    /// The MTU is 1500. Outer IPv4 or IPv6: 20 or 40; UDP: 8; Geneve: 8, its option 4 and 8 or 20.
    #[test]
    fn what_is_put_in_front_is_taken_from_the_mtu() {
        let rooms = |vip, address| WAYS.map(|way| entry(vip, address, &Delivery::plain(way)).room);
        assert_eq!(rooms("192.0.2.1", "10.0.0.1"), [1500, 1480, 1472, 1452]);
        assert_eq!(rooms("2001:db8::1", "10.0.0.1"), [1500, 1480, 1472, 1440]);
        assert_eq!(rooms("192.0.2.1", "fd00::1"), [1500, 1460, 1452, 1432]);
        assert_eq!(rooms("2001:db8::1", "fd00::1"), [1500, 1460, 1452, 1420]);
    }

    #[test]
    fn udp_has_a_port_of_its_own() {
        let ports = |tunnel_port| {
            WAYS.map(|way| {
                entry("192.0.2.1", "10.0.0.1", &Delivery { tunnel_port, ..Delivery::plain(way) }).port
            })
        };
        assert_eq!(ports(None), [80, 80, 6080, 6081]);
        assert_eq!(ports(Some(7000)), [80, 80, 7000, 7000]);
    }

    #[test]
    fn sources_spread_as_far_as_the_prefix_and_the_program_allow() {
        for (way, (prefix, address, source, spread)) in WAYS.into_iter().flat_map(|way| {
            [
                ("10.255.0.0/16", "10.0.0.1", "10.255.0.0", 16),
                ("10.0.0.0/8", "10.0.0.1", "10.0.0.0", 16),
                ("10.255.4.0/22", "10.0.0.1", "10.255.4.0", 10),
                ("10.255.4.1/32", "10.0.0.1", "10.255.4.1", 0),
                ("10.255.0.0/16", "fd00::1", "fd00::9", 0),
                ("fd00:1::/64", "fd00::1", "fd00:1::", 32),
                ("fd00:1::/120", "fd00::1", "fd00:1::", 8),
                ("fd00:1::/64", "10.0.0.1", "10.0.0.9", 0),
            ]
            .map(|case| (way, case))
        }) {
            let outer_source = match prefix.parse().unwrap() {
                IpNet::V4(net) => OuterSource { v4: Some(net), v6: None },
                IpNet::V6(net) => OuterSource { v4: None, v6: Some(net) },
            };
            let entry = entry("192.0.2.1", address, &Delivery { outer_source, ..Delivery::plain(way) });
            let own = if address.contains(':') { "fd00::9" } else { "10.0.0.9" };
            let expected = if way == Forward::L2 { (own, 0) } else { (source, spread) };
            assert_eq!(
                (host_address(entry.source).to_string().as_str(), entry.spread),
                expected,
                "{way} {prefix}"
            );
        }
    }
}
