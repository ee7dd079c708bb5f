//! Weighted Maglev hashing: fills a service's table so that each backend owns slots by its weight, and a change of
//! one backend moves few slots of the others (Eisenbud et al., "Maglev", NSDI 2016, §3.4).
//!
//! A backend's preferences follow from its address alone, so that all balancers of a cluster fill equal tables
//! whatever order their configurations have.

use mesh_common::hash;
use std::{cell::RefCell, collections::HashMap, net::IpAddr, sync::Arc};

const OFFSETS: u64 = 0x6d65_7368_6c62_0001;
const SKIPS: u64 = 0x6d65_7368_6c62_0002;

/// A backend that takes new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share {
    /// Who it is.
    pub address: IpAddr,
    /// How much it takes, relative to the others; not 0.
    pub weight: u16,
}

/// A backend's walk over all slots, in its order of preference.
struct Walk {
    next: u64,
    skip: u64,
}

impl Walk {
    fn new(address: IpAddr, size: u32) -> Self {
        let bytes = crate::dataplane::wire_address(address);
        let size = u64::from(size);
        let skip = hash::flow6(SKIPS, bytes, [0; 2]) % size.saturating_sub(1).max(1) + 1;
        Self { next: hash::flow6(OFFSETS, bytes, [0; 2]) % size, skip }
    }

    fn step(&mut self, size: u32) -> usize {
        let slot = self.next;
        // Both are less than the size: a division would take most of the time.
        let next = self.next + self.skip;
        self.next = if next >= u64::from(size) { next - u64::from(size) } else { next };
        usize::try_from(slot).unwrap_or(usize::MAX)
    }
}

/// A table while it is filled. Which slots are taken is asked many times for each that is given away, and the bits of a
/// large table fit a cache that the table does not.
struct Filling {
    owners: Vec<u32>,
    taken: Vec<u64>,
}

impl Filling {
    fn new(size: usize) -> Self {
        Self { owners: vec![NOBODY; size], taken: vec![0; size / 64 + 1] }
    }

    /// Gives the walker its most preferred free slot; there is one.
    fn take(&mut self, index: u32, walk: &mut Walk, size: u32) {
        for _ in 0..size {
            let slot = walk.step(size);
            let Some(word) = self.taken.get_mut(slot / 64) else { return };
            let bit = 1 << (slot % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.owners.get_mut(slot).into_iter().for_each(|owner| *owner = index);
                return;
            }
        }
    }
}

/// Of a slot that no share owns.
const NOBODY: u32 = u32::MAX;

/// Fills a table of `size` slots, a prime: each slot gets the index of a share, or none gets any when there are no
/// shares. Backends take turns; a weight below the largest sits out turns in proportion.
#[must_use]
pub fn fill(size: u32, shares: &[Share]) -> Vec<Option<usize>> {
    filled(size, shares).into_iter().map(index).collect()
}

/// The index of the share that owns a slot.
fn index(owner: u32) -> Option<usize> {
    usize::try_from(owner).ok().filter(|_| owner != NOBODY)
}

fn filled(size: u32, shares: &[Share]) -> Vec<u32> {
    let mut takers: Vec<_> = (0..)
        .zip(shares)
        .map(|(index, share): (u32, _)| (index, *share, Walk::new(share.address, size), 0u32))
        .collect();
    takers.sort_by_key(|(_, share, ..)| *share);
    let largest = shares.iter().map(|share| u32::from(share.weight)).max().unwrap_or(0);
    let mut table = Filling::new(usize::try_from(size).unwrap_or(0));
    let mut free = if largest == 0 { 0 } else { table.owners.len() };
    while free > 0 {
        for (index, share, walk, credit) in &mut takers {
            *credit += u32::from(share.weight);
            if *credit >= largest && free > 0 {
                *credit -= largest;
                table.take(*index, walk, size);
                free -= 1;
            }
        }
    }
    table.owners
}

/// Tables that were filled, so that a plan for a thousand services fills only those that change.
#[derive(Debug, Default)]
pub struct Tables(RefCell<HashMap<u32, Filled>>);

#[derive(Debug)]
struct Filled {
    size: u32,
    shares: Vec<Share>,
    table: Arc<[u32]>,
}

/// A table that was filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(Arc<[u32]>);

impl Table {
    /// The index of the share that owns each slot.
    pub fn owners(&self) -> impl Iterator<Item = Option<usize>> {
        self.0.iter().map(|owner| index(*owner))
    }
}

impl Tables {
    /// As [`fill`], from memory if the last table of this owner had the same size and shares.
    #[must_use]
    pub fn fill(&self, owner: u32, size: u32, shares: &[Share]) -> Table {
        let mut filled = self.0.borrow_mut();
        if let Some(known) = filled.get(&owner).filter(|known| known.size == size && known.shares == shares) {
            return Table(Arc::clone(&known.table));
        }
        let table: Arc<[u32]> = self::filled(size, shares).into();
        filled.insert(owner, Filled { size, shares: shares.to_vec(), table: Arc::clone(&table) });
        Table(table)
    }

    /// Forgets the tables of owners that are gone.
    pub fn retain(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.get_mut().retain(|owner, _| is_there(*owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn shares(weights: &[u16]) -> Vec<Share> {
        let address =
            |i: usize| IpAddr::from([10, 0, u8::try_from(i >> 8).unwrap(), u8::try_from(i & 255).unwrap()]);
        weights.iter().enumerate().map(|(i, weight)| Share { address: address(i), weight: *weight }).collect()
    }

    fn counts(table: &[Option<usize>]) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for index in table {
            *counts.entry(index.expect("every slot is given")).or_default() += 1;
        }
        counts
    }

    /// Which address owns each slot.
    fn owners(table: &[Option<usize>], shares: &[Share]) -> Vec<IpAddr> {
        table.iter().map(|index| shares[index.unwrap()].address).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Equal weights differ by at most one slot: every turn gives one to each.
        #[test]
        fn equal_weights_get_equal_shares(n in 1usize..100) {
            let counts = counts(&fill(16_381, &shares(&vec![100; n])));
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            prop_assert!(most - least <= 1, "{least} to {most}");
        }

        #[test]
        fn weighted_shares_are_within_two_percent_of_ideal(weights in prop::collection::vec(20u16..1000, 2..100)) {
            let size = 65_521;
            let counts = counts(&fill(size, &shares(&weights)));
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (index, weight) in weights.iter().enumerate() {
                let ideal = f64::from(size) * f64::from(*weight) / total;
                let got = u32::try_from(counts.get(&index).copied().unwrap_or(0)).unwrap();
                prop_assert!((f64::from(got) - ideal).abs() <= (ideal * 0.02).max(2.0), "{got} of {ideal}");
            }
        }

        /// The paper (§5.4) sees few percent of disruption beside the unavoidable for tables 100 times the backends.
        #[test]
        fn losing_a_backend_moves_little_else(n in 3usize..60, lost in 0usize..60) {
            let size = 16_381;
            let all = shares(&vec![100; n]);
            let mut rest = all.clone();
            let lost = rest.remove(lost % n).address;
            let before = owners(&fill(size, &all), &all);
            let after = owners(&fill(size, &rest), &rest);
            let moved = before.iter().zip(&after).filter(|(old, new)| old != new && **old != lost).count();
            prop_assert!(moved * 100 <= before.len() * 5, "{moved} of {} slots moved beside the lost", before.len());
        }

        #[test]
        fn order_of_the_configuration_does_not_matter(weights in prop::collection::vec(1u16..9, 1..20)) {
            let forth = shares(&weights);
            let back: Vec<_> = forth.iter().rev().copied().collect();
            prop_assert_eq!(owners(&fill(1021, &forth), &forth), owners(&fill(1021, &back), &back));
        }
    }

    #[test]
    fn a_table_is_filled_again_only_when_its_shares_change() {
        let tables = Tables::default();
        let (before, after) = (shares(&[1, 1]), shares(&[1, 2]));
        let first = tables.fill(1, 1021, &before);
        assert!(Arc::ptr_eq(&first.0, &tables.fill(1, 1021, &before).0));
        assert_eq!(tables.fill(1, 1021, &after).owners().collect::<Vec<_>>(), fill(1021, &after));
        assert_eq!(tables.fill(1, 4093, &after).owners().count(), 4093);
    }

    #[test]
    fn without_shares_no_slot_has_an_owner() {
        assert!(fill(1021, &[]).iter().all(Option::is_none));
    }

    #[test]
    fn the_smallest_table_is_filled() {
        assert!(fill(2, &shares(&[1, 65_535])).iter().all(Option::is_some));
    }
}
