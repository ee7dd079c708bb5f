//! The last step: the packet is made ready for the wire towards its backend.

use crate::{
    maps,
    parse::{HOP_LIMIT, TTL},
    tunnels,
};
use mesh_common::{
    abi::{BackendEntry, ServiceKey, forward, protocol},
    checksum,
    encap::{self, Inner},
    outcome::Outcome,
};
use mesh_ebpf::{header::Macs, packet::Packet};

/// Of outer source addresses that do not differ between flows.
const NO_SUFFIX: u32 = 0;

/// Wraps or readdresses the packet, and sends it off. The ways that plain packets take come first; the others are for `WHOLE`.
#[inline(always)]
pub(crate) fn to<const WHOLE: bool>(
    packet: Packet,
    inner: Inner,
    destination: ServiceKey,
    backend: &BackendEntry,
    hash: u64,
) -> Result<Outcome, Outcome> {
    let ingress = packet.ingress();
    match backend.forward {
        forward::L2 => l2(packet, inner.protocol, backend)?,
        forward::IPV4 => ipv4(packet, backend, inner, NO_SUFFIX)?,
        forward::IPV6 => ipv6(packet, backend, inner, hash, NO_SUFFIX)?,
        forward::SPREAD_IPV4 => ipv4(packet, backend, inner, encap::suffix(backend, hash))?,
        forward::SPREAD_IPV6 => ipv6(packet, backend, inner, hash, encap::suffix(backend, hash))?,
        _ if WHOLE => tunnels::wrap(packet, inner, destination, backend, hash)?,
        _ => return Err(Outcome::NoBackend),
    }
    Ok(send(ingress, backend.ifindex))
}

/// Whether the packet gets a UDP header, too.
#[inline(always)]
pub(crate) const fn is_tunnel_in_udp(backend: &BackendEntry) -> bool {
    backend.forward >= forward::GUE_IPV4
}

#[inline(always)]
pub(crate) fn send(ingress: u32, egress: u32) -> Outcome {
    if ingress == egress {
        return Outcome::Transmitted;
    }
    maps::redirect_to(egress);
    Outcome::Redirected
}

/// Direct return: new Ethernet addresses, and one hop less, so that a loop through the backend ends.
#[inline(always)]
fn l2(mut packet: Packet, family: u8, backend: &BackendEntry) -> Result<(), Outcome> {
    if family == protocol::IPIP {
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
    let word: u32 = packet.read(TTL).ok_or(Outcome::Truncated)?;
    let [ttl, ..] = word.to_ne_bytes();
    if ttl <= 1 {
        return Err(Outcome::TtlExpired);
    }
    packet.write(TTL, checksum::with_ttl(word, ttl - 1)).ok_or(Outcome::Truncated)
}

#[inline(always)]
fn hop_ipv6(packet: &mut Packet) -> Result<(), Outcome> {
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
