//! The decapsulator's program and maps.

use crate::dataplane::wire_address;
use aya::{
    Ebpf, EbpfError,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, lpm_trie},
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use ipnet::IpNet;
use mesh_common::{abi::halves, outcome::DecapOutcome};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// The decapsulator's object, as `cargo xtask build` made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MESHLB_DECAP_OBJECT"));

/// The names of the programs in their object.
const XDP_PROGRAM: &str = "decap";
pub(super) const TC_PROGRAM: &str = "decap_tc";

const OWN: &str = "OWN_ADDRESSES";
const VIPS: &str = "VIPS";
const PORTS: &str = "PORTS";
const OUTCOMES: &str = "OUTCOMES";

/// IPv4 as IPv4-mapped addresses, in two words.
type Addresses = HashMap<MapData, [u64; 2], u8>;

/// Prefixes of IPv4-mapped and IPv6 addresses behind four bytes of zero.
type Prefixes = lpm_trie::LpmTrie<MapData, [u8; 20], u8>;

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

/// How many packets ended in each outcome.
pub struct Outcomes(PerCpuArray<MapData, u64>);

impl Outcomes {
    /// Reads the counters, over all CPUs.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn read(&self) -> Result<BTreeMap<DecapOutcome, u64>, DecapError> {
        let read = |outcome: &DecapOutcome| {
            let values = self.0.get(&outcome.index(), 0);
            let values = values.map_err(|source| DecapError::Map { map: OUTCOMES, source })?;
            Ok((*outcome, values.iter().copied().fold(0, u64::wrapping_add)))
        };
        DecapOutcome::ALL.iter().map(read).collect()
    }
}

/// The maps and the programs, which unwrap nothing until they are told what. A program is loaded when it is asked for.
pub struct Decapsulator {
    ebpf: Ebpf,
    own: Addresses,
    vips: Prefixes,
    ports: HashMap<MapData, u32, u32>,
    outcomes: Arc<Outcomes>,
}

impl Decapsulator {
    /// Makes the maps.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn load() -> Result<Self, DecapError> {
        let mut ebpf = Ebpf::load(OBJECT)?;
        Ok(Self {
            own: take(&mut ebpf, OWN, HashMap::try_from)?,
            vips: take(&mut ebpf, VIPS, lpm_trie::LpmTrie::try_from)?,
            ports: take(&mut ebpf, PORTS, HashMap::try_from)?,
            outcomes: Arc::new(Outcomes(take(&mut ebpf, OUTCOMES, PerCpuArray::try_from)?)),
            ebpf,
        })
    }

    /// Which of this host's addresses tunnels may end at, instead of those before.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_own_addresses(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), DecapError> {
        let key = |address: &IpAddr| (halves(wire_address(*address)), 1);
        replace(&mut self.own, addresses.iter().map(key).collect())
            .map_err(|source| DecapError::Map { map: OWN, source })
    }

    /// At which UDP ports tunnels are unwrapped, and which of [`mesh_common::abi::tunnel`], instead of those before.
    ///
    /// # Errors
    ///
    /// The kernel refuses: more than 64 ports, for example.
    pub fn set_ports(&mut self, ports: &BTreeMap<u16, u32>) -> Result<(), DecapError> {
        replace(&mut self.ports, ports.iter().map(|(port, tunnel)| (u32::from(*port), *tunnel)).collect())
            .map_err(|source| DecapError::Map { map: PORTS, source })
    }

    /// Which VIPs tunnel packets may carry, instead of those before.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_vips(&mut self, vips: &BTreeSet<IpNet>) -> Result<(), DecapError> {
        self.replace_vips(vips).map_err(|source| DecapError::Map { map: VIPS, source })
    }

    /// Changes only what differs, so that a VIP that stays is never missing.
    fn replace_vips(&mut self, vips: &BTreeSet<IpNet>) -> Result<(), MapError> {
        let wanted: BTreeSet<(u32, [u8; 20])> = vips.iter().map(prefix_key).collect();
        let there = self.vips.keys().map(|key| key.map(|key| (key.prefix_len(), key.data())));
        let there: BTreeSet<_> = there.collect::<Result<_, _>>()?;
        for (length, data) in there.difference(&wanted) {
            self.vips.remove(&lpm_trie::Key::new(*length, *data))?;
        }
        for (length, data) in wanted.difference(&there) {
            self.vips.insert(&lpm_trie::Key::new(*length, *data), 1, 0)?;
        }
        Ok(())
    }

    /// How many packets ended in each outcome, over all CPUs.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn outcomes(&self) -> Result<BTreeMap<DecapOutcome, u64>, DecapError> {
        self.outcomes.read()
    }

    /// The counters, for others to read.
    #[must_use]
    pub fn counters(&self) -> Arc<Outcomes> {
        Arc::clone(&self.outcomes)
    }

    /// XDP's program, for attaching and for test runs.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn xdp(&mut self) -> Result<&mut Xdp, DecapError> {
        let program: &mut Xdp = program(&mut self.ebpf, XDP_PROGRAM)?.try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }

    /// The program for tc, for attaching and for test runs.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn tc(&mut self) -> Result<&mut SchedClassifier, DecapError> {
        let program: &mut SchedClassifier = program(&mut self.ebpf, TC_PROGRAM)?.try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, DecapError> {
    ebpf.program_mut(name).ok_or(DecapError::Missing { what: "program", name })
}

/// A prefix as the trie has it: its length in bits, and the address behind four bytes of zero.
fn prefix_key(prefix: &IpNet) -> (u32, [u8; 20]) {
    let in_front = if prefix.addr().is_ipv4() { 32 + 96 } else { 32 };
    let mut data = [0; 20];
    if let Some(address) = data.last_chunk_mut() {
        *address = wire_address(prefix.network());
    }
    (in_front + u32::from(prefix.prefix_len()), data)
}

fn take<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    make: impl Fn(Map) -> Result<T, MapError>,
) -> Result<T, DecapError> {
    let map = ebpf.take_map(name).ok_or(DecapError::Missing { what: "map", name })?;
    make(map).map_err(|source| DecapError::Map { map: name, source })
}

/// Changes only what differs, so that an entry that stays is never missing.
fn replace<K: aya::Pod + Ord, V: aya::Pod + Eq>(
    map: &mut HashMap<MapData, K, V>,
    wanted: BTreeMap<K, V>,
) -> Result<(), MapError> {
    let there: BTreeMap<K, V> = map.iter().collect::<Result<_, _>>()?;
    for gone in there.keys().filter(|key| !wanted.contains_key(key)) {
        map.remove(gone)?;
    }
    for (key, value) in wanted {
        if there.get(&key) != Some(&value) {
            map.insert(key, value, 0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_both_families_are_told_apart() {
        let key = |text: &str| prefix_key(&text.parse().unwrap());
        let (length, data) = key("203.0.113.0/24");
        assert_eq!((length, &data[16..]), (32 + 96 + 24, &[203, 0, 113, 0][..]));
        assert_eq!(data[..16], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        let (length, data) = key("2001:db8::/32");
        assert_eq!((length, &data[..8]), (32 + 32, &[0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8][..]));
    }
}
