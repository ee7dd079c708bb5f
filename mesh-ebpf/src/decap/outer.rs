//! The outer IP header: is it a tunnel's, and this host's?

use crate::{IP, maps, udp};
use mesh_common::{
    abi::{protocol, whole},
    encap::map_ipv4,
    outcome::DecapOutcome,
};
use mesh_ebpf::{
    header::{Ipv4, Ipv6},
    packet::{Context, Packet},
};

/// What stands behind the outer IP header of a tunnel packet for this host.
pub(crate) struct Payload {
    /// IPIP, IPv6, or UDP to the port of a tunnel.
    pub(crate) protocol: u8,
    /// Where it begins.
    pub(crate) at: usize,
    /// Where it ends; that is within the frame.
    pub(crate) end: usize,
    /// Of the outer header.
    pub(crate) traffic_class: u8,
}

/// Behind an outer IPv4 header without options or fragmentation, as balancers write it.
#[inline(always)]
pub(crate) fn ipv4<C: Context>(packet: &Packet<C>) -> Result<Payload, DecapOutcome> {
    const OFFSET_OR_MORE: u16 = 0x3fff_u16.to_be();
    let header: &Ipv4 = packet.view(IP).ok_or(DecapOutcome::NotATunnel)?;
    let is_plain = header.version_length == 0x45 && header.fragment & OFFSET_OR_MORE == 0;
    let is_ipip = matches!(header.protocol, protocol::IPIP | protocol::IPV6);
    let is_tunnel = is_ipip || is_plain && udp::is_tunnel(packet, header.protocol, IP + Ipv4::LENGTH);
    let is_ipv4 = matches!(header.version_length, 0x45..=0x4f);
    if !is_tunnel || !is_ipv4 || !maps::is_own_address(map_ipv4(header.destination.to_ne_bytes())) {
        return Err(DecapOutcome::NotATunnel);
    }
    if !is_plain {
        return Err(DecapOutcome::UnusualOuter);
    }
    let (at, end) = (IP + Ipv4::LENGTH, IP + usize::from(u16::from_be(header.length)));
    payload(packet, header.protocol, at, end, header.traffic_class)
}

/// Behind an outer IPv6 header without extension headers.
#[inline(always)]
pub(crate) fn ipv6<C: Context>(packet: &Packet<C>) -> Result<Payload, DecapOutcome> {
    const END: usize = IP + Ipv6::LENGTH;
    let header: &Ipv6 = packet.view(IP).ok_or(DecapOutcome::NotATunnel)?;
    let is_ipip = matches!(header.next, protocol::IPIP | protocol::IPV6);
    let is_tunnel = is_ipip || udp::is_tunnel(packet, header.next, END);
    if !is_tunnel || header.version() != 6 || !maps::is_own_address(whole(header.destination)) {
        return Err(DecapOutcome::NotATunnel);
    }
    let end = END + usize::from(u16::from_be(header.length));
    payload(packet, header.next, END, end, header.traffic_class())
}

/// What the header announces must be there.
#[inline(always)]
fn payload<C: Context>(
    packet: &Packet<C>,
    protocol: u8,
    at: usize,
    end: usize,
    traffic_class: u8,
) -> Result<Payload, DecapOutcome> {
    if end < at || !packet.holds(end) {
        return Err(DecapOutcome::BadOuter);
    }
    Ok(Payload { protocol, at, end, traffic_class })
}
