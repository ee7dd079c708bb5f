//! How many slots each share has a right to.
//!
//! Rounded by one divisor for all (as Webster and Sainte-Laguë do), which has the property that this is for: when a
//! weight changes, comes or goes, no two others trade slots. Where a share is rounded up differs between backends, so
//! that those of equal weights do not all gain or lose a slot at the same time.

use super::{Share, draw};

const POINTS: u64 = 0x6d65_7368_6c62_0003;

/// A whole slot, as divisors count.
const SLOT: u128 = 1 << 64;

/// Slots of each share: in sum `size`, in proportion to their weights, none if all weights are 0.
pub(super) fn quotas(size: u32, shares: &[Share]) -> Vec<u32> {
    let shares: Vec<_> = shares.iter().map(|share| (u128::from(share.weight), point(share))).collect();
    let heaviest = shares.iter().map(|(weight, _)| *weight).max().unwrap_or(0);
    if heaviest == 0 {
        return vec![0; shares.len()];
    }
    let all = u128::from(size);
    let rate = last_within(SLOT * (all + 1) / heaviest, |rate| {
        shares.iter().map(|share| slots(*share, rate)).sum::<u128>() <= all
    });
    let mut left = all - shares.iter().map(|share| slots(*share, rate)).sum::<u128>();
    let quota = |share: &(u128, u128)| {
        // Those that are rounded up at the very same rate: the first of them are.
        let more = (slots(*share, rate + 1) - slots(*share, rate)).min(left);
        left -= more;
        u32::try_from(slots(*share, rate) + more).unwrap_or(u32::MAX)
    };
    shares.iter().map(quota).collect()
}

/// Where a share is rounded up: the part of a slot that it has from the beginning.
fn point(share: &Share) -> u128 {
    draw(POINTS, share.address).into()
}

/// Slots of a share, a weight and its point, at a rate in parts of a slot to a unit of weight.
const fn slots((weight, point): (u128, u128), rate: u128) -> u128 {
    (weight * rate + point) / SLOT
}

/// The last number below `end` of which something is true that is true of 0, and of none after the first of which it is not.
fn last_within(end: u128, holds: impl Fn(u128) -> bool) -> u128 {
    let (mut known, mut end) = (0, end.max(1));
    while end - known > 1 {
        let middle = known + (end - known) / 2;
        if holds(middle) { known = middle } else { end = middle }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maglev::tests::shares;
    use proptest::prelude::*;

    fn ideal(size: u32, shares: &[Share], index: usize) -> f64 {
        let total: f64 = shares.iter().map(|share| f64::from(share.weight)).sum();
        f64::from(size) * f64::from(shares[index].weight) / total
    }

    proptest! {
        #[test]
        fn all_slots_are_given_and_nobody_is_far_from_its_part(
            size in 1u32..100_000, weights in prop::collection::vec(1u32..70_000, 1..300),
        ) {
            let shares = shares(&weights);
            let quotas = quotas(size, &shares);
            prop_assert_eq!(quotas.iter().sum::<u32>(), size);
            for (index, quota) in quotas.iter().enumerate() {
                let ideal = ideal(size, &shares, index);
                prop_assert!((f64::from(*quota) - ideal).abs() <= ideal * 0.02 + 1.5, "{quota} of {ideal}");
            }
        }

        /// Else slots would move that need not.
        #[test]
        fn nobody_else_loses_to_another_when_one_weight_changes(
            size in 1u32..20_000, weights in prop::collection::vec(1u32..1000, 2..200), more in 1u32..1000,
            which in 0usize..200,
        ) {
            let before = shares(&weights);
            let which = which % weights.len();
            let mut after = before.clone();
            after[which].weight += more;
            let (before, after) = (quotas(size, &before), quotas(size, &after));
            for (index, (before, after)) in before.iter().zip(&after).enumerate() {
                if index == which {
                    prop_assert!(after >= before);
                } else {
                    prop_assert!(after <= before);
                }
            }
        }

        #[test]
        fn equal_weights_differ_by_a_slot_at_most(size in 1u32..20_000, n in 1usize..200) {
            let quotas = quotas(size, &shares(&vec![100; n]));
            prop_assert!(quotas.iter().max().unwrap() - quotas.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        assert_eq!(quotas(u32::MAX, &shares(&[u32::MAX])), [u32::MAX]);
        let halves = quotas(1_048_573, &shares(&[u32::MAX, u32::MAX]));
        assert_eq!(halves.iter().sum::<u32>(), 1_048_573);
        assert_eq!(quotas(7, &[]), [0; 0]);
        assert_eq!(quotas(7, &shares(&[0, 0])), [0, 0]);
    }
}
