//! From bytes to a flow: Ethernet, IPv4 and IPv6, TCP and UDP.

use crate::client::{Client4, Client6};
use mesh_common::{
    abi::{ServiceKey, protocol},
    flow::Segment,
    outcome::Outcome,
};
use mesh_ebpf::packet::{Packet, Tcp};
use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
};

/// Where the IP header begins.
pub(crate) const IP: usize = EthHdr::LEN;

/// What the rest of the way needs to know about a packet.
pub(crate) struct Flow<C> {
    /// Whom the packet is for.
    pub(crate) service: ServiceKey,
    /// Whom it comes from.
    pub(crate) client: C,
    /// What it does to the flow.
    pub(crate) segment: Segment,
    /// Bytes from the IP header on, as the header says.
    pub(crate) length: u16,
    /// TOS or traffic class.
    pub(crate) traffic_class: u8,
}

struct Transport {
    source: [u8; 2],
    destination: [u8; 2],
    segment: Segment,
}

/// The flow of an IPv4 packet (RFC 791).
#[inline(always)]
pub(crate) fn ipv4(packet: &Packet) -> Result<Flow<Client4>, Outcome> {
    const OFFSET_OR_MORE: u16 = 0x3fff;
    let header: Ipv4Hdr = packet.read(IP).ok_or(Outcome::Truncated)?;
    if u16::from_be_bytes(header.frags) & OFFSET_OR_MORE != 0 {
        return Err(Outcome::Fragment);
    }
    let transport = match header.vihl {
        0x45 => transport(packet, IP + Ipv4Hdr::LEN, header.proto)?,
        0x46..=0x4f => transport(packet, IP + usize::from(header.vihl & 0xf) * 4, header.proto)?,
        _ => return Err(Outcome::Truncated),
    };
    Ok(Flow {
        service: ServiceKey::v4(header.dst_addr, transport.destination, header.proto),
        client: Client4 { address: header.src_addr, port: transport.source },
        segment: transport.segment,
        length: u16::from_be_bytes(header.tot_len),
        traffic_class: header.tos,
    })
}

/// The flow of an IPv6 packet (RFC 8200) whose transport header follows at once.
#[inline(always)]
pub(crate) fn ipv6(packet: &Packet) -> Result<Flow<Client6>, Outcome> {
    let header: Ipv6Hdr = packet.read(IP).ok_or(Outcome::Truncated)?;
    let transport = transport(packet, IP + Ipv6Hdr::LEN, header.next_hdr)?;
    // A length beyond 16 bits saturates; no frame holds it, or its path.
    let length = u16::from_be_bytes(header.payload_len).saturating_add(40);
    Ok(Flow {
        service: ServiceKey::v6(header.dst_addr, transport.destination, header.next_hdr),
        client: Client6 { address: header.src_addr, port: transport.source },
        segment: transport.segment,
        length,
        traffic_class: traffic_class(header.vcf),
    })
}

/// Bits 4 to 11 of the IPv6 header (RFC 8200 §3).
#[inline(always)]
const fn traffic_class([first, second, ..]: [u8; 4]) -> u8 {
    first << 4 | second >> 4
}

#[inline(always)]
fn transport(packet: &Packet, offset: usize, number: u8) -> Result<Transport, Outcome> {
    match number {
        protocol::TCP => tcp(packet, offset),
        protocol::UDP => udp(packet, offset),
        _ => Err(Outcome::OtherProtocol),
    }
}

#[inline(always)]
fn tcp(packet: &Packet, offset: usize) -> Result<Transport, Outcome> {
    let header: Tcp = packet.read(offset).ok_or(Outcome::Truncated)?;
    Ok(Transport {
        source: header.source,
        destination: header.destination,
        segment: Segment::tcp(header.flags),
    })
}

#[inline(always)]
fn udp(packet: &Packet, offset: usize) -> Result<Transport, Outcome> {
    let header: UdpHdr = packet.read(offset).ok_or(Outcome::Truncated)?;
    Ok(Transport { source: header.src, destination: header.dst, segment: Segment::Datagram })
}
