//! From what the tries hold to what they should hold, with packets between any two steps.

use super::{Prefix, Routes, Rule};
use mesh_common::abi::ServiceEntry;
use std::collections::BTreeSet;

/// One change of a trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes a rule, new or changed.
    SetRule(Rule, ServiceEntry),
    /// Removes a rule.
    RemoveRule(Rule),
    /// Leads a prefix to a group.
    SetGroup(Prefix, u32),
    /// Removes a prefix.
    RemoveGroup(Prefix),
    /// Waits until no packet is on its way that has looked at `GROUPS` before.
    Grace,
}

/// The steps from one to the other. Blocks of one group do not overlap, before and after: with all of both there, the
/// finer of two answers, so that a port goes from one answer to the other at once. A group stands with all its rules
/// before an address leads to it, and for as long as a packet may still be led to it.
#[must_use]
pub fn steps(before: &Routes, after: &Routes) -> Vec<Step> {
    let stays: BTreeSet<u32> = after.groups.values().copied().collect();
    let gone = before.rules.keys().filter(|rule| !after.rules.contains_key(rule));
    let (thinned, left): (Vec<&Rule>, Vec<&Rule>) = gone.partition(|rule| stays.contains(&rule.group));
    let mut steps: Vec<Step> = Vec::new();
    let new = after.rules.iter().filter(|(rule, entry)| before.rules.get(rule) != Some(entry));
    steps.extend(new.map(|(rule, entry)| Step::SetRule(*rule, *entry)));
    steps.extend(thinned.into_iter().map(|rule| Step::RemoveRule(*rule)));
    let new = after.groups.iter().filter(|(prefix, group)| before.groups.get(prefix) != Some(group));
    steps.extend(new.map(|(prefix, group)| Step::SetGroup(*prefix, *group)));
    let gone = before.groups.keys().filter(|prefix| !after.groups.contains_key(prefix));
    steps.extend(gone.map(|prefix| Step::RemoveGroup(*prefix)));
    if !left.is_empty() {
        steps.push(Step::Grace);
    }
    steps.extend(left.into_iter().map(|rule| Step::RemoveRule(*rule)));
    steps
}
