//! Who gets which id, and which range of the slot map.

use super::Circumstances;
use crate::dataplane::Actual;
use mesh_common::{abi::ServiceEntry, table};
use std::collections::{BTreeMap, BTreeSet};

/// Ids of backends: the lowest that nobody has and that a flow record can name; 0 is nobody's.
pub(super) struct BackendIds {
    taken: BTreeSet<u32>,
    /// All lower ids are taken.
    next: u32,
    highest: u32,
}

impl BackendIds {
    pub(super) fn new(taken: BTreeSet<u32>, highest: u32) -> Self {
        Self { taken, next: 1, highest: highest.min(table::MAX_BACKEND) }
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        let free = (self.next..=self.highest).find(|id| !self.taken.contains(id))?;
        self.next = free + 1;
        Some(free)
    }
}

/// A set of ids of backends that is told of every slot.
pub(super) struct Ids(Vec<u64>);

impl Ids {
    /// An empty set; higher ids are nobody's.
    pub(super) fn new(highest: u32) -> Self {
        Self(vec![0; Self::place(highest).0 + 1])
    }

    pub(super) fn insert(&mut self, id: u32) {
        let (word, bit) = Self::place(id);
        self.0.get_mut(word).into_iter().for_each(|word| *word |= bit);
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        let (word, bit) = Self::place(id);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    fn place(id: u32) -> (usize, u64) {
        (usize::try_from(id / 64).unwrap_or(usize::MAX), 1 << (id % 64))
    }
}

/// The highest id of a service: there are more ids than services, for those of removed ones rest.
#[must_use]
pub const fn highest_service(services: u32) -> u32 {
    services.saturating_mul(2)
}

/// Ids of services. One that was retired rests until a sweep found no record that names it.
pub(super) struct ServiceIds<'a> {
    taken: BTreeSet<u32>,
    /// All lower ids are taken or rest.
    next: u32,
    /// How many services there will be.
    count: usize,
    circumstances: Circumstances<'a>,
}

impl<'a> ServiceIds<'a> {
    pub(super) fn new(actual: &Actual, circumstances: Circumstances<'a>) -> Self {
        let taken: BTreeSet<u32> = actual.services.values().map(|entry| entry.id).collect();
        Self { next: 1, count: taken.len(), taken, circumstances }
    }

    /// Makes room; the id itself rests.
    pub(super) fn retire(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        let Circumstances { history, sweep, services, .. } = self.circumstances;
        if self.count >= usize::try_from(services).unwrap_or(usize::MAX) {
            return None;
        }
        let rests = |id: &u32| self.taken.contains(id) || history.is_retired(*id, sweep);
        let id = (self.next..=highest_service(services)).find(|id| !rests(id))?;
        self.next = id.saturating_add(1);
        self.count += 1;
        Some(id)
    }
}

/// The ranges of the slot map that nobody owns, by their first slot: first fit. No two touch.
pub(super) struct Slots(BTreeMap<u64, u64>);

impl Slots {
    pub(super) fn new(actual: &Actual) -> Self {
        let size = u64::try_from(actual.slots.len()).unwrap_or(u64::MAX);
        let mut owned: Vec<_> = actual.services.values().map(|entry| (entry.base, entry.size)).collect();
        owned.sort_unstable();
        let mut slots = Self(BTreeMap::new());
        let mut end = 0;
        for (base, length) in owned.into_iter().map(|(base, length)| (u64::from(base), u64::from(length))) {
            slots.free(end, base.saturating_sub(end));
            end = end.max(base + length);
        }
        slots.free(end, size.saturating_sub(end));
        slots
    }

    fn free(&mut self, base: u64, length: u64) {
        if length > 0 {
            self.0.insert(base, length);
        }
    }

    /// Makes a service's range free, and one with those that it touches.
    pub(super) fn release(&mut self, entry: &ServiceEntry) {
        let (mut base, mut length) = (u64::from(entry.base), u64::from(entry.size));
        if let Some(behind) = self.0.remove(&(base + length)) {
            length += behind;
        }
        let before = self.0.range(..base).next_back().map(|(start, free)| (*start, *free));
        if let Some((start, free)) = before.filter(|(start, free)| start + free == base) {
            (base, length) = (start, length + free);
        }
        self.free(base, length);
    }

    pub(super) fn take(&mut self, size: u32) -> Option<u32> {
        let size = u64::from(size);
        let (base, free) =
            self.0.iter().find(|(_, free)| **free >= size).map(|(base, free)| (*base, *free))?;
        self.0.remove(&base);
        self.free(base + size, free - size);
        u32::try_from(base).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_common::abi::ServiceKey;

    fn owner(base: u32, size: u32) -> ServiceEntry {
        let key = ServiceKey([1, u64::from(base), 0]);
        ServiceEntry { key, base, size, ..ServiceEntry::default() }
    }

    fn slots(owners: &[ServiceEntry]) -> Slots {
        let services = owners.iter().map(|entry| (entry.key, *entry)).collect();
        Slots::new(&Actual { services, ..Actual::empty(100) })
    }

    #[test]
    fn ranges_fill_the_first_gap_that_is_wide_enough() {
        let mut slots = slots(&[owner(10, 10), owner(40, 10)]);
        assert_eq!(slots.take(20), Some(20));
        assert_eq!(slots.take(10), Some(0));
        assert_eq!(slots.take(51), None);
        assert_eq!(slots.take(50), Some(50));
        assert_eq!(slots.take(1), None);
    }

    #[test]
    fn what_is_released_is_one_with_its_neighbours() {
        let owners = [owner(0, 30), owner(30, 30), owner(60, 30)];
        let mut slots = slots(&owners);
        assert_eq!(slots.take(41), None);
        slots.release(&owners[2]);
        slots.release(&owners[0]);
        assert_eq!((slots.take(41), slots.take(31)), (None, Some(60)));
        slots.release(&owners[1]);
        assert_eq!(slots.take(60), Some(0));
    }

    #[test]
    fn ids_that_were_told_are_known() {
        let mut ids = Ids::new(100_000);
        [0, 63, 64, 100_000, u32::MAX].into_iter().for_each(|id| ids.insert(id));
        let known = |id: &u32| ids.contains(*id);
        assert_eq!([0, 1, 63, 64, 65, 99_999, 100_000, u32::MAX].iter().filter(|id| known(id)).count(), 4);
    }

    #[test]
    fn backend_zero_is_nobodys() {
        let mut ids = BackendIds::new(BTreeSet::from([2]), 3);
        assert_eq!([ids.take(), ids.take(), ids.take()], [Some(1), Some(3), None]);
    }
}
