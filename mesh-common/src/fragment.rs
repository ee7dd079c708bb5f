//! Fragments: only the first of a packet has the ports, so what became of it is remembered for the others.
//!
//! Nothing is reassembled here: whoever gets the first fragment gets the others, unless they begin before it ends.

use crate::flow::{AHEAD, Ticks};

/// How long a first fragment speaks for the others: 5 s. They follow it at once; what is reordered comes milliseconds
/// later. Shorter than a receiver waits for missing fragments (30 s in Linux, 60 s in RFC 8200 §4.5).
pub const LIFE: Ticks = 5;

/// How many packets in fragments are remembered at once; the least recently used are forgotten.
pub const PACKETS: u32 = 16_384;

/// Which packet a fragment is of: source and destination (IPv4 as IPv4-mapped addresses, so that the families differ),
/// then identification and protocol (RFC 791 §3.2; IPv6 fragments of a packet may name different ones, which do not
/// count: RFC 8200 §4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey(pub [u64; 5]);

impl FragmentKey {
    /// The key of a fragment; addresses as the words that they fill, `id` as it stands in the packet, `protocol` 0 for
    /// IPv6.
    #[inline(always)]
    #[must_use]
    pub const fn new(source: [u64; 2], destination: [u64; 2], id: u32, protocol: u8) -> Self {
        let ([a, b], [c, d]) = (source, destination);
        Self([a, b, c, d, id as u64 | (protocol as u64) << 32])
    }

    /// The identification, as it stands in the packet.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    pub const fn id(&self) -> u32 {
        let Self([.., id]) = *self;
        id as u32
    }
}

/// What became of a first fragment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentRecord {
    /// The hash of its flow.
    pub hash: u64,
    /// The backend that got it; 0: it went into the host.
    pub backend: u32,
    /// The service of that backend.
    pub service: u32,
    /// When.
    pub seen: Ticks,
    /// The port that it was to, in the byte order of the wire.
    pub port: u16,
    /// The port that it came from.
    pub source_port: u16,
    /// The protocol of its flow; later fragments of IPv6 may name another.
    pub protocol: u8,
    /// The program that goes on with the others: one of [`programs`](crate::abi::programs).
    pub next: u8,
    /// Where it ends: how many bytes of the packet it has.
    pub edge: u16,
    /// Reserved, zero.
    pub reserved: u32,
}

impl FragmentRecord {
    /// Whether the record still speaks for its packet's fragments.
    #[inline(always)]
    #[must_use]
    pub const fn is_fresh(&self, now: Ticks) -> bool {
        now.wrapping_sub(self.seen).wrapping_add(AHEAD) <= LIFE + AHEAD
    }
}

const _: () = {
    assert!(size_of::<FragmentKey>() == 40);
    assert!(size_of::<FragmentRecord>() == 32);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_speaks_for_a_few_seconds_whichever_cpu_wrote_it() {
        let record = FragmentRecord { seen: 100, ..FragmentRecord::default() };
        let fresh = |now| record.is_fresh(now);
        assert!(fresh(100) && fresh(100 + LIFE) && fresh(100 - AHEAD));
        assert!(!fresh(101 + LIFE) && !fresh(99 - AHEAD) && !fresh(0x8000_0000));
    }

    #[test]
    fn every_part_of_a_packets_identity_makes_another_key() {
        let key = FragmentKey::new([1, 2], [3, 4], 5, 6);
        let others = [
            FragmentKey::new([0, 2], [3, 4], 5, 6),
            FragmentKey::new([1, 0], [3, 4], 5, 6),
            FragmentKey::new([1, 2], [0, 4], 5, 6),
            FragmentKey::new([1, 2], [3, 0], 5, 6),
            FragmentKey::new([1, 2], [3, 4], 0, 6),
            FragmentKey::new([1, 2], [3, 4], 5, 0),
            FragmentKey::new([3, 4], [1, 2], 5, 6),
        ];
        assert!(!others.contains(&key));
    }
}
