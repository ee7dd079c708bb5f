//! The decapsulator, for backends whose kernel has no tunnel device: removes the outer header of tunnel packets that
//! are addressed to this host and carry a packet for a VIP, and lets everything else pass untouched.
#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use mesh_common::{
    abi::{protocol, whole},
    encap::{self, map_ipv4},
    outcome::{DecapOutcome, Verdict},
};
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6, Ipv4, Ipv6},
    packet::Packet,
};

const IP: usize = Ethernet::LENGTH;

/// The program that is attached to a backend's interface.
#[xdp(frags)]
fn decap(context: XdpContext) -> u32 {
    let outcome = run(Packet::new(&context)).unwrap_or_else(|outcome| outcome);
    maps::count(outcome);
    match outcome.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Transmit => xdp_action::XDP_TX,
        Verdict::Redirect => xdp_action::XDP_REDIRECT,
    }
}

/// A tunnel packet for this host: how long its outer header is, and what it carries.
struct Tunnel {
    outer: u16,
    inner: u8,
}

#[inline(always)]
fn run(packet: Packet) -> Result<DecapOutcome, DecapOutcome> {
    let ethernet: Ethernet = *packet.view(0).ok_or(DecapOutcome::NotATunnel)?;
    let tunnel = match ethernet.kind {
        IPV4 => ipv4(&packet)?,
        IPV6 => ipv6(&packet)?,
        _ => return Err(DecapOutcome::NotATunnel),
    };
    let at = IP + usize::from(tunnel.outer);
    let kind = match tunnel.inner {
        protocol::IPIP => inner_ipv4(&packet, at)?,
        protocol::IPV6 => inner_ipv6(&packet, at)?,
        _ => return Err(DecapOutcome::NotATunnel),
    };
    let mut packet = packet.move_head(i32::from(tunnel.outer)).ok_or(DecapOutcome::BadInner)?;
    packet.write(0, Ethernet { kind, ..ethernet }).ok_or(DecapOutcome::BadInner)?;
    Ok(DecapOutcome::Decapsulated)
}

/// An outer IPv4 header without options or fragmentation, as balancers write it.
#[inline(always)]
fn ipv4(packet: &Packet) -> Result<Tunnel, DecapOutcome> {
    const OFFSET_OR_MORE: u16 = 0x3fff_u16.to_be();
    let header: &Ipv4 = packet.view(IP).ok_or(DecapOutcome::NotATunnel)?;
    let plain = header.version_length == 0x45 && header.fragment & OFFSET_OR_MORE == 0;
    if !plain || !maps::is_own_address(map_ipv4(header.destination.to_ne_bytes())) {
        return Err(DecapOutcome::NotATunnel);
    }
    Ok(Tunnel { outer: encap::LENGTH_IPV4, inner: header.protocol })
}

#[inline(always)]
fn ipv6(packet: &Packet) -> Result<Tunnel, DecapOutcome> {
    let header: &Ipv6 = packet.view(IP).ok_or(DecapOutcome::NotATunnel)?;
    if header.version() != 6 || !maps::is_own_address(whole(header.destination)) {
        return Err(DecapOutcome::NotATunnel);
    }
    Ok(Tunnel { outer: encap::LENGTH_IPV6, inner: header.next })
}

#[inline(always)]
fn inner_ipv4(packet: &Packet, at: usize) -> Result<u16, DecapOutcome> {
    let header: &Ipv4 = packet.view(at).ok_or(DecapOutcome::BadInner)?;
    if !maps::is_vip(map_ipv4(header.destination.to_ne_bytes())) {
        return Err(DecapOutcome::NotAVip);
    }
    let complete = packet.holds(at + usize::from(u16::from_be(header.length)));
    if header.version_length >> 4 == 4 && complete { Ok(IPV4) } else { Err(DecapOutcome::BadInner) }
}

#[inline(always)]
fn inner_ipv6(packet: &Packet, at: usize) -> Result<u16, DecapOutcome> {
    let header: &Ipv6 = packet.view(at).ok_or(DecapOutcome::BadInner)?;
    if !maps::is_vip(whole(header.destination)) {
        return Err(DecapOutcome::NotAVip);
    }
    let complete = packet.holds(at + Ipv6::LENGTH + usize::from(u16::from_be(header.length)));
    if header.version() == 6 && complete { Ok(IPV6) } else { Err(DecapOutcome::BadInner) }
}

mesh_ebpf::object!();
