//! Prefixes with the services that they offer, and the blocks of ports that these make.

use super::Prefix;
use mesh_common::abi::{Extent, ServiceKey, protocol};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// Every class of protocols.
const CLASSES: [u8; 3] = [protocol::TCP, protocol::UDP, 0];

/// A block of ports: as many as bits that do not count can name, and one service for all of them.
pub(super) struct Block {
    pub(super) class: u8,
    pub(super) port: u16,
    pub(super) length: u8,
    /// The index of the service's key.
    pub(super) service: usize,
}

/// Ranges of ports that do not overlap: the last port and the owner of each, by the first.
type Ranges = BTreeMap<u16, (u16, usize)>;

/// Who owns which ports of a prefix, by class.
#[derive(Clone, Default)]
struct Owners([Ranges; CLASSES.len()]);

impl Owners {
    /// Gives ports to a service, whoever had them.
    fn give(&mut self, extent: Extent, service: usize) {
        for (class, ranges) in CLASSES.into_iter().zip(&mut self.0) {
            if extent.protocol == 0 || extent.protocol == class {
                give(ranges, extent.first..=extent.last, service);
            }
        }
    }

    fn blocks(&self) -> Vec<Block> {
        let of_class = |(class, ranges)| {
            let ranges: &Ranges = ranges;
            ranges.iter().flat_map(move |(first, (last, service))| {
                blocks(*first..=*last).map(move |(port, length)| Block {
                    class,
                    port,
                    length,
                    service: *service,
                })
            })
        };
        CLASSES.into_iter().zip(&self.0).flat_map(of_class).collect()
    }
}

fn give(ranges: &mut Ranges, ports: RangeInclusive<u16>, service: usize) {
    let (first, last) = ports.into_inner();
    let reaches_in = ranges.range(..first).next_back().filter(|(_, (end, _))| *end >= first);
    if let Some((start, (end, owner))) = reaches_in.map(|(start, range)| (*start, *range)) {
        ranges.insert(start, (first.saturating_sub(1), owner));
        keep_rest(ranges, last, end, owner);
    }
    let covered: Vec<u16> = ranges.range(first..=last).map(|(start, _)| *start).collect();
    for (end, owner) in covered.iter().filter_map(|start| ranges.remove(start)).collect::<Vec<_>>() {
        keep_rest(ranges, last, end, owner);
    }
    ranges.insert(first, (last, service));
}

/// What an owner has behind the ports that were given away.
fn keep_rest(ranges: &mut Ranges, last: u16, end: u16, owner: usize) {
    if let Some(next) = last.checked_add(1).filter(|next| *next <= end) {
        ranges.insert(next, (end, owner));
    }
}

/// The fewest blocks that make up a range: the first port of each, and how many of its bits count.
fn blocks(ports: RangeInclusive<u16>) -> impl Iterator<Item = (u16, u8)> {
    let (first, last) = ports.into_inner();
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let at = next.filter(|at| *at <= last)?;
        let free = (0..=16u8).rev().find(|bits| end(at, *bits).is_some_and(|end| end <= last)).unwrap_or(0);
        next = end(at, free)?.checked_add(1);
        Some((at, 16 - free))
    })
}

/// The last port of the block that begins at a port and has so many bits that do not count; `None` if none begins there.
fn end(port: u16, free: u8) -> Option<u16> {
    let rest = u16::MAX.checked_shr(16 - u32::from(free)).unwrap_or(0);
    (port & rest == 0).then_some(port | rest)
}

/// The prefixes of wide services, and the services of each.
pub(super) struct Groups(BTreeMap<Prefix, Vec<(Extent, usize)>>);

impl Groups {
    /// Of the wide ones of these keys.
    pub(super) fn of(keys: &[ServiceKey]) -> Self {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (service, extent) in keys.iter().enumerate().filter_map(|(i, key)| Some((i, key.extent()?))) {
            let prefix = Prefix { address: extent.address, length: extent.length };
            groups.entry(prefix).or_default().push((extent, service));
        }
        for offered in groups.values_mut() {
            // The most specific last, which takes from the others.
            offered.sort_by_key(|(Extent { first, last, protocol, .. }, _)| {
                (u16::MAX - (last - first), *protocol != 0, *first)
            });
        }
        Self(groups)
    }

    /// Calls `visit` with each prefix and its blocks, until it answers `false`.
    pub(super) fn each(&self, mut visit: impl FnMut(Prefix, &[Block]) -> bool) {
        // Prefixes around the present one; a shorter prefix comes before those within it.
        let mut around: Vec<(Prefix, Owners)> = Vec::new();
        for (prefix, offered) in &self.0 {
            while around.pop_if(|(outer, _)| !outer.contains(*prefix)).is_some() {}
            let mut owners = around.last().map(|(_, owners)| owners.clone()).unwrap_or_default();
            for (extent, service) in offered {
                owners.give(*extent, *service);
            }
            if !visit(*prefix, &owners.blocks()) {
                return;
            }
            around.push((*prefix, owners));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_make_up_their_range_and_nothing_else(a: u16, b: u16) {
            let (first, last) = (a.min(b), a.max(b));
            let mut next = u32::from(first);
            for (port, length) in blocks(first..=last) {
                prop_assert_eq!(u32::from(port), next);
                prop_assert_eq!(next % (1 << (16 - length)), 0);
                next += 1 << (16 - length);
            }
            prop_assert_eq!(next, u32::from(last) + 1);
            prop_assert!(blocks(first..=last).count() <= 30);
        }
    }

    #[test]
    fn all_ports_are_one_block() {
        assert_eq!(blocks(0..=u16::MAX).collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(blocks(80..=80).collect::<Vec<_>>(), [(80, 16)]);
        assert_eq!(blocks(8000..=8003).collect::<Vec<_>>(), [(8000, 14)]);
    }
}
