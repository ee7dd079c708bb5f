//! What is wrong with packets of services that have a service's address and port, and a length.
//!
//! Plain packets are judged on their way ([`crate::plain`]), with the same functions; those found odd there come here to
//! be told why.

use crate::{
    client::Client,
    maps,
    parse::{Flow, IP, Ip, behind_ip},
};
use mesh_common::{
    abi::protocol,
    checksum,
    outcome::Outcome,
    screen::{OPTION_WORDS, is_sensible, may_pass},
};
use mesh_ebpf::{
    header::{Ipv4, Ipv4Words, Tcp, Udp},
    packet::Packet,
    verifier::forget,
};

/// The shortest headers of TCP and UDP.
const TCP: u8 = 20;
const UDP: u16 = 8;

/// What is wrong with an IP header, if anything. It is found out first, where the verifier knows of few ways to come, and
/// judged last, when the packet turned out to be a service's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flaw(
    // verifier: no enum, so that it can be forgotten.
    usize,
);

impl Flaw {
    pub(crate) const NONE: Self = Self(0);
    const SOURCE: Self = Self(1);
    const CHECKSUM: Self = Self(2);
    const OPTIONS: Self = Self(3);

    /// The worst of a packet's.
    #[inline(always)]
    pub(crate) fn of<C: Client>(packet: &Packet, ip: &Ip<C::Address>) -> Self {
        let flaw =
            if C::is_spoofed(ip.source, ip.destination) { Self::SOURCE } else { C::screen(packet, ip.at) };
        Self(forget(flaw.0, packet.linear_length()))
    }

    /// How a service's packet with it ends.
    #[inline(always)]
    pub(crate) const fn judge(self) -> Result<(), Outcome> {
        match self {
            Self::NONE => Ok(()),
            Self::SOURCE => Err(Outcome::SpoofedSource),
            Self::CHECKSUM => Err(Outcome::BadChecksum),
            _ => Err(Outcome::BadOptions),
        }
    }
}

/// An IPv4 header with its options up to an offset. Options beyond the frame are not looked at: nor will be the packet.
#[inline(always)]
pub(crate) fn ipv4(packet: &Packet, end: usize) -> Flaw {
    const OPTIONS: usize = IP + Ipv4::LENGTH;
    let Some(header) = packet.view::<Ipv4Words>(IP) else { return Flaw::NONE };
    let (mut sum, length) = (checksum::sum(header.0), end.wrapping_sub(OPTIONS));
    let mut options = [0; OPTION_WORDS];
    if length != 0 && packet.load(OPTIONS, &mut options, length).is_none() {
        return Flaw::NONE;
    }
    for word in options {
        sum += (word & 0xffff_ffff) + (word >> 32);
    }
    if !checksum::adds_up(sum) {
        return Flaw::CHECKSUM;
    }
    let unknown = packet.linear_length();
    if may_pass(&options, length, |at| forget(at, unknown)) { Flaw::NONE } else { Flaw::OPTIONS }
}

/// The header of TCP or UDP, and what it says about itself. A datagram may end before its packet does (RFC 9868); of one in
/// fragments only the first is here.
#[inline(always)]
pub(crate) fn transport<A>(packet: &Packet, ip: &Ip<A>) -> Result<(), Outcome> {
    match ip.number {
        protocol::TCP => {
            let header: &Tcp = packet.view(ip.at).ok_or(Outcome::Truncated)?;
            if header.length() < TCP {
                return Err(Outcome::BadLength);
            }
            if is_sensible(header.flags) { Ok(()) } else { Err(Outcome::BadFlags) }
        }
        protocol::UDP => {
            let header: &Udp = packet.view(ip.at).ok_or(Outcome::Truncated)?;
            // An IPv6 packet may be longer than 16 bits say with its header, and the datagram is not.
            let is_open = ip.part.is_first() || ip.length == u16::MAX;
            let held = if is_open { u16::MAX } else { ip.length.wrapping_sub(behind_ip(ip.at)) };
            if holds(u16::from_be(header.length), held) { Ok(()) } else { Err(Outcome::BadLength) }
        }
        _ => Ok(()),
    }
}

/// Whether so many bytes hold a datagram that says its length.
#[inline(always)]
pub(crate) const fn holds(datagram: u16, bytes: u16) -> bool {
    UDP <= datagram && datagram <= bytes
}

/// A later fragment ends within the longest packet that there can be (RFC 791 §3.1, RFC 8200 §4.5).
#[inline(always)]
pub(crate) fn fragment<A, C>(ip: &Ip<A>, flow: &Flow<C>) -> Result<(), Outcome> {
    let bytes = flow.length.wrapping_sub(flow.headers);
    if ip.part.edge().checked_add(bytes).is_some() { Ok(()) } else { Err(Outcome::BadLength) }
}

/// What it means that a header is cut: a first fragment for a VIP that is all there has been made so short. Whose port it
/// is for cannot be told (RFC 1858 §3, RFC 7112 §5).
#[inline(always)]
pub(crate) fn cut<C: Client>(packet: &Packet, ip: &Ip<C::Address>, end: Outcome) -> Outcome {
    let is_tiny = matches!(end, Outcome::Truncated | Outcome::BadLength)
        && ip.part.is_first()
        && packet.holds(IP + usize::from(ip.length))
        && maps::is_vip(C::mapped(ip.destination));
    if is_tiny { Outcome::TinyFragment } else { end }
}
