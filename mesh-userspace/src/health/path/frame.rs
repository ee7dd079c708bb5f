//! From a probe's packet to the frame that the balancer would send: pure.

use std::net::{IpAddr, SocketAddr};

use mesh_common::abi::{BackendEntry, ServiceKey, protocol};
use mesh_common::encap::{Headers, Inner};

use super::device::Asker;
use crate::dataplane::{exact_key, flow_hash};

/// What a packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    /// Whose it is.
    pub(super) from: Asker,
    inner: Inner,
    /// Whom it is for.
    destination: ServiceKey,
}

/// Reads a packet of this host's own, which has no extension headers and is no fragment; `None`: another one.
pub(super) fn read(packet: &[u8]) -> Option<Read> {
    let length = u16::try_from(packet.len()).ok()?;
    let (number, header, traffic_class, family, source, vip) = match packet {
        [first, class, _, _, _, _, _, _, _, number, _, _, rest @ ..] if first >> 4 == 4 => {
            let (source, rest) = rest.split_first_chunk::<4>()?;
            let vip = rest.first_chunk::<4>()?;
            let header = usize::from(first & 0xf) * 4;
            (*number, header, *class, protocol::IPIP, IpAddr::from(*source), IpAddr::from(*vip))
        }
        [first, second, _, _, _, _, number, _, rest @ ..] if first >> 4 == 6 => {
            let (source, rest) = rest.split_first_chunk::<16>()?;
            let vip = rest.first_chunk::<16>()?;
            let class = first << 4 | second >> 4;
            (*number, 40, class, protocol::IPV6, IpAddr::from(*source), IpAddr::from(*vip))
        }
        _ => return None,
    };
    let message = packet.get(header..)?;
    let [own, port] = match (number, message) {
        (protocol::TCP | protocol::UDP, [a, b, c, d, ..]) => [[*a, *b], [*c, *d]],
        // An echo request's identifier.
        (1 | 58, [_, _, _, _, a, b, ..]) => [[*a, *b], [0, 0]],
        _ => return None,
    };
    let from = Asker { number, address: source, port: u16::from_be_bytes(own) };
    let destination = exact_key(vip, u16::from_be_bytes(port), number);
    Some(Read { from, inner: Inner { length, traffic_class, protocol: family }, destination })
}

/// The packet as the backend gets it; `None` where it is too long for the way.
pub(super) fn wrapped(packet: &[u8], read: &Read, entry: &BackendEntry) -> Option<Vec<u8>> {
    if read.inner.length > entry.room {
        return None;
    }
    // Another hash than that of clients: what differs by it is where from, and which of many ways.
    let hash = flow_hash(0, SocketAddr::new(read.from.address, read.from.port));
    let headers = Headers::new(entry, read.inner, read.destination, hash)?;
    Some([headers.as_bytes(), packet].concat())
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket};

    use super::*;
    use crate::config::{Forward, Protocol};
    use crate::dataplane::backend_entry;
    use crate::delivery::Delivery;
    use crate::nexthop::NextHop;

    fn entry(forward: Forward, mtu: u32) -> BackendEntry {
        let key = crate::config::ServiceKey::exact([192, 0, 2, 10].into(), 80, Protocol::Tcp);
        let hop = NextHop { mtu, ..NextHop::some() };
        backend_entry(0, key, [10, 0, 0, 1].into(), &Delivery::plain(forward), &hop)
    }

    fn packet(is_ipv4: bool) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = if is_ipv4 {
            PacketBuilder::ipv4([10, 0, 0, 9], [192, 0, 2, 10], 1)
        } else {
            PacketBuilder::ipv6([9; 16], [10; 16], 1)
        };
        builder.tcp(50_000, 80, 1, 1000).syn().write(&mut packet, b"").unwrap();
        packet
    }

    #[test]
    fn a_packet_tells_its_socket_and_whom_it_is_for() {
        for (is_ipv4, source) in [(true, [10, 0, 0, 9].into()), (false, IpAddr::from([9; 16]))] {
            let packet = packet(is_ipv4);
            let read = read(&packet).unwrap();
            assert_eq!(read.from, Asker { number: 6, address: source, port: 50_000 });
            assert_eq!((read.destination.port(), read.destination.protocol()), ([0, 80], 6));
            assert_eq!(usize::from(read.inner.length), packet.len());
        }
        let mut echo = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 9], [192, 0, 2, 10], 1)
            .icmpv4_echo_request(0x1234, 1)
            .write(&mut echo, b"x")
            .unwrap();
        assert_eq!(read(&echo).unwrap().from.port, 0x1234);
    }

    #[test]
    fn what_is_no_probe_is_nothing() {
        for packet in [&b""[..], &[0x45; 4], &[0x60; 30], &[0x45; 20], &[0x75; 60]] {
            assert_eq!(read(packet), None);
        }
        let mut sctp = packet(true);
        sctp[9] = 132;
        assert_eq!(read(&sctp), None);
    }

    #[test]
    fn a_packet_is_wrapped_whole_and_not_when_it_is_too_long() {
        for forward in [Forward::L2, Forward::Ipip, Forward::Gue, Forward::Geneve] {
            for is_ipv4 in [true, false] {
                let packet = packet(is_ipv4);
                let read = read(&packet).unwrap();
                let frame = wrapped(&packet, &read, &entry(forward, 1500)).unwrap();
                assert!(frame.ends_with(&packet), "{forward}");
                assert_eq!((frame.len() == 14 + packet.len()), forward == Forward::L2);
                SlicedPacket::from_ethernet(&frame).unwrap();
                assert_eq!(wrapped(&packet, &read, &entry(forward, 30)), None);
            }
        }
    }
}
