//! Schedulers: which slot of a service's table a new flow takes. All are functions to an index over one table, which is
//! filled by weight.
//!
//! `maglev` and `source` hash: who knows the flow knows its slot. The others **pick**: nobody can tell a flow's slot
//! later, so that each of their flows is recorded. A segment of a connection that has no record goes by its hash then,
//! as it would with `maglev`: so do both ends of a flow for which the flow table had no place.

use crate::{
    flow::{FlowRecord, state},
    hash,
};

/// By the hash of client and port.
pub const MAGLEV: u32 = 0;
/// By the hash of the client's address.
pub const SOURCE: u32 = 1;
/// By chance.
pub const RANDOM: u32 = 2;
/// One slot after the other.
pub const ROUND_ROBIN: u32 = 3;
/// By chance, twice: the backend with fewer flows for its weight.
pub const LEAST_CONNECTIONS: u32 = 4;

/// Whether the slot of a flow does not follow from the flow.
#[inline(always)]
#[must_use]
pub const fn picks(scheduler: u32) -> bool {
    scheduler >= RANDOM
}

/// A slot by chance, of 32 random bits.
#[inline(always)]
#[must_use]
pub const fn random(bits: u32, size: u32) -> u32 {
    hash::slot((bits as u64) << 32, size)
}

/// The slot that is next after so many turns: in `size` turns in a row each slot has one. The table is shuffled, so that
/// the backends of neighbouring slots differ as by chance.
#[inline(always)]
#[must_use]
pub const fn turn(turns: u64, size: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "less than the size")]
    let slot = if size == 0 { 0 } else { turns % size as u64 } as u32;
    slot
}

/// A backend as `least-connections` sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Flows that it has. More may have ended than were counted for a moment: then it is negative.
    pub flows: i64,
    /// Its weight, as [`compress`] keeps it.
    pub weight: u8,
}

/// Whether the second has fewer flows for its weight.
#[inline(always)]
#[must_use]
pub const fn is_less_loaded(second: Candidate, first: Candidate) -> bool {
    load(second.flows) * expand(first.weight) < load(first.flows) * expand(second.weight)
}

/// No fewer than 0, and so few that the product with a weight fits.
#[inline(always)]
const fn load(flows: i64) -> u64 {
    if flows < 0 { 0 } else { flows.cast_unsigned() & 0xffff_ffff }
}

const MANTISSA: u32 = 4;

/// A weight as a byte: an exponent and four bits behind the first that is set; less than a sixteenth is lost.
#[must_use]
pub const fn compress(weight: u16) -> u8 {
    /// The highest bit of the first weight that loses one.
    const LONG: u32 = MANTISSA + 1;
    let byte = match weight.checked_ilog2() {
        Some(highest @ LONG..) => {
            let exponent = highest - MANTISSA;
            (exponent << MANTISSA) + (weight >> exponent) as u32
        }
        _ => weight as u32,
    };
    #[expect(clippy::cast_possible_truncation, reason = "at most 207")]
    let byte = byte as u8;
    byte
}

/// The weight behind a byte; not 0.
#[inline(always)]
const fn expand(byte: u8) -> u64 {
    let byte = byte as u64;
    match byte >> MANTISSA {
        0 => byte | (byte == 0) as u64,
        exponent => (byte & 15 | 16) << ((exponent - 1) & 15),
    }
}

/// Whose load a record counts towards: the backend's id, or 0 once the flow is closing.
#[inline(always)]
#[must_use]
pub const fn counted(record: &FlowRecord) -> u32 {
    if record.state == state::CLOSING { 0 } else { record.backend }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    /// A table of 1021 slots, of which the backends own 1, 2 and 4 of seven parts, shuffled.
    fn table() -> Vec<usize> {
        let owner = |slot: u32| [0, 1, 1, 2, 2, 2, 2][usize::try_from(slot * 394 % 1021 % 7).unwrap()];
        (0..1021).map(owner).collect()
    }

    fn shares(table: &[usize]) -> [f64; 3] {
        [0, 1, 2].map(|owner| {
            let own = table.iter().filter(|slot| **slot == owner).count();
            f64::from(u32::try_from(own).unwrap()) / 1021.0
        })
    }

    /// Chi-squared with two degrees of freedom: below 23 with a probability of 0.99999.
    fn assert_by_weight(picks: impl Iterator<Item = u32>) {
        let table = table();
        let mut counts = [0f64; 3];
        picks.for_each(|slot| counts[table[usize::try_from(slot).unwrap()]] += 1.0);
        let total: f64 = counts.iter().sum();
        let each = counts.iter().zip(shares(&table));
        let chi: f64 = each.map(|(n, share)| (n - share * total).powi(2) / (share * total)).sum();
        assert!(chi < 23.0, "chi squared is {chi} of {counts:?}");
    }

    /// A generator whose upper half is as good as random (Steele, Lea, Flood 2014: SplitMix64).
    fn numbers() -> impl Iterator<Item = u32> {
        (1u64..).map(|n| {
            let word = hash::flow6(9, u128::from(n).to_le_bytes(), [0; 2]);
            u32::try_from(word >> 32).unwrap()
        })
    }

    #[test]
    fn random_picks_follow_the_weights() {
        assert_by_weight(numbers().take(100_000).map(|bits| random(bits, 1021)));
    }

    #[test]
    fn turns_give_each_slot_one_of_every_round() {
        for start in [0, 1, 500, u64::from(u32::MAX)] {
            let mut slots: Vec<u32> = (start..start + 1021).map(|turns| turn(turns, 1021)).collect();
            slots.sort_unstable();
            assert!(slots.into_iter().eq(0..1021));
        }
    }

    /// Flows that stay: the loads for a weight keep close together, far closer than by chance.
    #[test]
    fn the_less_loaded_of_two_keeps_loads_by_weight_even() {
        let (table, weights) = (table(), [100, 200, 400].map(compress));
        let mut flows = [0i64; 3];
        let mut numbers = numbers();
        for _ in 0..7000 {
            let [first, second] =
                [(); 2].map(|()| table[usize::try_from(random(numbers.next().unwrap(), 1021)).unwrap()]);
            let candidate = |owner: usize| Candidate { flows: flows[owner], weight: weights[owner] };
            let less = is_less_loaded(candidate(second), candidate(first));
            flows[if less { second } else { first }] += 1;
        }
        let [one, two, four] = flows;
        assert!((980..1020).contains(&one) && (1980..2020).contains(&two), "{flows:?}");
        assert!((3970..4030).contains(&four), "{flows:?}");
    }

    #[test]
    fn only_picks_need_records() {
        assert_eq!(
            [MAGLEV, SOURCE, RANDOM, ROUND_ROBIN, LEAST_CONNECTIONS].map(picks),
            [false, false, true, true, true]
        );
    }

    #[test]
    fn a_closing_flow_is_no_load() {
        let record = |state| FlowRecord { backend: 7, seen: 1, state };
        let loads = [state::OPENING, state::ESTABLISHED, state::CLOSING].map(|of| counted(&record(of)));
        assert_eq!(loads, [7, 7, 0]);
    }

    proptest! {
        #[test]
        fn indices_lie_within_the_table(bits: u32, turns: u64, size in 1u32..) {
            prop_assert!(random(bits, size) < size && turn(turns, size) < size);
        }

        #[test]
        fn a_weight_comes_back_with_less_than_a_sixteenth_lost(weight in 1u16..) {
            let (exact, kept) = (u64::from(weight), expand(compress(weight)));
            prop_assert!(kept <= exact && (exact - kept) * 16 < exact, "{exact} as {kept}");
        }

        #[test]
        fn of_two_candidates_at_most_one_is_less_loaded(flows: [i64; 2], weights: [u8; 2]) {
            let [first, second] = [0, 1].map(|at| Candidate { flows: flows[at], weight: weights[at] });
            prop_assert!(!(is_less_loaded(first, second) && is_less_loaded(second, first)));
        }
    }
}
