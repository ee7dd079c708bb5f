//! Services wider than one port of one address, as the kernel looks them up: a packet's address leads to a *group*
//! (`GROUPS`), the group with protocol and port to the service (`RULES`). Both are tries of prefixes.
//!
//! The most specific service gets the packet: the longest prefix, then the narrowest range of ports, then a named
//! protocol before any. Where the longest prefix has no service for a protocol and port, a shorter one that has takes
//! it. So each distinct prefix is a group, which inherits what the prefixes around it offer where it has nothing itself,
//! and the rules of a group are blocks of ports that do not overlap. Pure.
//!
//! Invariant: [`steps`] never gives a packet of a service that stands before and after a wrong answer, whenever it looks
//! at the one trie and then at the other.

mod group;
mod steps;
#[cfg(test)]
mod tests;

pub use steps::{Step, steps};

use group::{Block, Groups};
use mesh_common::abi::{Extent, ServiceEntry, ServiceKey, class};
use std::collections::{BTreeMap, BTreeSet};

/// A prefix of addresses; IPv4 as IPv4-mapped addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Its first address.
    pub address: [u8; 16],
    /// How many bits count.
    pub length: u8,
}

impl Prefix {
    /// The prefix of this length that an address is in.
    #[must_use]
    pub const fn around(address: [u8; 16], length: u8) -> Self {
        let bits = u128::from_be_bytes(address);
        let mask = if length == 0 { 0 } else { u128::MAX << (128 - if length > 128 { 128 } else { length }) };
        Self { address: (bits & mask).to_be_bytes(), length }
    }

    fn contains(self, other: Self) -> bool {
        self.length <= other.length && Self::around(other.address, self.length) == self
    }
}

/// The key of a rule: a block of ports of a group's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Whose.
    pub group: u32,
    /// As [`mesh_common::abi::class`] has it.
    pub class: u8,
    /// The first port.
    pub port: u16,
    /// How many bits of the port count: 0 to 16.
    pub length: u8,
}

/// What both tries hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// `GROUPS`: the group of each prefix.
    pub groups: BTreeMap<Prefix, u32>,
    /// `RULES`: the service of each block.
    pub rules: BTreeMap<Rule, ServiceEntry>,
    /// The services that this was made of; `None` when it is not what any services would make.
    of: Option<Vec<ServiceEntry>>,
}

impl Default for Routes {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), rules: BTreeMap::new(), of: Some(Vec::new()) }
    }
}

impl Routes {
    /// What leads to the wide ones of these services, which come in the order of their keys. Prefixes that `before` knows
    /// keep their groups, and no other gets a group that `before` knows.
    #[must_use]
    pub fn compile<'a>(services: impl IntoIterator<Item = &'a ServiceEntry>, before: &Self) -> Self {
        let entries = wide(services);
        let keys: Vec<ServiceKey> = entries.iter().map(|entry| entry.key).collect();
        let mut free = before.free_groups();
        let (mut groups, mut rules) = (BTreeMap::new(), BTreeMap::new());
        Groups::of(&keys).each(|prefix, blocks| {
            let known = before.groups.get(&prefix).copied();
            let Some(group) = known.or_else(|| free.next()) else { return false };
            groups.insert(prefix, group);
            for Block { class, port, length, service } in blocks {
                if let Some(entry) = entries.get(*service) {
                    rules.insert(Rule { group, class: *class, port: *port, length: *length }, *entry);
                }
            }
            true
        });
        Self { groups, rules, of: Some(entries) }
    }

    /// What was found in the tries, while these services stand.
    #[must_use]
    pub fn found<'a>(
        groups: BTreeMap<Prefix, u32>,
        rules: BTreeMap<Rule, ServiceEntry>,
        services: impl IntoIterator<Item = &'a ServiceEntry>,
    ) -> Self {
        let found = Self { groups, rules, of: None };
        let right = Self::compile(services, &found);
        if right.groups == found.groups && right.rules == found.rules { right } else { found }
    }

    /// Whether this leads to the wide ones of these services, which come in the order of their keys.
    #[must_use]
    pub fn is_of<'a>(&self, services: impl IntoIterator<Item = &'a ServiceEntry>) -> bool {
        self.of
            .as_deref()
            .is_some_and(|of| of.iter().eq(services.into_iter().filter(|entry| entry.key.is_wide())))
    }

    /// Who gets a packet to an address (IPv4 as an IPv4-mapped one) and port; port 0 where the protocol has none.
    #[must_use]
    pub fn find(&self, address: [u8; 16], protocol: u8, port: u16) -> Option<&ServiceEntry> {
        self.rule(self.group(address)?, protocol, port)
    }

    fn group(&self, address: [u8; 16]) -> Option<u32> {
        (0..=128).rev().find_map(|length| self.groups.get(&Prefix::around(address, length))).copied()
    }

    fn rule(&self, group: u32, protocol: u8, port: u16) -> Option<&ServiceEntry> {
        let class = class(protocol);
        let block = |length: u8| {
            let port = port & u16::MAX.checked_shl(16 - u32::from(length)).unwrap_or(0);
            self.rules.get(&Rule { group, class, port, length })
        };
        (0..=16).rev().find_map(block)
    }

    fn free_groups(&self) -> impl Iterator<Item = u32> + use<> {
        let taken: BTreeSet<u32> =
            self.groups.values().copied().chain(self.rules.keys().map(|rule| rule.group)).collect();
        (0..u32::MAX).filter(move |group| !taken.contains(group))
    }
}

/// How many rules wide services make; `None` when more than `most`.
#[must_use]
pub fn count(keys: &[ServiceKey], most: usize) -> Option<usize> {
    let mut sum = 0usize;
    Groups::of(keys).each(|_, blocks| {
        sum = sum.saturating_add(blocks.len());
        sum <= most
    });
    (sum <= most).then_some(sum)
}

/// How many distinct prefixes wide services have.
#[must_use]
pub fn prefixes(keys: &[ServiceKey]) -> usize {
    let prefix = |extent: Extent| Prefix { address: extent.address, length: extent.length };
    keys.iter().filter_map(|key| key.extent()).map(prefix).collect::<BTreeSet<_>>().len()
}

fn wide<'a>(services: impl IntoIterator<Item = &'a ServiceEntry>) -> Vec<ServiceEntry> {
    services.into_iter().filter(|entry| entry.key.is_wide()).copied().collect()
}
