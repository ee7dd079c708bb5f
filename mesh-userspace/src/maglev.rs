//! Fills a service's table so that each backend owns slots by its weight, and a change of one backend moves few slots of
//! the others. A pure function of the table's size and of addresses and weights: all balancers of a cluster fill equal
//! tables, whatever order their configurations have and whatever was before.
//!
//! As in Maglev (Eisenbud et al., NSDI 2016, §3.4), each backend walks over all slots in an order of its own until it owns
//! as many as it has a right to. There, who comes first in a turn keeps a slot. Here each step of a walk has a moment,
//! which follows from the backend and its weight alone, and **the earliest moment at a slot wins it, whoever had it
//! before**; who loses it walks on. That is the stable matching of backends and slots, which is the same in whatever
//! order backends walk (Gale and Shapley 1962), for both sides prefer the earlier moment. Moments are spread as in
//! weighted rendezvous hashing: were there no quotas, a change would move no slot that it need not.

mod quota;

use mesh_common::hash;
use std::{cell::RefCell, collections::HashMap, net::IpAddr, sync::Arc};

const OFFSETS: u64 = 0x6d65_7368_6c62_0001;
const SKIPS: u64 = 0x6d65_7368_6c62_0002;
const PHASES: u64 = 0x6d65_7368_6c62_0004;
const STARTS: u64 = 0x6d65_7368_6c62_0006;
const ORDER: u64 = 0x6d65_7368_6c62_0005;

/// A backend that takes new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share {
    /// Who it is.
    pub address: IpAddr,
    /// How much it takes, relative to the others; not 0.
    pub weight: u32,
}

/// What follows from an address, and from what it is for.
fn draw(purpose: u64, address: IpAddr) -> u64 {
    hash::flow6(purpose, crate::dataplane::wire_address(address), [0; 2])
}

/// What the walks over the slots of a table of one size have in common.
struct Course {
    size: u64,
    /// All slots, shuffled. Each walk is another multiple of it, moved: without it, walks whose multiples are alike would
    /// stay side by side.
    order: Vec<u32>,
    /// When a backend of weight 1 has made so many steps: the mean moments of as many events by chance, in sequence (Rényi
    /// 1953). Sums and quotients only, which all machines round alike.
    moments: Vec<f64>,
}

impl Course {
    fn new(size: u32) -> Self {
        let mut order: Vec<u32> = (0..size).collect();
        for last in (1..size).rev() {
            let other = hash::slot(hash::flow4(ORDER, last.to_ne_bytes(), [0; 2]), last + 1);
            if let (Ok(last), Ok(other)) = (usize::try_from(last), usize::try_from(other)) {
                order.swap(last, other);
            }
        }
        let mut passed = 0.0;
        let moment = |left: u32| {
            passed += 1.0 / f64::from(left);
            passed
        };
        let moments = std::iter::once(0.0).chain((1..=size).rev().map(moment)).collect();
        Self { size: size.into(), order, moments }
    }
}

/// A backend on its walk over all slots.
struct Walk {
    step: usize,
    /// Where in the common order it begins: of a small table there are not so many multiples that no two backends of a
    /// service ever draw the same.
    start: usize,
    offset: u64,
    skip: u64,
    /// How far between a step and the next one the backend's moments lie, from 0 to 1.
    phase: f64,
    /// How much later a moment is than that of a backend of weight 1.
    slowness: f64,
}

impl Walk {
    fn new(share: &Share, course: &Course) -> Self {
        let unit = |draw: u64| f64::from(u32::try_from(draw >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        Self {
            step: 0,
            start: usize::try_from(draw(STARTS, share.address) % course.size).unwrap_or(0),
            offset: draw(OFFSETS, share.address) % course.size,
            skip: draw(SKIPS, share.address) % course.size.saturating_sub(1).max(1) + 1,
            phase: unit(draw(PHASES, share.address)),
            slowness: 1.0 / f64::from(share.weight),
        }
    }

    /// The next slot and the moment of reaching it; `None` at the end of the walk.
    fn next(&mut self, course: &Course) -> Option<(usize, f64)> {
        let at = self.start + self.step;
        let place = course.order.get(at).or_else(|| course.order.get(at - course.order.len()))?;
        let (from, to) = (course.moments.get(self.step)?, course.moments.get(self.step + 1)?);
        self.step += 1;
        let slot = (self.offset + self.skip * u64::from(*place)) % course.size;
        Some((usize::try_from(slot).ok()?, (from + self.phase * (to - from)) * self.slowness))
    }
}

/// A moment and whose it is in one word, of which the least is the earliest: the bits of a float that is not negative are
/// in the order of floats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim(u64);

impl Claim {
    /// Bits of the word that say whose it is; a service has fewer backends than that.
    const WHO: u64 = 0x00ff_ffff;
    /// Later than all others.
    const NOBODYS: Self = Self(u64::MAX);

    fn new(moment: f64, who: u32) -> Self {
        Self(moment.to_bits() & !Self::WHO | u64::from(who) & Self::WHO)
    }

    fn who(self) -> Option<usize> {
        usize::try_from(self.0 & Self::WHO).ok().filter(|_| self != Self::NOBODYS)
    }

    /// The moment as a number from 0 to 255 that is not greater for an earlier one: four to each power of 2.
    fn roughly(self) -> u8 {
        const LEAST: u64 = (1023 - 50) << 2;
        u8::try_from((self.0 >> 50).saturating_sub(LEAST)).unwrap_or(u8::MAX)
    }
}

/// A table while it is filled.
struct Filling {
    claims: Vec<Claim>,
    /// The claims, rounded: most steps at the end of a filling are too late at their slots, which is seen here, in an
    /// eighth of the memory.
    rough: Vec<u8>,
    /// Slots that each backend has a right to and does not own.
    wants: Vec<u32>,
    /// Those that want some.
    waiting: Vec<usize>,
}

impl Filling {
    fn new(size: u32, wants: Vec<u32>) -> Self {
        let (waiting, size) = ((0..wants.len()).rev().collect(), usize::try_from(size).unwrap_or(0));
        Self { claims: vec![Claim::NOBODYS; size], rough: vec![u8::MAX; size], wants, waiting }
    }

    fn wants_more(&self, who: usize) -> bool {
        self.wants.get(who).is_some_and(|wants| *wants > 0)
    }

    /// Gives a slot to a claim that is earlier than what was there, whose owner then wants another one.
    fn claim(&mut self, slot: usize, claim: Claim) {
        let roughly = claim.roughly();
        let Some(rough) = self.rough.get_mut(slot).filter(|there| **there >= roughly) else { return };
        let Some(there) = self.claims.get_mut(slot).filter(|there| claim < **there) else { return };
        *rough = roughly;
        let loser = std::mem::replace(there, claim).who();
        if let Some(wants) = claim.who().and_then(|who| self.wants.get_mut(who)) {
            *wants -= 1;
        }
        if let Some((loser, wants)) = loser.and_then(|who| Some((who, self.wants.get_mut(who)?))) {
            if *wants == 0 {
                self.waiting.push(loser);
            }
            *wants += 1;
        }
    }
}

/// Of a slot that no share owns.
const NOBODY: u32 = u32::MAX;

/// Fills a table of `size` slots, a prime: each slot gets the index of a share, or none gets any when there are no
/// shares.
#[must_use]
pub fn fill(size: u32, shares: &[Share]) -> Vec<Option<usize>> {
    filled(size, shares).into_iter().map(index).collect()
}

/// The index of the share that owns a slot.
fn index(owner: u32) -> Option<usize> {
    usize::try_from(owner).ok().filter(|_| owner != NOBODY)
}

fn filled(size: u32, shares: &[Share]) -> Vec<u32> {
    let mut sorted: Vec<(Share, u32)> = shares.iter().copied().zip(0..).collect();
    // The first of two who come at the same moment has the slot.
    sorted.sort_unstable();
    let (shares, indices): (Vec<_>, Vec<_>) = sorted.into_iter().unzip();
    let claims = walked(size, &shares);
    claims
        .into_iter()
        .map(|claim| claim.who().and_then(|who| indices.get(who)).copied().unwrap_or(NOBODY))
        .collect()
}

/// Lets everybody walk who owns less than it has a right to, until nobody does.
fn walked(size: u32, shares: &[Share]) -> Vec<Claim> {
    if shares.is_empty() {
        return Filling::new(size, Vec::new()).claims;
    }
    let course = Course::new(size);
    let mut walks: Vec<_> = (0..).zip(shares).map(|(who, share)| (who, Walk::new(share, &course))).collect();
    let mut table = Filling::new(size, quota::quotas(size, shares));
    while let Some(next) = table.waiting.pop() {
        let Some((who, walk)) = walks.get_mut(next) else { break };
        while table.wants_more(next) {
            let Some((slot, moment)) = walk.next(&course) else { break };
            table.claim(slot, Claim::new(moment, *who));
        }
    }
    table.claims
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

    pub(super) fn shares(weights: &[u32]) -> Vec<Share> {
        drawn(0, weights)
    }

    /// Shares whose addresses are others with each seed.
    fn drawn(seed: u64, weights: &[u32]) -> Vec<Share> {
        let address = |index: usize| {
            let word = hash::flow4(seed, u32::try_from(index).unwrap().to_be_bytes(), [0; 2]);
            IpAddr::from((0xfd << 120 | u128::from(word)).to_be_bytes())
        };
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
    fn owners(size: u32, shares: &[Share]) -> Vec<IpAddr> {
        fill(size, shares).into_iter().map(|index| shares[index.unwrap()].address).collect()
    }

    /// Part of the slots that moves beyond what has to, in percent.
    fn needlessly_moved(before: &[IpAddr], old: &[Share], new: &[Share]) -> f64 {
        let size = f64::from(u32::try_from(before.len()).unwrap());
        let after = owners(u32::try_from(before.len()).unwrap(), new);
        let moved = u32::try_from(before.iter().zip(&after).filter(|(old, new)| old != new).count()).unwrap();
        let parts = |shares: &[Share]| -> BTreeMap<IpAddr, f64> {
            let total: f64 = shares.iter().map(|share| f64::from(share.weight)).sum();
            shares.iter().map(|share| (share.address, f64::from(share.weight) / total)).collect()
        };
        let old = parts(old);
        let gained = |(who, part): (IpAddr, f64)| (part - old.get(&who).unwrap_or(&0.0)).max(0.0);
        (f64::from(moved) / size - parts(new).into_iter().map(gained).sum::<f64>()) * 100.0
    }

    /// What may become of one backend: it goes, a new one comes, its weight is changed.
    fn changes(shares: &[Share], which: usize) -> Vec<Vec<Share>> {
        let which = which % shares.len();
        let with_weight = |percent: u32| {
            let mut changed = shares.to_vec();
            changed[which].weight = (changed[which].weight * percent / 100).max(1);
            changed
        };
        let (mut without, mut with) = (shares.to_vec(), shares.to_vec());
        without.remove(which);
        with.push(Share { address: [192, 0, 2, 1].into(), ..shares[which] });
        let changes = vec![without, with, with_weight(90), with_weight(110), with_weight(200)];
        changes.into_iter().filter(|shares| !shares.is_empty()).collect()
    }

    fn assert_little_moves(size: u32, shares: &[Share], which: usize, most: f64) {
        let before = owners(size, shares);
        for (number, change) in changes(shares, which).iter().enumerate() {
            let moved = needlessly_moved(&before, shares, change);
            assert!(moved <= most, "change {number} moves {moved:.2} % of {size} slots needlessly");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn weighted_shares_are_within_two_percent_of_ideal(weights in prop::collection::vec(20u32..1000, 2..100)) {
            let size = 65_521;
            let counts = counts(&fill(size, &shares(&weights)));
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (index, weight) in weights.iter().enumerate() {
                let ideal = f64::from(size) * f64::from(*weight) / total;
                let got = u32::try_from(counts.get(&index).copied().unwrap_or(0)).unwrap();
                prop_assert!((f64::from(got) - ideal).abs() <= (ideal * 0.02).max(2.0), "{got} of {ideal}");
            }
        }

        /// In the table that a service of 82 to 163 backends has unless told otherwise.
        #[test]
        fn a_change_of_one_moves_at_most_a_percent_needlessly(
            seed: u64, weights in prop::collection::vec(100u32..=1000, 2..=100), which in 0usize..100,
        ) {
            assert_little_moves(16_381, &drawn(seed, &weights), which, 1.0);
        }

        #[test]
        fn a_change_of_one_of_equal_weights_moves_at_most_a_percent_needlessly(
            seed: u64, n in 2usize..=163, which in 0usize..163,
        ) {
            assert_little_moves(16_381, &drawn(seed, &vec![100; n]), which, 1.0);
        }

        /// There is less to choose from in small tables.
        #[test]
        fn in_the_table_of_ten_it_is_little(
            seed: u64, weights in prop::collection::vec(100u32..=1000, 2..=10), which in 0usize..10,
        ) {
            assert_little_moves(1021, &drawn(seed, &weights), which, 5.0);
        }

        #[test]
        fn order_of_the_configuration_does_not_matter(weights in prop::collection::vec(1u32..9, 1..20)) {
            let forth = shares(&weights);
            let back: Vec<_> = forth.iter().rev().copied().collect();
            prop_assert_eq!(owners(1021, &forth), owners(1021, &back));
        }

        #[test]
        fn only_proportions_matter(weights in prop::collection::vec(1u32..1000, 1..20), times in 2u32..1000) {
            let more: Vec<_> = weights.iter().map(|weight| weight * times).collect();
            let (one, other) = (fill(1021, &shares(&weights)), fill(1021, &shares(&more)));
            // Two moments that differ in their last bits may change places.
            prop_assert!(one.iter().zip(&other).filter(|(one, other)| one != other).count() <= 2);
        }
    }

    #[test]
    fn a_change_of_one_of_a_thousand_moves_at_most_a_percent_needlessly() {
        let weights: Vec<u32> = (0..1000).map(|index| 20 + index * 7919 % 980).collect();
        assert_little_moves(131_071, &shares(&weights), 500, 1.0);
    }

    /// Balancers of one cluster may have agents of different versions: the table is a part of what they agree on.
    #[test]
    fn a_table_is_the_same_with_every_build() {
        let owners = fill(1021, &shares(&[100, 50, 200, 7]))
            .into_iter()
            .map(|owner| u8::try_from(owner.unwrap()).unwrap());
        assert_eq!(
            owners.fold(0, |sum, owner| hash::flow4(sum, [owner; 4], [0; 2])),
            392_239_644_839_512_163
        );
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
