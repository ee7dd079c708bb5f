//! ICMP: errors about flows go where the flows are, and senders of packets that are too long are told so.

use crate::{
    client::Client,
    maps::{self, Answer},
    parse::{Flow, IP, Ip, behind_ip},
};
use mesh_common::{abi::protocol, flow::Signs, icmp, outcome::Outcome};
use mesh_ebpf::{
    header::{Ethernet, Icmp, Ipv4, Macs, Ports},
    packet::{Header, Packet},
};

/// The flow that an ICMP error is about. The error quotes a packet of the backend, which came from the VIP and went
/// to the client. Everything else of ICMP is the host's.
#[inline(always)]
pub(crate) fn about<C: Client>(packet: &Packet, outer: &Ip<C::Address>) -> Result<Flow<C>, Outcome> {
    let header: &Icmp = packet.view(outer.at).ok_or(Outcome::Truncated)?;
    if !C::is_error(header.kind) {
        return Err(Outcome::OtherProtocol);
    }
    let quoted = outer.at + size_of::<Icmp>();
    let mut inner = C::parse(packet, quoted).map_err(|_its_own| Outcome::OtherProtocol)?;
    inner.settle(packet);
    if inner.part.is_later() || inner.number == C::ICMP {
        return Err(Outcome::OtherProtocol);
    }
    let ports = quoted_ports(packet, inner.at, inner.number).ok_or(Outcome::OtherProtocol)?;
    Ok(Flow {
        service: C::key(inner.source, ports.source, inner.number),
        client: C::new(inner.destination, ports.destination),
        signs: Signs::RELATED,
        length: outer.length,
        headers: behind_ip(quoted),
        ip_headers: behind_ip(outer.at),
        quoted: behind_ip(inner.at),
        traffic_class: outer.traffic_class,
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

/// Refuses an IPv4 packet by "destination unreachable".
#[inline(always)]
pub(crate) fn refuse_ipv4(packet: Packet, code: u8) -> Option<()> {
    let header: &Ipv4 = packet.view(IP)?;
    if header.version_length != 0x45 {
        return None;
    }
    let quoted: [u32; icmp::QUOTED4] = packet.read(IP)?;
    lengthened(packet, icmp::unreachable4(&quoted, code, 0))
}

/// Refuses an IPv6 packet by "destination unreachable".
#[inline(always)]
pub(crate) fn refuse_ipv6(packet: Packet, code: u8) -> Option<()> {
    let quoted: [u32; icmp::SHORT6] = packet.read(IP)?;
    lengthened(packet, icmp::unreachable6(&quoted, code))
}

/// As [`answer`], about a packet that may be shorter than the error: room is made in front, where all is written anew.
#[inline(always)]
fn lengthened<E: Header>(packet: Packet, error: E) -> Option<()> {
    let ethernet: Ethernet = *packet.view(0)?;
    #[expect(clippy::cast_possible_truncation, reason = "errors have a hundred bytes")]
    let room = size_of::<E>() as i32;
    if !maps::may_send(Answer::Error) {
        return None;
    }
    let mut packet = packet.move_head(-room)?;
    packet.write(0, ethernet)?;
    replace(packet, error)
}

/// Sends an error, or another answer, instead of the packet that it is about, back to where that came from.
#[inline(always)]
pub(crate) fn answer<E: Header>(packet: Packet, error: E) -> Option<()> {
    if maps::may_send(Answer::Error) { replace(packet, error) } else { None }
}

#[inline(always)]
fn replace<E: Header>(mut packet: Packet, error: E) -> Option<()> {
    let macs: &Macs = packet.view(0)?;
    let swapped = macs.swapped();
    // The error first: a packet that has no room for it stays as it is.
    packet.write(IP, error)?;
    packet.write(0, swapped)?;
    packet.cut(IP + size_of::<E>()).map(drop)
}
