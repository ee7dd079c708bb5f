//! ICMP errors about packets, for whoever sent these (RFC 7915 §4.2, §4.3, §5.2, §5.3).
//!
//! An error is put together anew: of the packet that it is about it quotes the header and 64 bits, whatever the one that
//! came in quotes. So both have a fixed size.

use super::{
    Change, Sum,
    header::{self, Header},
};
use crate::{
    abi::protocol,
    icmp::{ERROR4, Outer, QUOTED4, REFUSAL6, SHORT6, error4, error6},
    tuple::Tuple,
};

/// Bytes of the IPv4 packet with an error.
pub const LENGTH4: u16 = 56;
/// Bytes of the IPv6 packet with an error.
pub const LENGTH6: u16 = 96;

const _: () = assert!(LENGTH4 as usize == 4 * ERROR4 && LENGTH6 as usize == 4 * REFUSAL6);

/// Longest packet that every IPv6 link takes (RFC 8200 §5).
const LEAST_MTU6: u16 = 1280;

/// What an IPv6 header has more than one of IPv4.
const LONGER6: u16 = 20;

/// Lengths that links take, for errors of routers that do not say how long packets may be (RFC 1191 §7.1); below the
/// last there is nothing that IPv6 could use.
const PLATEAUS: [u16; 7] = [32_000, 17_914, 8166, 4352, 2002, 1492, 0];

/// What an error says of the packet: its first 8 bytes, without the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The type.
    pub kind: u8,
    /// What exactly.
    pub code: u8,
    /// A length or a place in the packet, by type.
    pub rest: u32,
}

/// The types of ICMP (RFC 792).
mod kind4 {
    pub(super) const UNREACHABLE: u8 = 3;
    pub(super) const TIME_EXCEEDED: u8 = 11;
    pub(super) const PARAMETER: u8 = 12;
}

/// The types of ICMPv6 (RFC 4443 §3).
mod kind6 {
    pub(super) const UNREACHABLE: u8 = 1;
    pub(super) const TOO_BIG: u8 = 2;
    pub(super) const TIME_EXCEEDED: u8 = 3;
    pub(super) const PARAMETER: u8 = 4;
}

/// In ICMP's "destination unreachable": the packet is too long and must not be fragmented.
const FRAGMENTATION_NEEDED: u8 = 4;

impl Message {
    const fn plain(kind: u8, code: u8) -> Self {
        Self { kind, code, rest: 0 }
    }

    /// With a place in the packet; ICMP has one byte for it (RFC 792), ICMPv6 has four (RFC 4443 §3.4).
    const fn at4(place: u8) -> Self {
        Self { kind: kind4::PARAMETER, code: 0, rest: u32::from_ne_bytes([place, 0, 0, 0]) }
    }

    const fn at6(place: u8) -> Self {
        Self { kind: kind6::PARAMETER, code: 0, rest: (place as u32).to_be() }
    }

    /// What ICMP's error says, to who speaks ICMP: without what extends the quotation (RFC 4884 §4), which is made anew.
    #[inline(always)]
    #[must_use]
    pub const fn within4(self) -> Self {
        let [place, _, high, low] = self.rest.to_ne_bytes();
        let rest = match (self.kind, self.code) {
            (kind4::UNREACHABLE, FRAGMENTATION_NEEDED) => [0, 0, high, low],
            (kind4::PARAMETER, _) => [place, 0, 0, 0],
            _ => [0; 4],
        };
        Self { rest: u32::from_ne_bytes(rest), ..self }
    }

    /// What ICMPv6's error says, to who speaks ICMPv6.
    #[inline(always)]
    #[must_use]
    pub const fn within6(self) -> Self {
        let rest = if matches!(self.kind, kind6::TOO_BIG | kind6::PARAMETER) { self.rest } else { 0 };
        Self { rest, ..self }
    }

    /// ICMP's error about an IPv4 packet that is so long, to who sent it by IPv6; `None`: ICMPv6 has no word for it
    /// (RFC 7915 §4.2).
    #[inline(always)]
    #[must_use]
    pub const fn from4_to6(self, length: u16) -> Option<Self> {
        let message = match (self.kind, self.code) {
            (kind4::UNREACHABLE, FRAGMENTATION_NEEDED) => {
                let [_, _, high, low] = self.rest.to_ne_bytes();
                let mtu = mtu6(u16::from_be_bytes([high, low]), length);
                Self { kind: kind6::TOO_BIG, code: 0, rest: mtu.to_be() }
            }
            (kind4::UNREACHABLE, code) => return unreachable6(code),
            (kind4::TIME_EXCEEDED, code) => Self::plain(kind6::TIME_EXCEEDED, code),
            (kind4::PARAMETER, 0 | 2) => return place6(self.rest.to_ne_bytes()[0]),
            _ => return None,
        };
        Some(message)
    }

    /// ICMPv6's error to who sent the packet by IPv4; `None`: ICMP has no word for it (RFC 7915 §5.2).
    #[inline(always)]
    #[must_use]
    pub const fn from6_to4(self) -> Option<Self> {
        let message = match (self.kind, self.code) {
            (kind6::UNREACHABLE, code) => return unreachable4(code),
            (kind6::TOO_BIG, _) => {
                let [high, low] = mtu4(u32::from_be(self.rest)).to_be_bytes();
                Self { rest: u32::from_ne_bytes([0, 0, high, low]), ..UNFRAGMENTED }
            }
            (kind6::TIME_EXCEEDED, code) => Self::plain(kind4::TIME_EXCEEDED, code),
            (kind6::PARAMETER, 0) => return place4(u32::from_be(self.rest)),
            // An unknown next header: the protocol is not spoken there.
            (kind6::PARAMETER, 1) => Self::plain(kind4::UNREACHABLE, 2),
            _ => return None,
        };
        Some(message)
    }
}

const UNFRAGMENTED: Message = Message::plain(kind4::UNREACHABLE, FRAGMENTATION_NEEDED);

#[inline(always)]
const fn unreachable6(code: u8) -> Option<Message> {
    Some(match code {
        // Network, host, source route, both unknown, isolated, and both for this type of service: no route.
        0 | 1 | 5..=8 | 11 | 12 => Message::plain(kind6::UNREACHABLE, 0),
        // The protocol is not spoken there: the next header is not known, which stands at byte 6.
        2 => Message { code: 1, ..Message::at6(6) },
        3 => Message::plain(kind6::UNREACHABLE, 4),
        // Prohibited: network, host, by a filter, by its precedence.
        9 | 10 | 13 | 15 => Message::plain(kind6::UNREACHABLE, 1),
        _ => return None,
    })
}

#[inline(always)]
const fn unreachable4(code: u8) -> Option<Message> {
    Some(match code {
        // No route, beyond the scope, and the address: the host.
        0 | 2 | 3 => Message::plain(kind4::UNREACHABLE, 1),
        1 => Message::plain(kind4::UNREACHABLE, 10),
        4 => Message::plain(kind4::UNREACHABLE, 3),
        _ => return None,
    })
}

/// A place in an IPv4 header as one in an IPv6 header (RFC 7915, figure 3).
#[inline(always)]
const fn place6(place: u8) -> Option<Message> {
    Some(Message::at6(match place {
        0 | 1 => place,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => return None,
    }))
}

/// A place in an IPv6 header as one in an IPv4 header (RFC 7915, figure 6).
#[inline(always)]
const fn place4(place: u32) -> Option<Message> {
    Some(Message::at4(match place {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    }))
}

/// How long the IPv6 packets may be where IPv4's may have `mtu` bytes; 0: the router does not say, but `length` are too
/// many.
#[inline(always)]
const fn mtu6(mtu: u16, length: u16) -> u32 {
    let mtu = if mtu == 0 { plateau_below(length) } else { mtu } as u32 + LONGER6 as u32;
    if mtu < LEAST_MTU6 as u32 { LEAST_MTU6 as u32 } else { mtu }
}

/// How long the IPv4 packets may be where IPv6's may have `mtu` bytes.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "no more than 16 bits are left")]
const fn mtu4(mtu: u32) -> u16 {
    let mtu = mtu.saturating_sub(LONGER6 as u32);
    if mtu > u16::MAX as u32 { u16::MAX } else { mtu as u16 }
}

#[inline(always)]
const fn plateau_below(length: u16) -> u16 {
    let [a, b, c, d, e, f, least] = PLATEAUS;
    match length {
        _ if length > a => a,
        _ if length > b => b,
        _ if length > c => c,
        _ if length > d => d,
        _ if length > e => e,
        _ if length > f => f,
        _ => least,
    }
}

/// The packet that an error is about, as the error that came in quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// What its header says.
    pub header: Header,
    /// The first 64 bits of what it carries: ports, and by protocol a number, or a length and a checksum.
    pub first: [u32; 2],
    /// Its addresses and ports, and its protocol.
    pub ends: Tuple,
}

impl Quoted {
    /// What it carries, from and to other ports, under the checksum that fits.
    #[inline(always)]
    const fn carried(&self, ends: &Tuple) -> [u32; 2] {
        let [_, second] = self.first;
        let ports = ends.ports();
        if ends.protocol != protocol::UDP {
            return [ports, second];
        }
        let [a, b, c, d] = second.to_ne_bytes();
        let change = Change::between(Sum::of_ends(&self.ends), Sum::of_ends(ends));
        let [c, d] = change.update_udp(u16::from_ne_bytes([c, d])).to_ne_bytes();
        [ports, u32::from_ne_bytes([a, b, c, d])]
    }

    /// The IPv4 packet that whom the error goes `to` sent; `second` is the second word of its header.
    #[inline(always)]
    #[must_use]
    pub const fn as4(&self, second: u32, to: &Tuple) -> [u32; QUOTED4] {
        let ends = to.turned();
        let [first, rest] = self.carried(&ends);
        let [a, b, c, d, e] = header::ipv4(self.header, second, &ends);
        [a, b, c, d, e, first, rest]
    }

    /// The IPv6 packet that whom the error goes `to` sent.
    #[inline(always)]
    #[must_use]
    pub fn as6(&self, to: &Tuple) -> [u32; SHORT6] {
        let ends = to.turned();
        let mut quoted = [0; SHORT6];
        let header = header::ipv6(self.header, &ends);
        for (halves, word) in quoted.as_chunks_mut::<2>().0.iter_mut().zip(header) {
            *halves = [word, word >> 32].map(low_half);
        }
        quoted[10..].copy_from_slice(&self.carried(&ends));
        quoted
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
const fn low_half(word: u64) -> u32 {
    word as u32
}

/// The IPv4 packet with an error about this one; its addresses are those of what it quotes.
#[inline(always)]
#[must_use]
pub fn packet4(message: Message, outer: Outer, quoted: &[u32; QUOTED4]) -> [u32; ERROR4] {
    error4(quoted, [message.kind, message.code], message.rest, outer)
}

/// The IPv6 packet with an error about this one.
#[inline(always)]
#[must_use]
pub fn packet6(message: Message, outer: Outer, quoted: &[u32; SHORT6]) -> [u32; REFUSAL6] {
    error6(quoted, [message.kind, message.code], message.rest, outer)
}
