//! Checksums of what IP carries, as addresses and ports change (RFC 1624).

use crate::tuple::Tuple;

/// A ones' complement sum of words of 32 bits: folded, it is that of their halves, too (RFC 1071 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

/// The only value of a UDP checksum that says that there is none (RFC 768).
const NONE: u16 = 0;

impl Sum {
    /// Of two words, such as the addresses of an IPv4 header.
    #[inline(always)]
    #[must_use]
    pub const fn of(one: u32, other: u32) -> Self {
        Self(one as u64 + other as u64)
    }

    /// Of two addresses. What makes an IPv4 address IPv4-mapped is one word of ones, which is none in such a sum: so
    /// those of both versions can be compared.
    #[inline(always)]
    #[must_use]
    pub const fn of_addresses([a, b]: [u64; 2], [c, d]: [u64; 2]) -> Self {
        Self(0).plus(a).plus(b).plus(c).plus(d)
    }

    /// Of the addresses and ports of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn of_ends(ends: &Tuple) -> Self {
        Self::of_addresses(ends.source, ends.destination).plus(ends.ports() as u64)
    }

    /// With another two words, the first of which is the lower half.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, words: u64) -> Self {
        Self(self.0 + (words & 0xffff_ffff) + (words >> 32))
    }

    /// With all of these words, which are fewer than 2^15.
    #[inline(always)]
    #[must_use]
    pub fn plus_all<const N: usize>(self, words: &[u64; N]) -> Self {
        words.iter().fold(self, |sum, word| sum.plus(*word))
    }

    /// The checksum of what was summed.
    #[inline(always)]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        let Self(sum) = self;
        let sum = (sum & 0xffff_ffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        #[expect(clippy::cast_possible_truncation, reason = "folded so often, 16 bits are left")]
        let folded = (sum + (sum >> 16)) as u16;
        !folded
    }

    /// The checksum of a UDP datagram, which is never the value that says that there is none.
    #[inline(always)]
    #[must_use]
    pub const fn udp_checksum(self) -> u16 {
        let checksum = self.checksum();
        if checksum == NONE { !NONE } else { checksum }
    }
}

/// By how much the sum of a packet's words changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change(Sum);

impl Change {
    /// From one sum of fewer than 2^15 words to another.
    #[inline(always)]
    #[must_use]
    pub const fn between(Sum(old): Sum, Sum(new): Sum) -> Self {
        // Three words of ones, which are none. No sum of words other than zeroes comes out as zero, so a checksum is
        // never the other of its two zeroes.
        const NOTHING: u64 = 0xffff_ffff_ffff;
        Self(Sum(new + (NOTHING - old)))
    }

    /// The checksum of a packet that changes so.
    #[inline(always)]
    #[must_use]
    pub const fn update(self, checksum: u16) -> u16 {
        self.of(checksum).checksum()
    }

    /// The checksum of a UDP datagram that changes so: none stays none (RFC 768, RFC 6936 §5).
    #[inline(always)]
    #[must_use]
    pub const fn update_udp(self, checksum: u16) -> u16 {
        if checksum == NONE { NONE } else { self.of(checksum).udp_checksum() }
    }

    #[inline(always)]
    const fn of(self, checksum: u16) -> Sum {
        let Self(Sum(change)) = self;
        Sum(change + !checksum as u64)
    }
}
