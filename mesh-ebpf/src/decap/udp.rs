//! UDP between the outer IP header and the inner packet, alone (GUE, variant 1) or with a Geneve header.

use crate::{Carried, maps, outer::Payload};
use mesh_common::{abi::tunnel::GUE, outcome::DecapOutcome};
use mesh_ebpf::{
    header::{Geneve, IPV4, IPV6, Udp},
    packet::{Context, Packet},
};

/// Most bytes of options that a Geneve header has: six bits of words.
pub(crate) const MOST_OPTIONS: u32 = 0x3f * 4;

/// What is unwrapped at the port that a UDP header goes to, if anything.
#[inline(always)]
pub(crate) fn tunnel<C: Context>(packet: &Packet<C>, at: usize) -> Option<u32> {
    packet.view::<Udp>(at).and_then(|header| maps::tunnel(header.ports))
}

/// What a UDP header with a tunnel's port carries. Without a checksum, as balancers send it: to verify one, the whole
/// packet would have to be read (RFC 6935 §5, RFC 8926 §3.3).
#[inline(always)]
pub(crate) fn carried<C: Context>(
    packet: &Packet<C>,
    payload: &Payload,
    tunnel: u32,
) -> Result<Carried, DecapOutcome> {
    let Payload { at, end, .. } = *payload;
    let header: &Udp = packet.view(at).ok_or(DecapOutcome::BadOuter)?;
    let inner = at + size_of::<Udp>();
    if inner > end || usize::from(u16::from_be(header.length)) != end - at {
        return Err(DecapOutcome::BadOuter);
    }
    if header.checksum != 0 {
        return Err(DecapOutcome::UdpChecksum);
    }
    if tunnel == GUE { gue(packet, inner, end) } else { geneve(packet, inner, end) }
}

/// The IP version says of which family the packet is, and whether it is one (draft-ietf-intarea-gue-09 §4).
#[inline(always)]
fn gue<C: Context>(packet: &Packet<C>, at: usize, end: usize) -> Result<Carried, DecapOutcome> {
    let first: u8 = packet.read(at).ok_or(DecapOutcome::OtherPayload)?;
    match first >> 4 {
        4 => Ok(Carried { kind: IPV4, at, end }),
        6 => Ok(Carried { kind: IPV6, at, end }),
        _ => Err(DecapOutcome::OtherPayload),
    }
}

/// Options are skipped, unless one of them must not be (RFC 8926 §3.4). Balancers send on virtual network 0.
#[inline(always)]
fn geneve<C: Context>(packet: &Packet<C>, at: usize, end: usize) -> Result<Carried, DecapOutcome> {
    let header: &Geneve = packet.view(at).ok_or(DecapOutcome::BadOuter)?;
    let options = usize::from(header.version_options & 0x3f) * 4;
    let inner = at + size_of::<Geneve>() + options;
    if header.version_options >> 6 != 0 || inner > end {
        return Err(DecapOutcome::BadOuter);
    }
    let is_ip = matches!(header.kind, IPV4 | IPV6);
    let network = u32::from_be(header.network) >> 8;
    if header.bits & Geneve::CONTROL != 0 || !is_ip || network != 0 {
        return Err(DecapOutcome::OtherPayload);
    }
    if header.bits & Geneve::CRITICAL != 0 {
        return Err(DecapOutcome::CriticalOption);
    }
    Ok(Carried { kind: header.kind, at: inner, end })
}
