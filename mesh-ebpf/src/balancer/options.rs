//! The options of a TCP header (RFC 9293 §3.1), looked through one after the other.

use crate::{parse::BEYOND, translate::at as header};
use mesh_common::abi::Journey;
use mesh_ebpf::{
    header::{Tcp, TcpOption},
    packet::Packet,
    verifier::forget,
};

/// Options that are looked at, padding among them: what systems send has no more than eight.
pub(crate) const MOST: usize = 16;

const END: u8 = 0;
const NOTHING: u8 = 1;

/// The maximum segment size.
pub(crate) const SIZE: u8 = 2;
/// How far windows are shifted (RFC 7323 §2.2).
pub(crate) const SHIFT: u8 = 3;
/// Selective acknowledgements are understood (RFC 2018 §2).
pub(crate) const SACK_PERMITTED: u8 = 4;
/// Selective acknowledgements (RFC 2018 §3).
pub(crate) const SACK: u8 = 5;

/// Where the first stands.
#[inline(always)]
pub(crate) fn first(journey: &Journey) -> usize {
    (header(journey) + size_of::<Tcp>()) % BEYOND
}

/// The option at a place, if there is one.
#[inline(always)]
pub(crate) fn at(packet: &Packet, journey: &Journey, place: usize) -> Option<TcpOption> {
    if place >= crate::parse::IP + usize::from(journey.headers) {
        return None;
    }
    packet.view(place).copied().filter(|option: &TcpOption| option.kind != END)
}

/// Where the next one stands; behind the packet, if the option has no end.
#[inline(always)]
pub(crate) fn next(packet: &Packet, place: usize, option: TcpOption) -> usize {
    let length = match (option.kind, option.length) {
        (NOTHING, _) => 1,
        (_, 0 | 1) => BEYOND - 1,
        (_, length) => length.into(),
    };
    // verifier: that the others were skipped so or so does not matter.
    forget((place + length).min(BEYOND - 1), packet.linear_length()) % BEYOND
}
