//! The last step: the packet is made ready for the wire towards its backend.

use crate::{
    client::Client,
    maps,
    parse::{Flow, IP},
    tunnels,
};
use mesh_common::{
    abi::{BackendEntry, forward, protocol},
    checksum,
    encap::{self, Inner},
    outcome::Outcome,
};
use mesh_ebpf::{header::Macs, packet::Packet};

/// Of outer source addresses that do not differ between flows.
const NO_SUFFIX: u32 = 0;

/// Wraps or readdresses the packet, and sends it off. The ways of plain packets come first; the others are for `WHOLE`.
#[inline(always)]
pub(crate) fn to<C: Client, const WHOLE: bool>(
    packet: Packet,
    flow: &Flow<C>,
    backend: &BackendEntry,
    hash: u64,
) -> Result<Outcome, Outcome> {
    let ingress = packet.ingress();
    match backend.forward {
        forward::L2 => l2::<C>(packet, backend)?,
        forward::IPV4 => ipv4(packet, backend, inner(flow), NO_SUFFIX)?,
        forward::IPV6 => ipv6(packet, backend, inner(flow), hash, NO_SUFFIX)?,
        forward::SPREAD_IPV4 => ipv4(packet, backend, inner(flow), encap::suffix(backend, hash))?,
        forward::SPREAD_IPV6 => ipv6(packet, backend, inner(flow), hash, encap::suffix(backend, hash))?,
        _ if WHOLE => tunnels::wrap(packet, flow, backend, hash)?,
        _ => return Err(Outcome::NoBackend),
    }
    Ok(send(ingress, backend.ifindex))
}

#[inline(always)]
fn send(ingress: u32, egress: u32) -> Outcome {
    if ingress == egress {
        return Outcome::Transmitted;
    }
    maps::redirect_to(egress);
    Outcome::Redirected
}

/// Direct return: new Ethernet addresses, and one hop less, so that a loop through the backend ends.
#[inline(always)]
fn l2<C: Client>(mut packet: Packet, backend: &BackendEntry) -> Result<(), Outcome> {
    if C::INNER_PROTOCOL == protocol::IPIP {
        hop_ipv4(&mut packet)?;
    } else {
        hop_ipv6(&mut packet)?;
    }
    let (first, rest) = backend.macs();
    packet.write(0, Macs(first, rest)).ok_or(Outcome::Truncated)
}

/// Takes one from the TTL, and keeps the checksum right.
#[inline(always)]
fn hop_ipv4(packet: &mut Packet) -> Result<(), Outcome> {
    /// Where TTL, protocol and checksum stand.
    const TTL: usize = IP + 8;
    let [ttl, protocol, check @ ..] = packet.read::<u32>(TTL).ok_or(Outcome::Truncated)?.to_ne_bytes();
    if ttl <= 1 {
        return Err(Outcome::TtlExpired);
    }
    let [old, new] = [ttl, ttl - 1].map(|ttl| u16::from_ne_bytes([ttl, protocol]));
    let [high, low] = checksum::update(u16::from_ne_bytes(check), old, new).to_ne_bytes();
    packet.write(TTL, u32::from_ne_bytes([ttl - 1, protocol, high, low])).ok_or(Outcome::Truncated)
}

#[inline(always)]
fn hop_ipv6(packet: &mut Packet) -> Result<(), Outcome> {
    const HOP_LIMIT: usize = IP + 7;
    let hops: u8 = packet.read(HOP_LIMIT).ok_or(Outcome::Truncated)?;
    if hops <= 1 {
        return Err(Outcome::TtlExpired);
    }
    packet.write(HOP_LIMIT, hops - 1).ok_or(Outcome::Truncated)
}

// The outer header is put together once there is room for it: its words would not outlive the call in registers.

#[inline(always)]
pub(crate) fn ipv4(packet: Packet, backend: &BackendEntry, inner: Inner, suffix: u32) -> Result<(), Outcome> {
    let mut packet = make_room(packet, encap::LENGTH_IPV4)?;
    packet.write(0, encap::ipv4(backend, inner, suffix)).ok_or(Outcome::NoHeadroom)
}

#[inline(always)]
pub(crate) fn ipv6(
    packet: Packet,
    backend: &BackendEntry,
    inner: Inner,
    hash: u64,
    suffix: u32,
) -> Result<(), Outcome> {
    let mut packet = make_room(packet, encap::LENGTH_IPV6)?;
    packet.write(0, encap::ipv6(backend, inner, hash, suffix)).ok_or(Outcome::NoHeadroom)
}

#[inline(always)]
pub(crate) fn make_room(packet: Packet, bytes: u16) -> Result<Packet, Outcome> {
    packet.move_head(-i32::from(bytes.cast_signed())).ok_or(Outcome::NoHeadroom)
}

/// The packet as an outer IP header sees it.
#[inline(always)]
pub(crate) const fn inner<C: Client>(flow: &Flow<C>) -> Inner {
    Inner { length: flow.length, traffic_class: flow.traffic_class, protocol: C::INNER_PROTOCOL }
}
