//! The flow table: buckets of one cache line with four flows each.
//!
//! A flow may stand in one of two buckets that its tag leads to, so a lookup touches one line, two at most. A tag is a
//! keyed 64-bit hash of the client, told apart by service: a bijection of address and port within an IPv4 service,
//! so that two flows of one never share a tag; otherwise two flows share one with a probability of 2^-64.
//!
//! Kernel CPUs and the agent read and write at the same time, a word at a time and without locks. A value repeats
//! twelve bits of its tag, so that a value is not taken for another flow's that overtook it.
//!
//! ```text
//! bucket: tag 0 | tag 1 | tag 2 | tag 3 | value 0 | value 1 | value 2 | value 3      (8 bytes each)
//! value:  63 … 52 check | 51 … 26 seen | 25, 24 state | 23 … 0 backend
//! ```

use crate::flow::{AHEAD, FlowRecord, Ticks, state};

/// Flows in a bucket.
pub const WAYS: usize = 4;

/// The highest backend id that a record can name.
pub const MAX_BACKEND: u32 = (1 << BACKEND_BITS) - 1;

/// A flow that was active within this time is not evicted for a new one: 30 s.
pub const PROTECTED: Ticks = 28;

const BACKEND_BITS: u32 = 24;
const SEEN_SHIFT: u32 = 26;
const SEEN_MASK: u32 = (1 << 26) - 1;
const CHECK_SHIFT: u32 = 52;

/// A bucket; a tag of 0 is a free place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Who stands here.
    pub tags: [u64; WAYS],
    /// What is known of them.
    pub values: [u64; WAYS],
}

/// Who a tag belongs to: written with a flow's record and read by the agent alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The tag, so that a line that was overtaken is recognised.
    pub tag: u64,
    /// The service's id.
    pub service: u32,
    /// The client's port, in wire order.
    pub port: [u8; 2],
    /// Reserved, zero.
    pub reserved: [u8; 2],
    /// The client's address; IPv4 as an IPv4-mapped address.
    pub address: [u8; 16],
}

/// The clients of a bucket's flows.
pub type Clients = [Client; WAYS];

const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<Clients>() == 128);

/// The tag of a flow, from its hash and its service.
#[inline(always)]
#[must_use]
pub const fn tag(hash: u64, service: u32) -> u64 {
    match hash ^ salt(service) {
        0 => 1,
        tag => tag,
    }
}

/// The hash of a flow, from its tag and its service.
#[inline(always)]
#[must_use]
pub const fn hash(tag: u64, service: u32) -> u64 {
    tag ^ salt(service)
}

#[inline(always)]
const fn salt(service: u32) -> u64 {
    (service as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The two buckets where a flow may stand, in a table of `size` buckets.
#[inline(always)]
#[must_use]
pub const fn buckets(tag: u64, size: u32) -> [u32; 2] {
    // The upper half of a hash picks the slot: flows of one slot still spread over the whole table.
    let other = tag.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32;
    [scale(tag & 0xffff_ffff, size), scale(other, size)]
}

#[inline(always)]
const fn scale(upper: u64, size: u32) -> u32 {
    ((upper * size as u64) >> 32) as u32
}

/// A record as a value.
#[inline(always)]
#[must_use]
pub const fn pack(tag: u64, record: &FlowRecord) -> u64 {
    let backend = (record.backend & MAX_BACKEND) as u64;
    let state = ((record.state & 3) as u64) << BACKEND_BITS;
    let seen = ((record.seen & SEEN_MASK) as u64) << SEEN_SHIFT;
    check(tag) | seen | state | backend
}

/// A value as a record; `None` when it is another flow's. `now` completes the time, which is kept for two
/// years; it may be up to [`AHEAD`] ticks after `now`.
#[inline(always)]
#[must_use]
pub const fn unpack(tag: u64, value: u64, now: Ticks) -> Option<FlowRecord> {
    if (value ^ check(tag)) >> CHECK_SHIFT != 0 {
        return None;
    }
    let [low, seen] = [value & 0xffff_ffff, (value >> SEEN_SHIFT) & SEEN_MASK as u64];
    #[expect(clippy::cast_possible_truncation, reason = "masked to 32 and 26 bits")]
    let [low, seen] = [low as u32, seen as u32];
    let seen = now.wrapping_add(AHEAD).wrapping_sub(until_ahead(seen, now));
    Some(FlowRecord { backend: low & MAX_BACKEND, seen, state: (low >> BACKEND_BITS) & 3 })
}

/// Ticks from a time of which 26 bits are kept to [`AHEAD`] ticks from now.
#[inline(always)]
const fn until_ahead(seen: u32, now: Ticks) -> Ticks {
    now.wrapping_add(AHEAD).wrapping_sub(seen) & SEEN_MASK
}

#[inline(always)]
const fn check(tag: u64) -> u64 {
    (tag >> 20 & 0xfff) << CHECK_SHIFT
}

/// The way at which a tag stands.
#[inline(always)]
#[must_use]
pub fn find(tags: &[u64; WAYS], tag: u64) -> Option<usize> {
    let [first, second, third, fourth] = *tags;
    match tag {
        _ if first == tag => Some(0),
        _ if second == tag => Some(1),
        _ if third == tag => Some(2),
        _ if fourth == tag => Some(3),
        _ => None,
    }
}

/// The way of the flow that a new one may take the place of: the most expendable, `None` when all are protected.
/// Flows that never got beyond a SYN go first, then those that are closing, then those silent for the longest.
#[inline(always)]
#[must_use]
pub fn victim(values: &[u64; WAYS], now: Ticks) -> Option<usize> {
    let [first, second, third, fourth] = *values;
    let best = better((expendable(first, now), 0), (expendable(second, now), 1));
    let best = better(best, (expendable(third, now), 2));
    let (merit, way) = better(best, (expendable(fourth, now), 3));
    (merit > 0).then_some(way)
}

#[inline(always)]
const fn better(one: (u32, usize), other: (u32, usize)) -> (u32, usize) {
    if other.0 > one.0 { other } else { one }
}

/// How little would be lost with a flow; 0 when it is protected.
#[inline(always)]
const fn expendable(value: u64, now: Ticks) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "masked to 26 and 2 bits")]
    let [seen, kind] = [(value >> SEEN_SHIFT) as u32 & SEEN_MASK, (value >> BACKEND_BITS) as u32 & 3];
    let idle = until_ahead(seen, now);
    match kind {
        state::ESTABLISHED if idle <= PROTECTED + AHEAD => 0,
        state::ESTABLISHED => idle,
        state::CLOSING => (1 << 27) | idle,
        _ => (1 << 28) | idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;
    use proptest::prelude::*;
    extern crate std;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn records_come_back(tag: u64, backend in 0..=MAX_BACKEND, idle in 0..SEEN_MASK - AHEAD, state in 0u32..4, now: u32) {
            let record = FlowRecord { backend, seen: now.wrapping_sub(idle), state };
            prop_assert_eq!(unpack(tag, pack(tag, &record), now), Some(record));
        }

        #[test]
        fn a_flow_seen_just_after_now_is_not_two_years_idle(tag: u64, ahead in 0..=AHEAD, now: u32) {
            let record = FlowRecord { backend: 1, seen: now.wrapping_add(ahead), state: state::ESTABLISHED };
            let value = pack(tag, &record);
            prop_assert_eq!(unpack(tag, value, now), Some(record));
            prop_assert_eq!((expendable(value, now), record.idle(now)), (0, 0));
        }

        #[test]
        fn another_flows_value_is_recognised(tag: u64, bit in 20u32..32) {
            let value = pack(tag, &FlowRecord { backend: 1, seen: 2, state: 3 });
            prop_assert_eq!(unpack(tag ^ (1 << bit), value, 2), None);
        }

        #[test]
        fn a_tag_tells_its_flows_hash(flow: u64, service: u32) {
            // But for the one that would be 0.
            let tag = tag(flow, service);
            prop_assert!(tag == 1 || hash(tag, service) == flow);
        }

        #[test]
        fn buckets_lie_within_the_table(tag: u64, size in 1u32..) {
            prop_assert!(buckets(tag, size).iter().all(|bucket| *bucket < size));
        }

        #[test]
        fn what_was_put_somewhere_is_found_there(tags in prop::array::uniform4(1u64..), way in 0usize..4) {
            let first = tags.iter().position(|tag| *tag == tags[way]);
            prop_assert_eq!(find(&tags, tags[way]), first);
        }
    }

    #[test]
    fn flows_of_one_ipv4_service_never_share_a_tag() {
        let tags: BTreeSet<u64> =
            (0..u16::MAX).map(|port| tag(hash::flow4(9, [10, 0, 0, 1], port.to_be_bytes()), 7)).collect();
        assert_eq!(tags.len(), usize::from(u16::MAX));
    }

    #[test]
    fn a_table_at_sixty_percent_holds_nearly_every_flow() {
        let size = 1000u32;
        let mut table = std::vec![[0u64; WAYS]; 1000];
        let mut lost = 0;
        for n in 0..2400u16 {
            let tag = tag(hash::flow4(3, [10, 0, 0, 1], n.to_be_bytes()), 1);
            let places = buckets(tag, size);
            let free = places.iter().find_map(|place| {
                let bucket = usize::try_from(*place).unwrap();
                table[bucket].iter().position(|tag| *tag == 0).map(|way| (bucket, way))
            });
            match free {
                Some((bucket, way)) => table[bucket][way] = tag,
                None => lost += 1,
            }
        }
        assert!(lost <= 24, "{lost} of 2400 found no place");
    }

    fn value(state: u32, seen: Ticks) -> u64 {
        pack(0, &FlowRecord { backend: 1, seen, state })
    }

    #[test]
    fn half_open_flows_go_first_then_closing_then_the_longest_silent() {
        let busy = value(state::ESTABLISHED, 1000);
        let silent = value(state::ESTABLISHED, 900);
        let closing = value(state::CLOSING, 999);
        let opening = value(state::OPENING, 1000);
        assert_eq!(victim(&[busy, silent, closing, opening], 1000), Some(3));
        assert_eq!(victim(&[busy, silent, closing, busy], 1000), Some(2));
        assert_eq!(victim(&[busy, busy, silent, busy], 1000), Some(2));
        assert_eq!(victim(&[busy, silent, value(state::ESTABLISHED, 800), busy], 1000), Some(2));
    }

    #[test]
    fn active_flows_are_never_evicted() {
        assert_eq!(victim(&[value(state::ESTABLISHED, 1000 - PROTECTED); WAYS], 1000), None);
    }
}
