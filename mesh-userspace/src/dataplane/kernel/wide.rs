//! What leads packets to wide services: two tries, and a word that says that there are any.
//!
//! Tries change by system calls; [`crate::wide`] knows in which order.

use super::{DataplaneError, Plain, syscalls::wait_for_packets};
use crate::wide::{Prefix, Routes, Rule, Step, steps};
use aya::maps::{
    Array, MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use mesh_common::abi::{RULE_HEAD, ServiceEntry, ServiceKey, rule_key};
use std::{collections::BTreeMap, io};

/// Both tries have room for what was there and what comes at the same time.
const TURNOVER: u32 = 2;

/// How many prefixes a trie for so many services has room for.
pub(super) const fn groups(services: u32) -> u32 {
    services.saturating_mul(TURNOVER)
}

/// How many blocks a trie for so many rules has room for.
pub(super) const fn rules(rules: u32) -> u32 {
    rules.saturating_mul(TURNOVER)
}

pub(super) struct WideMaps {
    pub(super) groups: LpmTrie<MapData, [u8; 16], u32>,
    pub(super) rules: LpmTrie<MapData, [u8; 8], Plain<ServiceEntry>>,
    /// 1 while there are wide services: until then, nobody looks at the tries.
    pub(super) wide: Array<MapData, u32>,
}

impl WideMaps {
    /// What the tries hold, while these services stand.
    pub(super) fn read(
        &self,
        services: &BTreeMap<ServiceKey, ServiceEntry>,
    ) -> Result<Routes, DataplaneError> {
        let prefix = |found: Result<(Key<[u8; 16]>, u32), MapError>| {
            let (key, group) = found.map_err(|source| failed("GROUPS", "read", source))?;
            Ok((prefix(&key), group))
        };
        let rule = |found: Result<(Key<[u8; 8]>, Plain<ServiceEntry>), MapError>| {
            let (key, Plain(entry)) = found.map_err(|source| failed("RULES", "read", source))?;
            Ok((rule(&key), entry))
        };
        let groups = self.groups.iter().map(prefix).collect::<Result<_, DataplaneError>>()?;
        let rules = self.rules.iter().map(rule).collect::<Result<_, DataplaneError>>()?;
        Ok(Routes::found(groups, rules, services.values()))
    }

    /// Makes the tries lead to the wide ones of these services.
    pub(super) fn route(
        &mut self,
        services: &BTreeMap<ServiceKey, ServiceEntry>,
    ) -> Result<(), DataplaneError> {
        let before = self.read(services)?;
        let after = Routes::compile(services.values(), &before);
        let any = !after.groups.is_empty();
        // First and last, so that an agent which ends between two steps leaves no trie that nobody looks at.
        if any {
            self.look(true)?;
        }
        steps(&before, &after).into_iter().try_for_each(|step| self.step(step))?;
        if any { Ok(()) } else { self.look(false) }
    }

    /// Whether packets look at the tries.
    fn look(&mut self, any: bool) -> Result<(), DataplaneError> {
        self.wide.set(0, u32::from(any), 0).map_err(|source| failed("WIDE", "write", source))
    }

    fn step(&mut self, step: Step) -> Result<(), DataplaneError> {
        match step {
            Step::SetRule(rule, entry) => {
                self.rules.insert(&rule_trie_key(rule), Plain(entry), 0).map_err(|source| {
                    if is_full(&source) {
                        DataplaneError::RulesFull
                    } else {
                        failed("RULES", "write", source)
                    }
                })
            }
            Step::RemoveRule(rule) => {
                self.rules.remove(&rule_trie_key(rule)).map_err(|source| failed("RULES", "remove", source))
            }
            Step::SetGroup(prefix, group) => self
                .groups
                .insert(&prefix_trie_key(prefix), group, 0)
                .map_err(|source| failed("GROUPS", "write", source)),
            Step::RemoveGroup(prefix) => self
                .groups
                .remove(&prefix_trie_key(prefix))
                .map_err(|source| failed("GROUPS", "remove", source)),
            Step::Grace => {
                wait_for_packets();
                Ok(())
            }
        }
    }
}

fn prefix_trie_key(Prefix { address, length }: Prefix) -> Key<[u8; 16]> {
    Key::new(length.into(), address)
}

fn prefix(key: &Key<[u8; 16]>) -> Prefix {
    Prefix { address: key.data(), length: u8::try_from(key.prefix_len()).unwrap_or(u8::MAX) }
}

fn rule_trie_key(Rule { group, class, port, length }: Rule) -> Key<[u8; 8]> {
    Key::new(RULE_HEAD + u32::from(length), rule_key(group, class, port.to_be_bytes()).to_ne_bytes())
}

fn rule(key: &Key<[u8; 8]>) -> Rule {
    let [a, b, c, d, class, _, high, low] = key.data();
    let length = u8::try_from(key.prefix_len().saturating_sub(RULE_HEAD)).unwrap_or(u8::MAX);
    Rule { group: u32::from_be_bytes([a, b, c, d]), class, port: u16::from_be_bytes([high, low]), length }
}

fn is_full(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else { return false };
    error.io_error.kind() == io::ErrorKind::StorageFull
}

fn failed(map: &'static str, action: &'static str, source: MapError) -> DataplaneError {
    DataplaneError::Map { map, action, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_of_the_tries_come_back(address: [u8; 16], bits in 0u8..=128, group: u32, class: u8, port: u16, length in 0u8..=16) {
            let vip = Prefix { address, length: bits };
            prop_assert_eq!(prefix(&prefix_trie_key(vip)), vip);
            let block = Rule { group, class, port, length };
            prop_assert_eq!(rule(&rule_trie_key(block)), block);
        }
    }
}
