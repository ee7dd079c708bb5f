//! The decapsulator's program and maps.

use crate::dataplane::wire_address;
use aya::{
    Ebpf, EbpfError,
    maps::{
        HashMap, Map, MapData, MapError, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{ProgramError, Xdp},
};
use ipnet::IpNet;
use mesh_common::{abi::halves, outcome::DecapOutcome};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

/// The decapsulator's object, as `cargo xtask build` made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MESHLB_DECAP_OBJECT"));

/// The name of the program in its object.
const PROGRAM: &str = "decap";

const OWN: &str = "OWN_ADDRESSES";
const VIPS: &str = "VIPS";
const OUTCOMES: &str = "OUTCOMES";

/// IPv4 as IPv4-mapped addresses, in two words.
type Addresses = HashMap<MapData, [u64; 2], u8>;

/// The same as bytes, with how many bits count.
type Prefixes = LpmTrie<MapData, [u8; 16], u8>;

/// Why the decapsulator cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DecapError {
    /// The kernel refused the object or a map.
    #[error("the kernel refused the decapsulator's maps: {0}")]
    Object(#[from] EbpfError),
    /// The kernel refused the program.
    #[error("the kernel refused the decapsulator: {0}")]
    Program(#[from] ProgramError),
    /// The object lacks something: it is of another build.
    #[error("the embedded object has no {what} {name}")]
    Missing {
        /// A map or a program.
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A map cannot be used.
    #[error("map {map}: {source}")]
    Map {
        /// The map.
        map: &'static str,
        /// The reason.
        source: MapError,
    },
}

/// The loaded program, which unwraps nothing until it is told what.
pub struct Decapsulator {
    ebpf: Ebpf,
    own: Addresses,
    vips: Prefixes,
    outcomes: PerCpuArray<MapData, u64>,
    /// Instructions that the verifier walked through (kernel 5.16).
    pub verified_instructions: Option<u32>,
    /// How long the kernel took to verify and compile the program.
    pub took: Duration,
}

impl Decapsulator {
    /// Loads the program, attached to nothing.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn load() -> Result<Self, DecapError> {
        let mut ebpf = Ebpf::load(OBJECT)?;
        let own = take(&mut ebpf, OWN, HashMap::try_from)?;
        let vips = take(&mut ebpf, VIPS, LpmTrie::try_from)?;
        let outcomes = take(&mut ebpf, OUTCOMES, PerCpuArray::try_from)?;
        let started = Instant::now();
        let xdp = program(&mut ebpf)?;
        xdp.load()?;
        let took = started.elapsed();
        let verified_instructions = xdp.info()?.verified_instruction_count();
        Ok(Self { ebpf, own, vips, outcomes, verified_instructions, took })
    }

    /// Which of this host's addresses tunnels may end at, instead of those before.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_own_addresses(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), DecapError> {
        replace_addresses(&mut self.own, addresses).map_err(|source| DecapError::Map { map: OWN, source })
    }

    /// Which VIPs tunnel packets may carry, addresses or prefixes, instead of those before.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_vips(&mut self, vips: &BTreeSet<IpNet>) -> Result<(), DecapError> {
        replace_prefixes(&mut self.vips, vips).map_err(|source| DecapError::Map { map: VIPS, source })
    }

    /// How many packets ended in each outcome, over all CPUs.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn outcomes(&self) -> Result<BTreeMap<DecapOutcome, u64>, DecapError> {
        let read = |outcome: &DecapOutcome| {
            let values = self.outcomes.get(&outcome.index(), 0);
            let values = values.map_err(|source| DecapError::Map { map: OUTCOMES, source })?;
            Ok((*outcome, values.iter().copied().fold(0, u64::wrapping_add)))
        };
        DecapOutcome::ALL.iter().map(read).collect()
    }

    /// The program, for attaching and for test runs.
    ///
    /// # Errors
    ///
    /// The object has no such program.
    pub fn program(&mut self) -> Result<&mut Xdp, DecapError> {
        program(&mut self.ebpf)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, DecapError> {
    let found = ebpf.program_mut(PROGRAM);
    Ok(found.ok_or(DecapError::Missing { what: "program", name: PROGRAM })?.try_into()?)
}

fn take<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    make: impl Fn(Map) -> Result<T, MapError>,
) -> Result<T, DecapError> {
    let map = ebpf.take_map(name).ok_or(DecapError::Missing { what: "map", name })?;
    make(map).map_err(|source| DecapError::Map { map: name, source })
}

/// Changes only what differs, so that an address that stays is never missing.
fn replace_addresses(map: &mut Addresses, addresses: &BTreeSet<IpAddr>) -> Result<(), MapError> {
    let wanted: BTreeSet<[u64; 2]> = addresses.iter().map(|address| halves(wire_address(*address))).collect();
    let there: BTreeSet<[u64; 2]> = map.keys().collect::<Result<_, _>>()?;
    for gone in there.difference(&wanted) {
        map.remove(gone)?;
    }
    for new in wanted.difference(&there) {
        map.insert(new, 1, 0)?;
    }
    Ok(())
}

/// As [`replace_addresses`].
fn replace_prefixes(map: &mut Prefixes, prefixes: &BTreeSet<IpNet>) -> Result<(), MapError> {
    let wanted: BTreeSet<(u32, [u8; 16])> = prefixes.iter().map(wire_prefix).collect();
    let part = |key: Result<Key<[u8; 16]>, MapError>| key.map(|key| (key.prefix_len(), key.data()));
    let there: BTreeSet<(u32, [u8; 16])> = map.keys().map(part).collect::<Result<_, _>>()?;
    for (length, address) in there.difference(&wanted) {
        map.remove(&Key::new(*length, *address))?;
    }
    for (length, address) in wanted.difference(&there) {
        map.insert(&Key::new(*length, *address), 1, 0)?;
    }
    Ok(())
}

fn wire_prefix(prefix: &IpNet) -> (u32, [u8; 16]) {
    let unmapped = 128 - prefix.max_prefix_len();
    (u32::from(unmapped + prefix.prefix_len()), wire_address(prefix.network()))
}
