//! From bytes to a flow: Ethernet, IPv4 and IPv6, TCP and UDP, and ICMP errors about them.

use crate::{
    client::{Client4, Client6},
    icmp, maps,
};
use mesh_common::{
    abi::{ServiceKey, protocol, whole},
    flow::Signs,
    icmp::{ICMP, ICMPV6},
    outcome::Outcome,
};
use mesh_ebpf::{
    header::{Ethernet, Ipv4, Ipv6, Ports, Tcp, Udp},
    packet::Packet,
};

/// Where the IP header begins.
pub(crate) const IP: usize = Ethernet::LENGTH;

/// What the rest of the way needs to know about a packet.
pub(crate) struct Flow<C> {
    /// Whom the packet is for.
    pub(crate) service: ServiceKey,
    /// Whom it comes from.
    pub(crate) client: C,
    /// What it shows of the flow.
    pub(crate) signs: Signs,
    /// Bytes from the IP header on, as the header says.
    pub(crate) length: u16,
    /// Bytes from the IP header on that the headers take; a whole packet has no fewer.
    pub(crate) headers: usize,
    /// TOS or traffic class.
    pub(crate) traffic_class: u8,
}

struct Transport {
    ports: Ports,
    signs: Signs,
    /// Where the header ends.
    end: usize,
}

/// The flow of an IPv4 packet (RFC 791).
#[inline(always)]
pub(crate) fn ipv4(packet: &Packet) -> Result<Flow<Client4>, Outcome> {
    const OFFSET_OR_MORE: u16 = 0x3fff_u16.to_be();
    let header: &Ipv4 = packet.view(IP).ok_or(Outcome::Truncated)?;
    if header.fragment & OFFSET_OR_MORE != 0 {
        return Err(Outcome::Fragment);
    }
    match header.version_length {
        0x45 => behind_ipv4(packet, IP + Ipv4::LENGTH, header),
        0x46..=0x4f => behind_ipv4(packet, IP + usize::from(header.version_length & 0xf) * 4, header),
        _ => Err(Outcome::Truncated),
    }
}

#[inline(always)]
fn behind_ipv4(packet: &Packet, at: usize, header: &Ipv4) -> Result<Flow<Client4>, Outcome> {
    if header.protocol == ICMP {
        return icmp::about_ipv4(packet, at, header);
    }
    let Transport { ports, signs, end } = transport(packet, at, header.protocol)?;
    Ok(Flow {
        service: ServiceKey::v4(
            header.destination.to_ne_bytes(),
            ports.destination.to_ne_bytes(),
            header.protocol,
        ),
        client: Client4 { address: header.source, port: ports.source },
        signs,
        length: u16::from_be(header.length),
        headers: end - IP,
        traffic_class: header.traffic_class,
    })
}

/// The flow of an IPv6 packet (RFC 8200) whose transport header follows at once.
#[inline(always)]
pub(crate) fn ipv6(packet: &Packet) -> Result<Flow<Client6>, Outcome> {
    let header: &Ipv6 = packet.view(IP).ok_or(Outcome::Truncated)?;
    if header.version() != 6 {
        return Err(Outcome::Truncated);
    }
    if header.next == ICMPV6 {
        return icmp::about_ipv6(packet, IP + Ipv6::LENGTH, header);
    }
    let Transport { ports, signs, end } = transport(packet, IP + Ipv6::LENGTH, header.next)?;
    Ok(Flow {
        service: ServiceKey::v6(whole(header.destination), ports.destination.to_ne_bytes(), header.next),
        client: Client6 { address: header.source, port: ports.source },
        signs,
        // A length beyond 16 bits saturates; no frame holds it, or its path.
        length: u16::from_be(header.length).saturating_add(40),
        headers: end - IP,
        traffic_class: header.traffic_class(),
    })
}

#[inline(always)]
fn transport(packet: &Packet, offset: usize, number: u8) -> Result<Transport, Outcome> {
    match number {
        protocol::TCP => tcp(packet, offset),
        protocol::UDP => udp(packet, offset),
        // Without ports, it can only be for a service of any protocol.
        _ if maps::any_wide() => Ok(Transport { ports: Ports::NONE, signs: Signs::DATAGRAM, end: offset }),
        _ => Err(Outcome::OtherProtocol),
    }
}

#[inline(always)]
fn tcp(packet: &Packet, offset: usize) -> Result<Transport, Outcome> {
    let header: &Tcp = packet.view(offset).ok_or(Outcome::Truncated)?;
    Ok(Transport { ports: header.ports, signs: Signs::tcp(header.flags), end: offset + size_of::<Tcp>() })
}

#[inline(always)]
fn udp(packet: &Packet, offset: usize) -> Result<Transport, Outcome> {
    let header: &Udp = packet.view(offset).ok_or(Outcome::Truncated)?;
    Ok(Transport { ports: header.ports, signs: Signs::DATAGRAM, end: offset + size_of::<Udp>() })
}
