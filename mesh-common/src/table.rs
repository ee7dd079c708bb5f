//! The flow table: buckets of one cache line with seven flows each.
//!
//! A flow's **key** is a keyed 64-bit hash of the client, told apart by service. The key leads to two buckets. A flow
//! stands in the first; in the second only if the first had no place for it, which the first remembers, so that
//! a lookup touches one line and rarely two. A bucket knows eight bits of each key, its **tag**, and compares all tags at
//! once; a record knows 26 other bits. So a flow that has no record is taken for one that has with a probability of
//! 7 × 2^-34 at most.
//!
//! Kernel CPUs and the agent read and write at the same time, a word or a tag at a time and without locks. A record
//! is written before its tag; two CPUs that take one place at the same moment lose one of the two records.
//!
//! ```text
//! bucket: flags and seven tags, a byte each | record 1 | … | record 7              (8 bytes each)
//! record: 63 … 38 check | 37, 36 state | 35 … 20 seen | 19 … 0 backend
//! ```

use crate::flow::{AHEAD, FlowRecord, Ticks, state};

/// Flows in a bucket.
pub const WAYS: usize = 7;

/// The highest backend id that a record can name.
pub const MAX_BACKEND: u32 = (1 << BACKEND_BITS) - 1;

/// A flow that was active within this time is not evicted for a new one: 30 s.
pub const PROTECTED: Ticks = 28;

const BACKEND_BITS: u32 = 20;
const SEEN_SHIFT: u32 = BACKEND_BITS;
const SEEN_MASK: u32 = (1 << 16) - 1;
const STATE_SHIFT: u32 = SEEN_SHIFT + 16;
/// From this bit on a record has the bits of its flow's key.
pub const CHECK_SHIFT: u32 = STATE_SHIFT + 2;

/// A bucket: first the word of tags, then the records; a record and its tag have the same index, a word's or a byte's.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket(pub [u64; 1 + WAYS]);

/// The lowest byte of the word of tags: whether a flow found no place here and may stand in its second bucket.
pub const OVERFLOWED: u8 = 1;

/// Who a record belongs to: written with it and read by the agent alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The flow's key, so that a line that was overtaken is recognised.
    pub key: u64,
    /// The service's id.
    pub service: u32,
    /// The client's port, in wire order.
    pub port: [u8; 2],
    /// Reserved, zero.
    pub reserved: [u8; 2],
    /// The client's address; IPv4 as an IPv4-mapped address.
    pub address: [u8; 16],
}

/// The clients of a bucket's flows; the first belongs to the record with index 1.
pub type Clients = [Client; WAYS];

const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<Clients>() == 224);

/// The key of a flow, from its hash and its service.
#[inline(always)]
#[must_use]
pub const fn key(hash: u64, service: u32) -> u64 {
    hash ^ salt(service)
}

/// The hash of a flow, from its key and its service.
#[inline(always)]
#[must_use]
pub const fn hash(key: u64, service: u32) -> u64 {
    key ^ salt(service)
}

#[inline(always)]
const fn salt(service: u32) -> u64 {
    (service as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The two buckets where a flow may stand, in a table of `size` buckets.
#[inline(always)]
#[must_use]
pub const fn buckets(key: u64, size: u32) -> [u32; 2] {
    // The upper half of a hash picks the slot: flows of one slot still spread over the whole table.
    let other = key.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32;
    [scale(key & 0xffff_ffff, size), scale(other, size)]
}

#[inline(always)]
const fn scale(upper: u64, size: u32) -> u32 {
    ((upper * size as u64) >> 32) as u32
}

/// The tag of a key; never 0, which is a free place.
#[inline(always)]
#[must_use]
pub const fn tag(key: u64) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is wanted")]
    let tag = key as u8;
    if tag == 0 { 0x80 } else { tag }
}

const EVERY_BYTE: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Indices of bytes, found one after the other, without a branch for each byte.
///
/// A byte that is not wanted may stand behind the first that is ("Bit Twiddling Hacks", determine if a word has a
/// zero byte); who looks at its record finds out.
#[derive(Clone, Copy, Debug)]
pub struct Found(u64);

impl Found {
    /// Places whose tag is this one; 0 finds the free ones.
    #[inline(always)]
    #[must_use]
    pub const fn tags(tags: u64, tag: u8) -> Self {
        // The lowest byte is none of the tags.
        let different = (tags ^ (tag as u64).wrapping_mul(EVERY_BYTE)) | 0xff;
        Self(different.wrapping_sub(EVERY_BYTE) & !different & HIGH_BITS)
    }

    /// The first of them: 1 to [`WAYS`].
    #[inline(always)]
    #[must_use]
    pub const fn first(self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0 & self.0.wrapping_neg();
        // The set bit is the eighth of its byte; the product's highest byte is that byte's index.
        Some(((lowest >> 7).wrapping_mul(0x0001_0203_0405_0607) >> 56) as usize & WAYS)
    }

    /// Those behind the first.
    #[inline(always)]
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(self.0 & self.0.wrapping_sub(1))
    }
}

/// A record as a word.
#[inline(always)]
#[must_use]
pub const fn pack(key: u64, record: &FlowRecord) -> u64 {
    let backend = (record.backend & MAX_BACKEND) as u64;
    let state = ((record.state & 3) as u64) << STATE_SHIFT;
    let seen = ((record.seen & SEEN_MASK) as u64) << SEEN_SHIFT;
    check(key) | seen | state | backend
}

/// A word as a record; `None` when it is another flow's. `now` completes the time, of which 19 hours are kept; it may be
/// up to [`AHEAD`] ticks after `now`.
#[inline(always)]
#[must_use]
pub const fn unpack(key: u64, word: u64, now: Ticks) -> Option<FlowRecord> {
    if (word ^ key) >> CHECK_SHIFT != 0 {
        return None;
    }
    let backend = low(word) & MAX_BACKEND;
    let seen = now.wrapping_add(AHEAD).wrapping_sub(until_ahead(word, now));
    Some(FlowRecord { backend, seen, state: low(word >> STATE_SHIFT) & 3 })
}

/// Ticks from when a record was seen to [`AHEAD`] ticks from now.
#[inline(always)]
const fn until_ahead(word: u64, now: Ticks) -> Ticks {
    now.wrapping_add(AHEAD).wrapping_sub(low(word >> SEEN_SHIFT)) & SEEN_MASK
}

#[inline(always)]
const fn low(word: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    let low = word as u32;
    low
}

#[inline(always)]
const fn check(key: u64) -> u64 {
    key >> CHECK_SHIFT << CHECK_SHIFT
}

/// The index of the record that a new flow may take the place of: the most expendable, `None` when all are protected.
/// Flows that never got beyond a SYN go first, then those that are closing, then those silent for the longest.
/// `larger` gives the larger of two numbers.
#[inline(always)]
#[must_use]
pub fn victim(bucket: &Bucket, now: Ticks, larger: impl Fn(usize, usize) -> usize) -> Option<usize> {
    let Bucket([_, records @ ..]) = bucket;
    let merits = records.iter().zip(1usize..).map(|(record, at)| expendable(*record, now) << 3 | at);
    let best = merits.fold(0, larger);
    (best >> 3 > (PROTECTED + AHEAD) as usize).then_some(best & WAYS)
}

/// How little would be lost with a flow: its silence in ticks, of established flows, which is more than [`PROTECTED`] and
/// [`AHEAD`] together if it is not protected; more than that of any other.
#[inline(always)]
const fn expendable(record: u64, now: Ticks) -> usize {
    // No branches: the verifier would walk through all their combinations.
    const { assert!(state::ESTABLISHED == 2 && state::OPENING ^ 2 > state::CLOSING ^ 2) };
    let kind = (low(record >> STATE_SHIFT) ^ 2) & 3;
    (kind << 16 | until_ahead(record, now)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn records_come_back(key: u64, backend in 0..=MAX_BACKEND, idle in 0..SEEN_MASK - AHEAD, state in 0u32..4, now: u32) {
            let record = FlowRecord { backend, seen: now.wrapping_sub(idle), state };
            prop_assert_eq!(unpack(key, pack(key, &record), now), Some(record));
        }

        #[test]
        fn a_flow_seen_just_after_now_is_not_hours_idle(key: u64, ahead in 0..=AHEAD, now: u32) {
            let record = FlowRecord { backend: 1, seen: now.wrapping_add(ahead), state: state::ESTABLISHED };
            let word = pack(key, &record);
            prop_assert_eq!(unpack(key, word, now), Some(record));
            prop_assert!(expendable(word, now) <= AHEAD as usize);
            prop_assert_eq!(record.idle(now), 0);
        }

        #[test]
        fn another_flows_record_is_recognised(key: u64, bit in CHECK_SHIFT..64) {
            let word = pack(key, &FlowRecord { backend: 1, seen: 2, state: 3 });
            prop_assert_eq!(unpack(key ^ (1 << bit), word, 2), None);
        }

        #[test]
        fn a_key_tells_its_flows_hash(flow: u64, service: u32) {
            prop_assert_eq!(hash(key(flow, service), service), flow);
        }

        #[test]
        fn buckets_lie_within_the_table(key: u64, size in 1u32..) {
            prop_assert!(buckets(key, size).iter().all(|bucket| *bucket < size));
        }

        #[test]
        fn every_place_with_the_tag_is_found_and_the_first_is_right(tags: [u8; 8], key: u64, many: bool) {
            let wanted = tag(key);
            // Of random tags few are equal.
            let tags = if many { tags.map(|tag| if tag < 128 { wanted } else { tag }) } else { tags };
            for tag in [wanted, 0] {
                let mut found = Found::tags(u64::from_le_bytes(tags), tag);
                let right: Vec<usize> = (1..=WAYS).filter(|at| tags[*at] == tag).collect();
                prop_assert_eq!(found.first(), right.first().copied());
                let mut all = Vec::new();
                while let Some(at) = found.first() {
                    all.push(at);
                    found = found.rest();
                }
                prop_assert!(right.iter().all(|at| all.contains(at)), "{:?} of {:?}", all, right);
            }
        }

        #[test]
        fn no_flow_has_the_tag_of_a_free_place(key: u64) {
            prop_assert!(tag(key) != 0 && tag(key & !0xff) != 0);
        }
    }

    #[test]
    fn a_table_at_sixty_percent_holds_nearly_every_flow_most_of_them_in_their_first_bucket() {
        let size = 1000u32;
        let mut used = std::vec![0usize; 1000];
        let (mut lost, mut second) = (0, 0);
        for n in 0..4200u16 {
            let key = key(hash::flow4(3, [10, 0, 0, 1], n.to_be_bytes()), 1);
            let places = buckets(key, size).map(|bucket| usize::try_from(bucket).unwrap());
            match places.iter().position(|place| used[*place] < WAYS) {
                Some(choice) => {
                    used[places[choice]] += 1;
                    second += choice;
                }
                None => lost += 1,
            }
        }
        assert!(lost <= 30, "{lost} of 4200 found no place");
        assert!(second <= 210, "{second} of 4200 stand in their second bucket");
    }

    fn record(state: u32, seen: Ticks) -> u64 {
        pack(0, &FlowRecord { backend: 1, seen, state })
    }

    fn victim_of(records: &[u64]) -> Option<usize> {
        let mut words = [record(state::ESTABLISHED, 1000); 1 + WAYS];
        words[1..=records.len()].copy_from_slice(records);
        victim(&Bucket(words), 1000, usize::max)
    }

    #[test]
    fn half_open_flows_go_first_then_closing_then_the_longest_silent() {
        let busy = record(state::ESTABLISHED, 1000);
        let silent = record(state::ESTABLISHED, 900);
        let closing = record(state::CLOSING, 999);
        let opening = record(state::OPENING, 1000);
        assert_eq!(victim_of(&[busy, silent, closing, opening]), Some(4));
        assert_eq!(victim_of(&[busy, silent, closing, busy]), Some(3));
        assert_eq!(victim_of(&[busy, busy, silent, busy]), Some(3));
        assert_eq!(victim_of(&[busy, silent, record(state::ESTABLISHED, 800), busy]), Some(3));
    }

    #[test]
    fn active_flows_are_never_evicted() {
        let flows = |idle| [record(state::ESTABLISHED, 1000 - idle); WAYS];
        assert_eq!(victim_of(&flows(PROTECTED)), None);
        assert!(victim_of(&flows(PROTECTED + 1)).is_some());
    }
}
