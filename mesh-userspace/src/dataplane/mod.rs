//! The dataplane: what the kernel holds, seen as one value that changes by ops.
//!
//! [`Actual`] is that value, [`Op`] a change of it, [`Dataplane`] whoever carries changes out: the kernel, or
//! [`Memory`] in tests.

pub mod kernel;
mod memory;
mod wire;

pub use memory::Memory;
pub use wire::{abi_key, backend_entry, host_address, vip_of, wire_address};

use mesh_common::{
    abi::{BackendCounters, BackendEntry, ServiceEntry, ServiceKey},
    flow::{FlowRecord, Ticks},
    outcome::Outcome,
    slot::Slot,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

/// One change of the maps. A plan orders them so that packets may arrive between any two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a backend, new or changed.
    WriteBackend {
        /// Its id; not 0.
        id: u32,
        /// All of its entry.
        entry: BackendEntry,
    },
    /// Frees a backend's id.
    RemoveBackend {
        /// Its id.
        id: u32,
    },
    /// Writes a slot.
    WriteSlot {
        /// Its index in the slot map.
        index: u32,
        /// Its value.
        slot: Slot,
    },
    /// Makes a service known; its slots stand already.
    AddService(ServiceEntry),
    /// Makes a service unknown; its packets are no longer ours.
    RemoveService(ServiceKey),
    /// Makes an address known as a VIP: its echo requests are answered, its orphaned fragments dropped.
    AddVip(IpAddr),
    /// Makes a VIP an address like any other.
    RemoveVip(IpAddr),
    /// Waits until no packet is on its way that has seen the maps as they were before.
    Grace,
}

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Every service.
    pub services: BTreeMap<ServiceKey, ServiceEntry>,
    /// Every VIP, however many services it has.
    pub vips: BTreeSet<IpAddr>,
    /// Every backend, by its id.
    pub backends: BTreeMap<u32, BackendEntry>,
    /// The whole slot map; services own ranges of it.
    pub slots: Vec<Slot>,
}

impl Actual {
    /// Empty maps of a size.
    #[must_use]
    pub fn empty(slots: u32) -> Self {
        Self { slots: vec![Slot::default(); usize::try_from(slots).unwrap_or(0)], ..Self::default() }
    }

    /// Carries out a change.
    pub fn apply(&mut self, op: &Op) {
        match *op {
            Op::WriteBackend { id, entry } => drop(self.backends.insert(id, entry)),
            Op::RemoveBackend { id } => drop(self.backends.remove(&id)),
            Op::WriteSlot { index, slot } => {
                if let Some(place) = usize::try_from(index).ok().and_then(|index| self.slots.get_mut(index)) {
                    *place = slot;
                }
            }
            Op::AddService(entry) => drop(self.services.insert(entry.key, entry)),
            Op::RemoveService(key) => drop(self.services.remove(&key)),
            Op::AddVip(vip) => drop(self.vips.insert(vip)),
            Op::RemoveVip(vip) => drop(self.vips.remove(&vip)),
            Op::Grace => {}
        }
    }

    /// The slots of a service, in order.
    pub fn slots_of(&self, service: &ServiceEntry) -> impl Iterator<Item = (u32, Slot)> + '_ {
        let base = service.base;
        let start = usize::try_from(base).unwrap_or(usize::MAX);
        let size = usize::try_from(service.size).unwrap_or(0);
        (base..).zip(self.slots.iter().skip(start).take(size).copied())
    }

    /// Whether every service's VIP is known, and every slot of every service names backends that are there and stand
    /// behind that service.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let stands =
            |id: u32, service: u32| id == 0 || self.backends.get(&id).is_some_and(|b| b.service == service);
        self.services.values().all(|service| {
            self.vips.contains(&vip_of(service.key))
                && self.slots_of(service).all(|(_, slot)| {
                    stands(slot.current(), service.id) && stands(slot.untracked(), service.id)
                })
        })
    }
}

/// A recorded flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The service's id.
    pub service: u32,
    /// What the kernel keeps.
    pub record: FlowRecord,
}

/// Why the dataplane failed.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The kernel refused an access to a map.
    #[error("map {map}: {action} failed: {source}")]
    Map {
        /// The map.
        map: &'static str,
        /// What was tried.
        action: &'static str,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An index beyond the map's size.
    #[error("map {map}: index {index} is beyond its {size} elements")]
    Index {
        /// The map.
        map: &'static str,
        /// The index.
        index: u32,
        /// How many elements there are.
        size: usize,
    },
    /// The service table has no place for another service.
    #[error("the service table is full: raise limits.services")]
    ServicesFull,
}

/// Whoever holds the maps.
pub trait Dataplane: Send {
    /// Reads back what the maps hold.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    fn read(&self) -> Result<Actual, DataplaneError>;

    /// Carries out a change.
    ///
    /// # Errors
    ///
    /// The kernel refused, or the change does not fit the maps.
    fn apply(&mut self, op: &Op) -> Result<(), DataplaneError>;

    /// What was sent to a backend since its id was first used, over all CPUs.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    fn counters(&self, backend: u32) -> Result<BackendCounters, DataplaneError>;

    /// How many packets ended in each outcome, over all CPUs.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    fn outcomes(&self) -> Result<BTreeMap<Outcome, u64>, DataplaneError>;

    /// Calls `visit` with every recorded flow, and forgets those for which it answers `false`. `now` is the kernel's
    /// time.
    fn retain_flows(&mut self, now: Ticks, visit: &mut dyn FnMut(&Flow) -> bool);

    /// The seed of the flow hash.
    fn seed(&self) -> u64;
}

/// The hash of a client, as the kernel computes it.
#[must_use]
pub fn flow_hash(seed: u64, client: SocketAddr) -> u64 {
    let port = client.port().to_be_bytes();
    match client.ip() {
        IpAddr::V4(address) => mesh_common::hash::flow4(seed, address.octets(), port),
        IpAddr::V6(address) => mesh_common::hash::flow6(seed, address.octets(), port),
    }
}
