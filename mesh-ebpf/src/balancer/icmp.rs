//! ICMP: errors about flows go where the flows are, and senders of packets that are too long are told so.

use crate::{
    client::{Client4, Client6},
    maps,
    parse::{Flow, IP},
};
use mesh_common::{
    abi::{ServiceKey, protocol, whole},
    flow::Signs,
    icmp,
    outcome::Outcome,
};
use mesh_ebpf::{
    header::{Icmp, Ipv4, Ipv6, Macs, Ports},
    packet::{Header, Packet},
};

/// The flow that an ICMP error is about. The error quotes a packet of the backend, which came from the VIP and went
/// to the client. Everything else of ICMP is the host's.
#[inline(always)]
pub(crate) fn about_ipv4(packet: &Packet, at: usize, outer: &Ipv4) -> Result<Flow<Client4>, Outcome> {
    let quoted = at + size_of::<Icmp>();
    let header: &Icmp = packet.view(at).ok_or(Outcome::Truncated)?;
    let inner: &Ipv4 = packet.view(quoted).ok_or(Outcome::OtherProtocol)?;
    let known =
        icmp::is_error4(header.kind) && inner.version_length >> 4 == 4 && inner.protocol != icmp::ICMP;
    if !known || inner.is_later_fragment() {
        return Err(Outcome::OtherProtocol);
    }
    let end = quoted + usize::from(inner.version_length & 0xf) * 4;
    let ports = quoted_ports(packet, end, inner.protocol).ok_or(Outcome::OtherProtocol)?;
    Ok(Flow {
        service: ServiceKey::v4(inner.source.to_ne_bytes(), ports.source.to_ne_bytes(), inner.protocol),
        client: Client4 { address: inner.destination, port: ports.destination },
        signs: Signs::RELATED,
        length: u16::from_be(outer.length),
        headers: quoted - IP,
        traffic_class: outer.traffic_class,
    })
}

/// As [`about_ipv4`], for ICMPv6 errors about packets without extension headers.
#[inline(always)]
pub(crate) fn about_ipv6(packet: &Packet, at: usize, outer: &Ipv6) -> Result<Flow<Client6>, Outcome> {
    let quoted = at + size_of::<Icmp>();
    let header: &Icmp = packet.view(at).ok_or(Outcome::Truncated)?;
    let inner: &Ipv6 = packet.view(quoted).ok_or(Outcome::OtherProtocol)?;
    if !icmp::is_error6(header.kind) || inner.version() != 6 || inner.next == icmp::ICMPV6 {
        return Err(Outcome::OtherProtocol);
    }
    let ports = quoted_ports(packet, quoted + Ipv6::LENGTH, inner.next).ok_or(Outcome::OtherProtocol)?;
    Ok(Flow {
        service: ServiceKey::v6(whole(inner.source), ports.source.to_ne_bytes(), inner.next),
        client: Client6 { address: inner.destination, port: ports.destination },
        signs: Signs::RELATED,
        length: u16::from_be(outer.length).saturating_add(40),
        headers: quoted - IP,
        traffic_class: outer.traffic_class(),
    })
}

/// The ports of a quoted packet: none, if its protocol has none and there may be a service of any protocol.
#[inline(always)]
fn quoted_ports(packet: &Packet, at: usize, number: u8) -> Option<Ports> {
    match number {
        protocol::TCP | protocol::UDP => packet.view(at).copied(),
        _ => maps::any_wide().then_some(Ports::NONE),
    }
}

/// Answers an IPv4 packet with "fragmentation needed", if it must not be fragmented or `always`.
#[inline(always)]
pub(crate) fn tell_ipv4(packet: Packet, mtu: u16, always: bool) -> Option<()> {
    let header: &Ipv4 = packet.view(IP)?;
    if !(always || header.is_unfragmentable()) || header.version_length != 0x45 {
        return None;
    }
    let quoted: [u32; icmp::QUOTED4] = packet.read(IP)?;
    answer(packet, icmp::fragmentation_needed(&quoted, mtu))
}

/// Answers an IPv6 packet with "packet too big".
#[inline(always)]
pub(crate) fn tell_ipv6(packet: Packet, mtu: u16) -> Option<()> {
    let quoted: [u32; icmp::QUOTED6] = packet.read(IP)?;
    answer(packet, icmp::packet_too_big(&quoted, mtu))
}

/// Sends an error, instead of the packet that it is about, back to where that came from.
#[inline(always)]
fn answer<E: Header>(mut packet: Packet, error: E) -> Option<()> {
    if !maps::may_answer() {
        return None;
    }
    let macs: &Macs = packet.view(0)?;
    let swapped = macs.swapped();
    // The error first: a packet that has no room for it stays as it is.
    packet.write(IP, error)?;
    packet.write(0, swapped)?;
    packet.cut(IP + size_of::<E>())
}
