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
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it begins.
    pub(crate) at: usize,
    /// Where it ends; that is within the frame.
    pub(crate) end: usize,
    /// Of the outer header.
    pub(crate) traffic_class: u8,
}

/// What an outer IP header of a tunnel stands before.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// An inner IPv4 packet.
    Ipv4,
    /// An inner IPv6 packet.
    Ipv6,
    /// UDP to the port of a tunnel, one of [`mesh_common::abi::tunnel`].
    Udp(u32),
}

/// The kind by the protocol's number; `None`: no tunnel.
#[inline(always)]
fn kind<C: Context>(packet: &Packet<C>, number: u8, at: usize) -> Option<Kind> {
    match number {
        protocol::IPIP => Some(Kind::Ipv4),
        protocol::IPV6 => Some(Kind::Ipv6),
        protocol::UDP => udp::tunnel(packet, at).map(Kind::Udp),
        _ => None,
    }
}

/// Behind an outer IPv4 header without options or fragmentation, as balancers write it.
#[inline(always)]
pub(crate) fn ipv4<C: Context>(packet: &Packet<C>) -> Result<Payload, DecapOutcome> {
    const OFFSET_OR_MORE: u16 = 0x3fff_u16.to_be();
    const END: usize = IP + Ipv4::LENGTH;
    let header: &Ipv4 = packet.view(IP).ok_or(DecapOutcome::NotATunnel)?;
    let kind = kind(packet, header.protocol, END).ok_or(DecapOutcome::NotATunnel)?;
    let is_ipv4 = matches!(header.version_length, 0x45..=0x4f);
    if !is_ipv4 || !maps::is_own_address(map_ipv4(header.destination.to_ne_bytes())) {
        return Err(DecapOutcome::NotATunnel);
    }
    if header.version_length != 0x45 || header.fragment & OFFSET_OR_MORE != 0 {
        // What looks like a UDP header may be something else.
        let is_udp = matches!(kind, Kind::Udp(_));
        return Err(if is_udp { DecapOutcome::NotATunnel } else { DecapOutcome::UnusualOuter });
    }
    let end = IP + usize::from(u16::from_be(header.length));
    within(packet, Payload { kind, at: END, end, traffic_class: header.traffic_class })
}

/// Behind an outer IPv6 header without extension headers.
#[inline(always)]
pub(crate) fn ipv6<C: Context>(packet: &Packet<C>) -> Result<Payload, DecapOutcome> {
    const END: usize = IP + Ipv6::LENGTH;
    let header: &Ipv6 = packet.view(IP).ok_or(DecapOutcome::NotATunnel)?;
    let kind = kind(packet, header.next, END).ok_or(DecapOutcome::NotATunnel)?;
    if header.version() != 6 || !maps::is_own_address(whole(header.destination)) {
        return Err(DecapOutcome::NotATunnel);
    }
    let end = END + usize::from(u16::from_be(header.length));
    within(packet, Payload { kind, at: END, end, traffic_class: header.traffic_class() })
}

/// What the header announces must be there.
#[inline(always)]
fn within<C: Context>(packet: &Packet<C>, payload: Payload) -> Result<Payload, DecapOutcome> {
    if payload.end < payload.at || !packet.holds(payload.end) {
        return Err(DecapOutcome::BadOuter);
    }
    Ok(payload)
}
