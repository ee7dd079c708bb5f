//! The ways to wrap a packet that cost more than an outer IP header: UDP with or without Geneve.

use crate::forward::make_room;
use mesh_common::{
    abi::{BackendEntry, ServiceKey, forward, protocol},
    encap::{self, Inner, LENGTH_GENEVE_IPV4, LENGTH_GENEVE_IPV6, LENGTH_IPV4, LENGTH_IPV6, LENGTH_UDP},
    outcome::Outcome,
};
use mesh_ebpf::{header::Ethernet, packet::Packet};

/// Wraps the packet.
#[inline(always)]
pub(crate) fn wrap(
    packet: Packet,
    inner: Inner,
    destination: ServiceKey,
    backend: &BackendEntry,
    hash: u64,
) -> Result<(), Outcome> {
    match backend.forward {
        forward::GUE_IPV4 => udp::<LENGTH_IPV4, 0>(packet, inner, backend, hash).map(drop),
        forward::GUE_IPV6 => udp::<LENGTH_IPV6, 0>(packet, inner, backend, hash).map(drop),
        forward::GENEVE_IPV4 => geneve::<LENGTH_IPV4>(packet, inner, destination, backend, hash),
        forward::GENEVE_IPV6 => geneve::<LENGTH_IPV6>(packet, inner, destination, backend, hash),
        _ => Err(Outcome::NoBackend),
    }
}

/// Puts an outer IP header of `OUTER` bytes and a UDP header in front, and leaves `MORE` bytes behind them free.
#[inline(always)]
fn udp<const OUTER: u16, const MORE: u16>(
    packet: Packet,
    inner: Inner,
    backend: &BackendEntry,
    hash: u64,
) -> Result<Packet, Outcome> {
    let mut packet = make_room(packet, OUTER + LENGTH_UDP + MORE)?;
    let (inner, suffix) = (inner.in_udp(MORE), encap::suffix(backend, hash));
    let written = if OUTER == LENGTH_IPV4 {
        packet.write(0, encap::ipv4(backend, inner, suffix))
    } else {
        packet.write(0, encap::ipv6(backend, inner, hash, suffix))
    };
    written.ok_or(Outcome::NoHeadroom)?;
    let header = encap::udp(backend.port, inner.length, hash);
    packet.write(Ethernet::LENGTH + usize::from(OUTER), header).ok_or(Outcome::NoHeadroom)?;
    Ok(packet)
}

#[inline(always)]
fn geneve<const OUTER: u16>(
    packet: Packet,
    inner: Inner,
    destination: ServiceKey,
    backend: &BackendEntry,
    hash: u64,
) -> Result<(), Outcome> {
    let at = Ethernet::LENGTH + usize::from(OUTER + LENGTH_UDP);
    let written = if inner.protocol == protocol::IPIP {
        let mut packet = udp::<OUTER, LENGTH_GENEVE_IPV4>(packet, inner, backend, hash)?;
        packet.write(at, encap::geneve4(destination))
    } else {
        let mut packet = udp::<OUTER, LENGTH_GENEVE_IPV6>(packet, inner, backend, hash)?;
        packet.write(at, encap::geneve6(destination))
    };
    written.ok_or(Outcome::NoHeadroom)
}
