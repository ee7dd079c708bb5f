//! The last step: the packet is made ready for the wire towards its backend.

use crate::{
    client::Client,
    maps,
    parse::{Flow, IP},
};
use mesh_common::{
    abi::{BackendEntry, forward, protocol},
    checksum,
    encap::{self, Inner},
    outcome::Outcome,
};
use mesh_ebpf::packet::Packet;
use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
};

/// Wraps or readdresses the packet, and sends it off.
#[inline(always)]
pub(crate) fn to<C: Client>(
    packet: Packet,
    flow: &Flow<C>,
    backend: &BackendEntry,
    hash: u64,
) -> Result<Outcome, Outcome> {
    if backend.resolved == 0 {
        return Err(Outcome::NoNextHop);
    }
    let ingress = packet.ingress();
    match backend.forward {
        forward::L2 => l2::<C>(packet, flow, backend)?,
        forward::IPV4 => ipv4::<C>(packet, flow, backend)?,
        forward::IPV6 => ipv6::<C>(packet, flow, backend, hash)?,
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

#[inline(always)]
fn fits<C>(flow: &Flow<C>, overhead: u16, backend: &BackendEntry) -> Result<(), Outcome> {
    let length = u32::from(flow.length) + u32::from(overhead);
    if length <= u32::from(backend.mtu) { Ok(()) } else { Err(Outcome::TooBig) }
}

#[inline(always)]
const fn ethernet(backend: &BackendEntry, protocol: EtherType) -> EthHdr {
    EthHdr { dst_addr: backend.destination_mac, src_addr: backend.source_mac, ether_type: protocol as u16 }
}

/// Direct return: new Ethernet addresses, and one hop less, so that a loop through the backend ends.
#[inline(always)]
fn l2<C: Client>(mut packet: Packet, flow: &Flow<C>, backend: &BackendEntry) -> Result<(), Outcome> {
    fits(flow, 0, backend)?;
    let protocol = if C::INNER_PROTOCOL == protocol::IPIP {
        hop_ipv4(&mut packet)?;
        EtherType::Ipv4
    } else {
        hop_ipv6(&mut packet)?;
        EtherType::Ipv6
    };
    packet.write(0, ethernet(backend, protocol)).ok_or(Outcome::Truncated)
}

#[inline(always)]
fn hop_ipv4(packet: &mut Packet) -> Result<(), Outcome> {
    let mut header: Ipv4Hdr = packet.read(IP).ok_or(Outcome::Truncated)?;
    let [old, new] =
        [header.ttl, header.ttl.saturating_sub(1)].map(|ttl| u16::from_ne_bytes([ttl, header.proto]));
    if header.ttl <= 1 {
        return Err(Outcome::TtlExpired);
    }
    header.ttl -= 1;
    header.check = checksum::update(u16::from_ne_bytes(header.check), old, new).to_ne_bytes();
    packet.write(IP, header).ok_or(Outcome::Truncated)
}

#[inline(always)]
fn hop_ipv6(packet: &mut Packet) -> Result<(), Outcome> {
    let mut header: Ipv6Hdr = packet.read(IP).ok_or(Outcome::Truncated)?;
    if header.hop_limit <= 1 {
        return Err(Outcome::TtlExpired);
    }
    header.hop_limit -= 1;
    packet.write(IP, header).ok_or(Outcome::Truncated)
}

#[inline(always)]
fn ipv4<C: Client>(packet: Packet, flow: &Flow<C>, backend: &BackendEntry) -> Result<(), Outcome> {
    fits(flow, encap::LENGTH_IPV4, backend)?;
    let outer = encap::ipv4(backend, inner(flow));
    let mut packet =
        packet.move_head(-i32::from(encap::LENGTH_IPV4.cast_signed())).ok_or(Outcome::NoHeadroom)?;
    packet.write(0, ethernet(backend, EtherType::Ipv4)).ok_or(Outcome::NoHeadroom)?;
    packet.write(IP, outer).ok_or(Outcome::NoHeadroom)
}

#[inline(always)]
fn ipv6<C: Client>(packet: Packet, flow: &Flow<C>, backend: &BackendEntry, hash: u64) -> Result<(), Outcome> {
    fits(flow, encap::LENGTH_IPV6, backend)?;
    let outer = encap::ipv6(backend, inner(flow), hash);
    let mut packet =
        packet.move_head(-i32::from(encap::LENGTH_IPV6.cast_signed())).ok_or(Outcome::NoHeadroom)?;
    packet.write(0, ethernet(backend, EtherType::Ipv6)).ok_or(Outcome::NoHeadroom)?;
    packet.write(IP, outer).ok_or(Outcome::NoHeadroom)
}

#[inline(always)]
const fn inner<C: Client>(flow: &Flow<C>) -> Inner {
    Inner { length: flow.length, traffic_class: flow.traffic_class, protocol: C::INNER_PROTOCOL }
}
