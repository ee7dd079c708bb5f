//! The decapsulator, for backends whose kernel has no tunnel device: removes the outer headers of tunnel packets that
//! are addressed to this host and carry a packet for a VIP, and lets everything else pass untouched.
//!
//! The packet's way: an entry → [`outer`] → [`udp`], if there is UDP → [`inner`] → [`strip`] → outcome. Two programs
//! take it, one for XDP and one for tc; they differ in how bytes are removed.
#![no_std]
#![no_main]

mod inner;
mod maps;
mod outer;
mod strip;
mod udp;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use mesh_common::outcome::{DecapOutcome, Verdict};
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6},
    packet::{Context, Packet},
};
use outer::{Kind, Payload};
use strip::Strip;

/// Where the outer IP header begins.
const IP: usize = Ethernet::LENGTH;

/// Bytes that may be looked at: Ethernet, the longest outer headers, and the inner IP header.
const HEADERS: u32 = 14 + 40 + 8 + 8 + udp::MOST_OPTIONS + 40;

/// The program for XDP.
#[xdp(frags)]
fn decap(context: XdpContext) -> u32 {
    match run(Packet::new(&context)) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Transmit => xdp_action::XDP_TX,
        Verdict::Redirect => xdp_action::XDP_REDIRECT,
    }
}

/// The program for tc's ingress.
#[classifier]
fn decap_tc(context: TcContext) -> i32 {
    match run(Packet::of_tc(&context).pulled(HEADERS)) {
        // Whoever is next in line decides.
        Verdict::Pass => TC_ACT_UNSPEC,
        // Nothing that is unwrapped is sent.
        Verdict::Drop | Verdict::Transmit | Verdict::Redirect => TC_ACT_SHOT,
    }
}

/// Takes a packet to its outcome, and counts it.
#[inline(always)]
fn run<C: Context>(packet: Packet<C>) -> Verdict
where
    Packet<C>: Strip,
{
    let outcome = unwrap(packet).unwrap_or_else(|outcome| outcome);
    maps::count(outcome);
    outcome.verdict()
}

#[inline(always)]
fn unwrap<C: Context>(mut packet: Packet<C>) -> Result<DecapOutcome, DecapOutcome>
where
    Packet<C>: Strip,
{
    let ethernet: Ethernet = *packet.view(0).ok_or(DecapOutcome::NotATunnel)?;
    let payload = match ethernet.kind {
        _ if packet.was_tagged() => return Err(DecapOutcome::NotATunnel),
        IPV4 => outer::ipv4(&packet)?,
        IPV6 => outer::ipv6(&packet)?,
        _ => return Err(DecapOutcome::NotATunnel),
    };
    let carried = carried(&packet, &payload)?;
    inner::check(&packet, &carried)?;
    inner::tell_congestion(&mut packet, &carried, payload.traffic_class)?;
    packet.strip(ethernet, carried.kind, carried.at).ok_or(DecapOutcome::NotRemoved)?;
    Ok(DecapOutcome::Decapsulated)
}

/// The inner IP packet.
struct Carried {
    /// [`IPV4`] or [`IPV6`].
    kind: u16,
    /// Where it begins.
    at: usize,
    /// Where it must have ended.
    end: usize,
}

#[inline(always)]
fn carried<C: Context>(packet: &Packet<C>, payload: &Payload) -> Result<Carried, DecapOutcome> {
    let Payload { at, end, .. } = *payload;
    match payload.kind {
        Kind::Ipv4 => Ok(Carried { kind: IPV4, at, end }),
        Kind::Ipv6 => Ok(Carried { kind: IPV6, at, end }),
        Kind::Udp(tunnel) => udp::carried(packet, payload, tunnel),
    }
}

mesh_ebpf::object!();
