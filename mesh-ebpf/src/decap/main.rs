//! The decapsulator, for backends whose kernel has no tunnel device: removes the outer header of tunnel packets that
//! are addressed to this host and carry a packet for a VIP, and lets everything else pass untouched.
#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use mesh_common::{
    abi::protocol,
    encap::{self, map_ipv4},
    outcome::{DecapOutcome, Verdict},
};
use mesh_ebpf::packet::Packet;
use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
};

const IP: usize = EthHdr::LEN;
const IPV4: u16 = EtherType::Ipv4 as u16;
const IPV6: u16 = EtherType::Ipv6 as u16;

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
    let ethernet: EthHdr = packet.read(0).ok_or(DecapOutcome::NotATunnel)?;
    let tunnel = match ethernet.ether_type {
        IPV4 => ipv4(&packet)?,
        IPV6 => ipv6(&packet)?,
        _ => return Err(DecapOutcome::NotATunnel),
    };
    let at = IP + usize::from(tunnel.outer);
    let protocol = match tunnel.inner {
        protocol::IPIP => inner_ipv4(&packet, at)?,
        protocol::IPV6 => inner_ipv6(&packet, at)?,
        _ => return Err(DecapOutcome::NotATunnel),
    };
    let mut packet = packet.move_head(i32::from(tunnel.outer)).ok_or(DecapOutcome::BadInner)?;
    packet.write(0, EthHdr { ether_type: protocol as u16, ..ethernet }).ok_or(DecapOutcome::BadInner)?;
    Ok(DecapOutcome::Decapsulated)
}

/// An outer IPv4 header without options or fragmentation, as balancers write it.
#[inline(always)]
fn ipv4(packet: &Packet) -> Result<Tunnel, DecapOutcome> {
    const OFFSET_OR_MORE: u16 = 0x3fff;
    let header: Ipv4Hdr = packet.read(IP).ok_or(DecapOutcome::NotATunnel)?;
    let plain = header.vihl == 0x45 && u16::from_be_bytes(header.frags) & OFFSET_OR_MORE == 0;
    if !plain || !maps::is_own_address(map_ipv4(header.dst_addr)) {
        return Err(DecapOutcome::NotATunnel);
    }
    Ok(Tunnel { outer: encap::LENGTH_IPV4, inner: header.proto })
}

#[inline(always)]
fn ipv6(packet: &Packet) -> Result<Tunnel, DecapOutcome> {
    let header: Ipv6Hdr = packet.read(IP).ok_or(DecapOutcome::NotATunnel)?;
    if version(header.vcf) != 6 || !maps::is_own_address(header.dst_addr) {
        return Err(DecapOutcome::NotATunnel);
    }
    Ok(Tunnel { outer: encap::LENGTH_IPV6, inner: header.next_hdr })
}

#[inline(always)]
fn inner_ipv4(packet: &Packet, at: usize) -> Result<EtherType, DecapOutcome> {
    let header: Ipv4Hdr = packet.read(at).ok_or(DecapOutcome::BadInner)?;
    if !maps::is_vip(map_ipv4(header.dst_addr)) {
        return Err(DecapOutcome::NotAVip);
    }
    let whole = packet.holds(at + usize::from(u16::from_be_bytes(header.tot_len)));
    if header.vihl >> 4 == 4 && whole { Ok(EtherType::Ipv4) } else { Err(DecapOutcome::BadInner) }
}

#[inline(always)]
fn inner_ipv6(packet: &Packet, at: usize) -> Result<EtherType, DecapOutcome> {
    let header: Ipv6Hdr = packet.read(at).ok_or(DecapOutcome::BadInner)?;
    if !maps::is_vip(header.dst_addr) {
        return Err(DecapOutcome::NotAVip);
    }
    let whole = packet.holds(at + Ipv6Hdr::LEN + usize::from(u16::from_be_bytes(header.payload_len)));
    if version(header.vcf) == 6 && whole { Ok(EtherType::Ipv6) } else { Err(DecapOutcome::BadInner) }
}

/// The first four bits of an IP header.
#[inline(always)]
const fn version([first, ..]: [u8; 4]) -> u8 {
    first >> 4
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No panic path survives optimisation; the verifier refuses an endless loop if one did.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the kernel looks the licence up by its section")]
static LICENSE: [u8; 4] = *b"GPL\0";
