//! How much of the kernel's memory the maps take, told before they are made.

use super::guards::POLICIES;
use super::load::{MAPPED, Sizes, TABLES, VIPS, shape};
use aya::maps::MapType;

/// A page of memory: mapped arrays are whole pages.
const PAGE: u64 = 4096;

/// What the kernel keeps of a trie's node beside its key's data and its value (`struct lpm_trie_node`).
const NODE: u64 = 24;

/// A bucket of a hash map (`struct bucket`).
const BUCKET: u64 = 16;

/// An element of a hash map without key and value (`struct htab_elem`).
const ELEMENT: u64 = 48;

/// What tries hold; they take memory for that alone, whatever their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InTries {
    /// VIPs.
    pub vips: u32,
    /// Prefixes of wide services.
    pub groups: u32,
    /// Rules.
    pub rules: u32,
}

/// A map's share of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapMemory {
    /// The map.
    pub map: &'static str,
    /// How many entries take memory.
    pub entries: u32,
    /// Bytes, on all CPUs together.
    pub bytes: u64,
}

/// The memory of each map of these sizes on a host that may have so many CPUs.
#[must_use]
pub fn memory(sizes: Sizes, tries: InTries, cpus: u32) -> Vec<MapMemory> {
    let entries = sizes.entries().map(|(map, _, entries)| match map {
        VIPS => (map, tries.vips),
        "GROUPS" => (map, tries.groups),
        "RULES" => (map, tries.rules),
        _ => (map, entries),
    });
    let alone = [(TABLES, sizes.layout().bytes()), (POLICIES, sizes.policies().bytes())];
    let alone = alone.map(|(map, bytes)| MapMemory { map, entries: 1, bytes: bytes.next_multiple_of(PAGE) });
    let others = entries.into_iter().map(|(map, entries)| one(map, entries, cpus));
    alone.into_iter().chain(others).collect()
}

fn one(map: &'static str, entries: u32, cpus: u32) -> MapMemory {
    let (kind, key, value, flags) = shape(map);
    let element = u64::from(value).next_multiple_of(8);
    let buckets = u64::from(entries.next_power_of_two());
    let bytes = if kind == MapType::PerCpuArray {
        // With a pointer to the CPUs' own.
        u64::from(entries) * (element * u64::from(cpus) + 8)
    } else if kind == MapType::Hash {
        // Elements come and go; what is always there is a bucket for each.
        buckets * BUCKET
    } else if kind == MapType::LruHash {
        buckets * BUCKET + u64::from(entries) * (ELEMENT + u64::from(key).next_multiple_of(8) + element)
    } else if kind == MapType::LpmTrie {
        // A node for the entry, and one where it parts from another.
        u64::from(entries) * 2 * (NODE + u64::from(key) - 4 + u64::from(value))
    } else {
        u64::from(entries) * element
    };
    MapMemory { map, entries, bytes: if flags & MAPPED == 0 { bytes } else { bytes.next_multiple_of(PAGE) } }
}
