//! Who gets which id, and which range of the slot map.

use super::Circumstances;
use crate::dataplane::Actual;
use mesh_common::{abi::ServiceEntry, table};
use std::collections::{BTreeMap, BTreeSet};

/// The lowest backend id that nobody has and that a flow record can name; 0 is nobody's.
pub(super) fn free_backend(taken: &BTreeSet<u32>, highest: u32) -> Option<u32> {
    (1..=highest.min(table::MAX_BACKEND)).find(|id| !taken.contains(id))
}

/// Ids of services. One that was retired rests until a sweep found no record that names it.
pub(super) struct ServiceIds<'a> {
    taken: BTreeSet<u32>,
    /// How many services there will be.
    count: usize,
    circumstances: Circumstances<'a>,
}

impl<'a> ServiceIds<'a> {
    pub(super) fn new(actual: &Actual, circumstances: Circumstances<'a>) -> Self {
        let taken: BTreeSet<u32> = actual.services.values().map(|entry| entry.id).collect();
        Self { count: taken.len(), taken, circumstances }
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
        let id = (1..=u32::MAX).find(|id| !rests(id))?;
        self.taken.insert(id);
        self.count += 1;
        Some(id)
    }
}

/// The slot map as ranges that services own: first fit.
pub(super) struct Slots {
    size: u64,
    owned: BTreeMap<u32, u32>,
}

impl Slots {
    pub(super) fn new(actual: &Actual) -> Self {
        let owned = actual.services.values().map(|entry| (entry.base, entry.size)).collect();
        Self { size: u64::try_from(actual.slots.len()).unwrap_or(u64::MAX), owned }
    }

    pub(super) fn release(&mut self, entry: &ServiceEntry) {
        self.owned.remove(&entry.base);
    }

    pub(super) fn take(&mut self, size: u32) -> Option<u32> {
        let mut base = 0u64;
        for (start, length) in &self.owned {
            if base + u64::from(size) <= u64::from(*start) {
                break;
            }
            base = u64::from(*start) + u64::from(*length);
        }
        if base + u64::from(size) > self.size {
            return None;
        }
        let base = u32::try_from(base).ok()?;
        self.owned.insert(base, size);
        Some(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_fill_the_first_gap_that_is_wide_enough() {
        let mut slots = Slots { size: 100, owned: BTreeMap::from([(10, 10), (40, 10)]) };
        assert_eq!(slots.take(20), Some(20));
        assert_eq!(slots.take(10), Some(0));
        assert_eq!(slots.take(51), None);
        assert_eq!(slots.take(50), Some(50));
        assert_eq!(slots.take(1), None);
    }

    #[test]
    fn backend_zero_is_nobodys() {
        assert_eq!(free_backend(&BTreeSet::new(), 2), Some(1));
        assert_eq!(free_backend(&BTreeSet::from([1, 2]), 2), None);
    }
}
