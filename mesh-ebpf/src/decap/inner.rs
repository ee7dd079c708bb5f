//! The inner packet: is it for a VIP, and whole? And what it learns of congestion on the way.

use crate::{Carried, maps};
use mesh_common::{abi::whole, checksum, ecn, encap::map_ipv4, outcome::DecapOutcome};
use mesh_ebpf::{
    header::{IPV4, Ipv4, Ipv6},
    packet::{Context, Packet},
};

/// Whether the packet is for a VIP and lies within the outer one.
#[inline(always)]
pub(crate) fn check<C: Context>(packet: &Packet<C>, carried: &Carried) -> Result<(), DecapOutcome> {
    if carried.kind == IPV4 { ipv4(packet, carried) } else { ipv6(packet, carried) }
}

#[inline(always)]
fn ipv4<C: Context>(packet: &Packet<C>, &Carried { at, end, .. }: &Carried) -> Result<(), DecapOutcome> {
    let header: &Ipv4 = packet.view(at).ok_or(DecapOutcome::BadInner)?;
    if !maps::is_vip(map_ipv4(header.destination.to_ne_bytes())) {
        return Err(DecapOutcome::NotAVip);
    }
    let headers = usize::from(header.version_length & 0xf) * 4;
    let length = usize::from(u16::from_be(header.length));
    let is_whole = headers >= Ipv4::LENGTH && headers <= length && at + length <= end;
    if header.version_length >> 4 == 4 && is_whole { Ok(()) } else { Err(DecapOutcome::BadInner) }
}

#[inline(always)]
fn ipv6<C: Context>(packet: &Packet<C>, &Carried { at, end, .. }: &Carried) -> Result<(), DecapOutcome> {
    let header: &Ipv6 = packet.view(at).ok_or(DecapOutcome::BadInner)?;
    if !maps::is_vip(whole(header.destination)) {
        return Err(DecapOutcome::NotAVip);
    }
    let length = Ipv6::LENGTH + usize::from(u16::from_be(header.length));
    if header.version() == 6 && at + length <= end { Ok(()) } else { Err(DecapOutcome::BadInner) }
}

/// Carries what the outer header says about congestion over to the inner one (RFC 6040 §4.2). DSCP stays the inner
/// packet's.
#[inline(always)]
pub(crate) fn tell_congestion<C: Context>(
    packet: &mut Packet<C>,
    carried: &Carried,
    outer: u8,
) -> Result<(), DecapOutcome> {
    /// Where the checksum stands.
    const CHECKSUM: usize = 10;
    let at = carried.at;
    // Version and traffic class, and what shares their bytes with them.
    let word: u16 = packet.read(at).ok_or(DecapOutcome::BadInner)?;
    let [first, second] = word.to_ne_bytes();
    let is_ipv4 = carried.kind == IPV4;
    let inner = if is_ipv4 { second } else { first << 4 | second >> 4 };
    let new = ecn::decapsulated(inner, outer).ok_or(DecapOutcome::Congestion)?;
    if new == inner {
        return Ok(());
    }
    if is_ipv4 {
        let changed = u16::from_ne_bytes([first, new]);
        let sum: u16 = packet.read(at + CHECKSUM).ok_or(DecapOutcome::BadInner)?;
        packet.write(at, changed).ok_or(DecapOutcome::BadInner)?;
        return packet
            .write(at + CHECKSUM, checksum::update(sum, word, changed))
            .ok_or(DecapOutcome::BadInner);
    }
    let changed = [first & 0xf0 | new >> 4, new << 4 | second & 0x0f];
    packet.write(at, u16::from_ne_bytes(changed)).ok_or(DecapOutcome::BadInner)
}
