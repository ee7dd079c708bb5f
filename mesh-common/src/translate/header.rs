//! IP headers of the other version (RFC 7915 §4.1, §5.1).

use super::Sum;
use crate::{encap::LENGTH_IPV4, tuple::Tuple};

/// Words of an IPv4 header without options.
pub const WORDS4: usize = 5;
/// Double words of an IPv6 header.
pub const WORDS6: usize = 5;

/// The number of the fragment header (RFC 8200 §4.5).
pub const FRAGMENT: u8 = 44;

/// Bytes of the fragment header.
pub const FRAGMENT_LENGTH: u16 = 8;

/// Longest IPv4 packet that may be fragmented on its way: it fits, as an IPv6 packet, through every link (1280 bytes).
pub const FRAGMENTABLE: u16 = 1260;

/// What the headers of both versions say, beside addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// What the packet carries.
    pub protocol: u8,
    /// Bytes of that, in the host's order.
    pub payload: u16,
}

/// Which part of its packet a fragment carries, as the IPv6 fragment header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose part.
    id: u32,
    /// 13 bits of offset, two that are reserved, and whether there are more.
    place: u16,
}

impl Piece {
    /// Of an IPv4 header's identification, and its flags and offset.
    #[inline(always)]
    #[must_use]
    pub const fn of4(id: u16, fragment: u16) -> Self {
        let fragment = u16::from_be(fragment);
        Self { id: (id as u32) << 16, place: (fragment << 3 | fragment >> 13 & 1).to_be() }
    }

    /// Of a fragment header's second half, and what stands before it.
    #[inline(always)]
    #[must_use]
    pub const fn of6(id: u32, place: u16) -> Self {
        Self { id, place }
    }

    /// The second word of an IPv4 header: the lower half of the identification; who fragmented it allows others to.
    #[inline(always)]
    #[must_use]
    pub const fn word4(self) -> u32 {
        let place = u16::from_be(self.place);
        let fragment = (place >> 3 | (place & 1) << 13).to_be();
        self.id >> 16 | (fragment as u32) << 16
    }

    /// The fragment header in front of this protocol.
    #[inline(always)]
    #[must_use]
    pub const fn header6(self, protocol: u8) -> u64 {
        protocol as u64 | (self.place as u64) << 16 | (self.id as u64) << 32
    }
}

/// The second word of the IPv4 header of a packet that is so long and no fragment: a short one may become some, and
/// needs an identification, which is one by chance; a long one must not (RFC 7915 §5.1).
#[inline(always)]
#[must_use]
pub const fn whole4(payload: u16, chance: u32) -> u32 {
    const DONT_FRAGMENT: u32 = u32::from_ne_bytes([0, 0, 0x40, 0]);
    if payload <= FRAGMENTABLE - LENGTH_IPV4 { chance & 0xffff } else { DONT_FRAGMENT }
}

/// An IPv4 address, out of an IPv4-mapped one.
#[inline(always)]
#[must_use]
pub const fn unmapped([_, last]: [u64; 2]) -> u32 {
    (last >> 32) as u32
}

/// The IPv4 header of a packet with these addresses and no more than 65515 bytes behind it, which is fragmented as `second`, its second word, says.
#[inline(always)]
#[must_use]
pub const fn ipv4(header: Header, second: u32, to: &Tuple) -> [u32; WORDS4] {
    let [high, low] = header.payload.saturating_add(LENGTH_IPV4).to_be_bytes();
    let (source, destination) = (unmapped(to.source), unmapped(to.destination));
    let first = u32::from_ne_bytes([0x45, header.traffic_class, high, low]);
    let third = u32::from_ne_bytes([header.hops, header.protocol, 0, 0]);
    let words = [first as u64 | (second as u64) << 32, third as u64];
    let sum = Sum::of(source, destination).plus(words[0]).plus(words[1]);
    [first, second, third | (sum.checksum() as u32) << 16, source, destination]
}

/// The IPv6 header of a packet with these addresses.
#[inline(always)]
#[must_use]
pub const fn ipv6(header: Header, to: &Tuple) -> [u64; WORDS6] {
    let Header { traffic_class, hops, protocol, payload } = header;
    let [high, low] = payload.to_be_bytes();
    let first =
        u64::from_ne_bytes([0x60 | traffic_class >> 4, traffic_class << 4, 0, 0, high, low, protocol, hops]);
    let ([a, b], [c, d]) = (to.source, to.destination);
    [first, a, b, c, d]
}
