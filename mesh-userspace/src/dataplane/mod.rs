//! The dataplane: what the kernel holds, seen as one value that changes by ops.
//!
//! [`Actual`] is that value, [`Op`] a change of it, [`Dataplane`] whoever carries changes out: the kernel, or
//! [`Memory`] in tests.

pub mod kernel;
mod memory;
mod wire;

pub use memory::Memory;
pub use wire::{abi_key, backend_entry, exact_key, host_address, vip_of, wire_address};

use crate::{guard::Image, wide::Routes};
use ipnet::IpNet;
use mesh_common::{
    abi::{BackendCounters, BackendEntry, ServiceEntry, ServiceKey, halves},
    connection::Sources,
    flood::Flood,
    flow::{FlowRecord, Ticks},
    outcome::Outcome,
    quic::{self, Routed},
    slot::Slot,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
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
    /// Makes a service known, whose slots stand already, or changes its flags. Packets of a wide one find it after the next
    /// [`Op::Route`].
    AddService(ServiceEntry),
    /// Makes a service unknown; its packets are no longer ours, those of a wide one after the next [`Op::Route`].
    RemoveService(ServiceKey),
    /// Writes how connection ids with a codepoint are read, new or changed.
    WriteQuicConfig {
        /// Of which service and codepoint.
        key: quic::ConfigKey,
        /// Lengths and key.
        parameters: quic::Parameters,
    },
    /// Reads connection ids with a codepoint no more.
    RemoveQuicConfig(quic::ConfigKey),
    /// Gives a server id to a backend, or to another one.
    WriteServerId {
        /// The server id.
        key: quic::ServerIdKey,
        /// The backend's id.
        backend: u32,
    },
    /// Makes a server id nobody's.
    RemoveServerId(quic::ServerIdKey),
    /// Makes what leads to wide services that of those which stand.
    Route,
    /// Makes an address or a prefix known as VIPs: their echo requests are answered, their orphaned fragments dropped.
    AddVip(IpNet),
    /// Makes a VIP an address like any other.
    RemoveVip(IpNet),
    /// Waits until no packet is on its way that has seen the maps as they were before.
    Grace,
}

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Every service.
    pub services: BTreeMap<ServiceKey, ServiceEntry>,
    /// Every VIP, however many services it has.
    pub vips: BTreeSet<IpNet>,
    /// Every backend, by its id.
    pub backends: BTreeMap<u32, BackendEntry>,
    /// The whole slot map; services own ranges of it.
    pub slots: Vec<Slot>,
    /// How the connection ids of services are read.
    pub quic: BTreeMap<quic::ConfigKey, quic::Parameters>,
    /// The ids of backends by their server ids.
    pub server_ids: BTreeMap<quic::ServerIdKey, u32>,
    /// What leads to wide services.
    pub routes: Routes,
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
            Op::WriteQuicConfig { key, parameters } => drop(self.quic.insert(key, parameters)),
            Op::RemoveQuicConfig(key) => drop(self.quic.remove(&key)),
            Op::WriteServerId { key, backend } => drop(self.server_ids.insert(key, backend)),
            Op::RemoveServerId(key) => drop(self.server_ids.remove(&key)),
            Op::Route => self.routes = Routes::compile(self.services.values(), &self.routes),
            Op::AddVip(vip) => drop(self.vips.insert(vip)),
            Op::RemoveVip(vip) => drop(self.vips.remove(&vip)),
            Op::Grace => {}
        }
    }

    /// Who gets a packet to an address (IPv4 as an IPv4-mapped one) and port; port 0 where the protocol has none.
    #[must_use]
    pub fn find(&self, address: [u8; 16], protocol: u8, port: u16) -> Option<&ServiceEntry> {
        let exact = self.services.get(&exact_key(host_address(address), port, protocol));
        exact.or_else(|| self.routes.find(address, protocol, port))
    }

    /// The slots of a service, in order.
    pub fn slots_of(&self, service: &ServiceEntry) -> impl Iterator<Item = (u32, Slot)> + '_ {
        let base = service.base;
        let start = usize::try_from(base).unwrap_or(usize::MAX);
        let size = usize::try_from(service.size).unwrap_or(0);
        (base..).zip(self.slots.iter().skip(start).take(size).copied())
    }

    /// Whether every service's VIP is known, and every slot and server id of every service names backends that are there
    /// and stand behind that service.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let stands =
            |id: u32, service: u32| id == 0 || self.backends.get(&id).is_some_and(|b| b.service == service);
        self.server_ids.iter().all(|(key, id)| *id != 0 && stands(*id, key.service))
            && self.services.values().all(|service| {
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
    /// The hash that led to its slot.
    pub hash: u64,
    /// What the kernel keeps.
    pub record: FlowRecord,
}

/// How long so many ticks of the flow table's clock are: 2^30 ns each.
#[must_use]
pub const fn lasting(ticks: Ticks) -> Duration {
    Duration::from_nanos((ticks as u64) << 30)
}

/// Whose flows the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Load {
    /// Those of the backend with this id.
    Backend(u32),
    /// Those of the service with this id.
    Service(u32),
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
    /// The kernel did not run the program that tells the time.
    #[error("could not ask the kernel program for the time: {source}")]
    Clock {
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
    /// There are more rules than were thought to fit.
    #[error("map RULES has no place for another rule: raise limits.rules")]
    RulesFull,
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

    /// Writes the policies of guards into a half of their map that no packet reads.
    ///
    /// # Errors
    ///
    /// They do not fit the map.
    fn write_policies(&mut self, half: u32, image: &Image) -> Result<(), DataplaneError>;

    /// Writes where translated packets to backends of a service come from.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    fn write_sources(&mut self, service: u32, sources: &Sources) -> Result<(), DataplaneError>;

    /// Writes how many new flows of a service in a tick are a flood.
    ///
    /// # Errors
    ///
    /// Nobody has the id.
    fn write_flood_limit(&mut self, service: u32, limit: u32) -> Result<(), DataplaneError>;

    /// How many flows of a service begin.
    fn flood(&self, service: u32) -> Flood;

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

    /// How many packets of QUIC services went which way, by the codepoint of their connection ids, over all CPUs.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    fn routed(&self) -> Result<BTreeMap<(Routed, u32), u64>, DataplaneError>;

    /// How many flows the kernel has counted; wraps below 0 when more ended than were counted.
    fn load(&self, of: Load) -> u64;

    /// How many connections the last look through them found.
    fn connections(&self) -> u64;

    /// Connections of a backend that ended without an answer, since this agent looks through them.
    fn unanswered(&self, backend: u32) -> u64;

    /// Connections of a backend of which nothing has come back, at the last look through them, for as long as clients wait
    /// before they say it again.
    fn silent(&self, backend: u32) -> u64;

    /// Adds to the flows that were counted, while the kernel goes on counting; wraps.
    ///
    /// # Errors
    ///
    /// Nobody has the id.
    fn add_load(&mut self, of: Load, by: u64) -> Result<(), DataplaneError>;

    /// Calls `visit` with every recorded flow and every connection, and forgets those for which it answers `false`. `now` is the kernel's
    /// time.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    fn retain_flows(
        &mut self,
        now: Ticks,
        visit: &mut dyn FnMut(&Flow) -> bool,
    ) -> Result<(), DataplaneError>;

    /// Goes on with renewing what tells packets that their flow is surely not recorded, of which so many are: a step at a
    /// time, if it is worth its while.
    ///
    /// # Errors
    ///
    /// The maps have no such place.
    fn renew_filter(&mut self, records: u64) -> Result<(), DataplaneError>;

    /// The time by which flow records are stamped.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    fn now(&self) -> Result<Ticks, DataplaneError>;

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

/// The hash of a client's address, by which `source` finds the slot of all of its flows.
#[must_use]
pub fn source_hash(seed: u64, client: SocketAddr) -> u64 {
    flow_hash(seed, SocketAddr::new(client.ip(), 0))
}

/// The hash of a client's flow to a wide service, as the kernel computes it. Flows of a service of any protocol are
/// pairs of addresses: their ports are 0.
#[must_use]
pub fn wide_flow_hash(seed: u64, client: SocketAddr, destination: SocketAddr) -> u64 {
    let address = halves(wire_address(destination.ip()));
    mesh_common::hash::towards(flow_hash(seed, client), address, destination.port().to_be_bytes())
}
