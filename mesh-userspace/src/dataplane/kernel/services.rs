//! The service table: every service stands at one of two places that its key hashes to, so that the kernel looks at
//! two cache lines at most (cuckoo hashing, Pagh and Rodler 2001).
//!
//! Invariant: whoever reads while a service is moved finds it: it stands at its new place before it leaves the old
//! one, and between the two every packet that looked too early has passed.

use super::{DataplaneError, mapped::Mapped, syscalls::wait_for_packets};
use mesh_common::{
    abi::{ServiceEntry, ServiceKey},
    hash,
};

/// Places per service that the limits allow: at a quarter full nearly every service finds a place at once.
const PLACES_PER_SERVICE: u32 = 4;

/// How far a service may push others before the table counts as full.
const LONGEST_CHAIN: usize = 64;

/// The word of an entry that says that there is one: the first of its key, which is never 0.
const MARK: usize = 0;

/// How many places a table for `services` has.
pub(super) const fn places(services: u32) -> u32 {
    services.saturating_mul(PLACES_PER_SERVICE)
}

/// The table in the kernel.
pub(super) struct ServiceTable {
    entries: Mapped<ServiceEntry>,
}

impl ServiceTable {
    pub(super) const fn new(entries: Mapped<ServiceEntry>) -> Self {
        Self { entries }
    }

    /// Every service, once.
    pub(super) fn iter(&self) -> impl Iterator<Item = ServiceEntry> + '_ {
        self.entries.iter().filter(|entry| entry.key != ServiceKey::default())
    }

    /// Adds a service, or changes what may change of one that stands.
    pub(super) fn add(&mut self, entry: ServiceEntry) -> Result<(), DataplaneError> {
        let places = self.places_of(entry.key, hash::service(entry.key, self.size().max(1)));
        if !places.is_empty() {
            return places.into_iter().try_for_each(|place| self.entries.write(place, &entry, MARK));
        }
        let key_at = |place| self.entries.read(usize::try_from(place).unwrap_or(usize::MAX)).key;
        let chain = chain(key_at, self.size(), entry.key).ok_or(DataplaneError::ServicesFull)?;
        // From the free end backwards: each step copies a service to its other place.
        for step in chain.windows(2).rev() {
            let &[from, to] = step else { continue };
            let moved = self.entries.read(usize::try_from(from).unwrap_or(usize::MAX));
            self.entries.write(to, &moved, MARK)?;
            wait_for_packets();
            self.entries.clear(from, MARK)?;
        }
        chain.first().map_or(Ok(()), |place| self.entries.write(*place, &entry, MARK))
    }

    pub(super) fn remove(&mut self, key: ServiceKey) -> Result<(), DataplaneError> {
        let mut places = self.places_of(key, hash::service(key, self.size().max(1)));
        if places.is_empty() {
            // Somebody else wrote it, where no packet finds it.
            places = self.places_of(key, 0..self.size());
        }
        places.into_iter().try_for_each(|place| self.entries.clear(place, MARK))
    }

    /// Where a service stands among these places.
    fn places_of(&self, key: ServiceKey, among: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let key_at = |place: &u32| self.entries.read(usize::try_from(*place).unwrap_or(usize::MAX)).key;
        among.into_iter().filter(|place| key_at(place) == key).collect()
    }

    fn size(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }
}

/// The places that a new service goes through: it takes the first, whose service goes to the second, and so on; the
/// last is free. `key_at` says who stands at which of the `size` places.
fn chain(key_at: impl Fn(u32) -> ServiceKey, size: u32, key: ServiceKey) -> Option<Vec<u32>> {
    if size == 0 {
        return None;
    }
    let [first, second] = hash::service(key, size);
    let ways = [first, second].map(|start| walk(&key_at, size, start));
    // Each move waits until no packet is on its way.
    ways.into_iter().flatten().min_by_key(Vec::len)
}

/// Follows who would push whom from a place on, until a place is free.
fn walk(key_at: &impl Fn(u32) -> ServiceKey, size: u32, start: u32) -> Option<Vec<u32>> {
    let mut chain = vec![start];
    for _ in 0..LONGEST_CHAIN {
        let place = *chain.last()?;
        let there = key_at(place);
        if there == ServiceKey::default() {
            return Some(chain);
        }
        let [first, second] = hash::service(there, size);
        let other = if first == place { second } else { first };
        if chain.contains(&other) {
            return None;
        }
        chain.push(other);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same steps as `ServiceTable::add`, on a slice, checking that everybody can be found after each.
    fn add(keys: &mut [ServiceKey], key: ServiceKey) -> Option<()> {
        let key_at = |place| keys[usize::try_from(place).unwrap()];
        let chain = chain(key_at, u32::try_from(keys.len()).unwrap(), key)?;
        let before: Vec<ServiceKey> = keys.iter().copied().filter(|k| *k != ServiceKey::default()).collect();
        for step in chain.windows(2).rev() {
            let (from, to) = (usize::try_from(step[0]).unwrap(), usize::try_from(step[1]).unwrap());
            keys[to] = keys[from];
            keys[from] = ServiceKey::default();
            assert!(before.iter().all(|key| stands(keys, *key)));
        }
        keys[usize::try_from(chain[0]).unwrap()] = key;
        Some(())
    }

    fn stands(keys: &[ServiceKey], key: ServiceKey) -> bool {
        let size = u32::try_from(keys.len()).unwrap();
        hash::service(key, size).iter().any(|place| keys[usize::try_from(*place).unwrap()] == key)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3))]
        #[test]
        fn a_table_as_large_as_the_limits_make_it_takes_every_service(salt: u32) {
            let services = 1000;
            let mut keys = vec![ServiceKey::default(); usize::try_from(places(services)).unwrap()];
            for n in 0..services {
                let key = ServiceKey::v4((salt.wrapping_add(n)).to_be_bytes(), [0, 80], 6);
                prop_assert!(add(&mut keys, key).is_some(), "service {n} found no place");
                prop_assert!(stands(&keys, key));
            }
        }
    }

    #[test]
    fn a_full_table_says_so() {
        let mut keys = vec![ServiceKey::default(); 2];
        let added =
            (0..3u8).filter(|n| add(&mut keys, ServiceKey::v4([1, 1, 1, *n], [0, 80], 6)).is_some()).count();
        assert!(added <= 2);
    }
}
