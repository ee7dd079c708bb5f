//! Services, their tables and their counters.

use crate::{
    agent::state::Agent,
    api::types::{ServiceView, SlotPhases},
    config::{self, ServiceKey, Vip},
    dataplane::{Load, abi_key, host_address, wire_address},
    health,
};
use mesh_common::{
    abi::{BackendCounters, ServiceEntry},
    slot::{Phase, Slot},
};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};
use tracing::warn;

/// What a service's table says.
#[derive(Default)]
pub(super) struct TableUse {
    pub(super) phases: SlotPhases,
    /// Slots that name a backend as their owner, by id.
    pub(super) owned: HashMap<u32, u32>,
}

/// The backends of services in the maps: ids by address, by the service's id.
pub(super) type Members = HashMap<u32, BTreeMap<IpAddr, u32>>;

impl Agent {
    pub(in crate::agent) fn service_views(&self) -> Vec<ServiceView> {
        let members = self.members();
        self.config.services.iter().map(|service| self.service_view(service, &members)).collect()
    }

    fn service_view(&self, service: &config::Service, members: &Members) -> ServiceView {
        let (sources, stale_seconds) = self.service_sources(service);
        let health = self.service_health(service).unwrap_or_default();
        let table = self.table_use(service.key());
        let entry = self.entry(service.key());
        let sum = self.service_counters(entry.and_then(|entry| members.get(&entry.id)));
        ServiceView {
            name: service.name.clone(),
            key: service.key().to_string(),
            vip: Vip(service.vip).to_string(),
            port: service.ports.single().unwrap_or(0),
            ports: service.ports.to_string(),
            protocol: service.protocol.to_string(),
            scheduler: service.scheduler.to_string(),
            forward: service.forward.to_string(),
            tracking: service.tracking.to_string(),
            table_size: entry.map_or_else(|| service.table_size(), |entry| entry.size),
            slots: table.phases,
            backends: u32::try_from(service.backends.len()).unwrap_or(u32::MAX),
            up: health.up,
            panic: health.panic,
            groups: self.group_views(service),
            tiers: self.tier_views(service),
            sources,
            stale_seconds,
            packets: sum.packets(),
            bytes: sum.bytes,
            new_flows: sum.new_flows,
            recorded_flows: entry.map_or(0, |entry| self.reconciler.load(Load::Service(entry.id))),
            max_flows: service.max_flows,
            flooded: self.floods.has(service.key()),
        }
    }

    /// The backends in the maps, those that left the configuration included.
    pub(in crate::agent) fn members(&self) -> Members {
        let mut members = Members::new();
        for (id, backend) in &self.reconciler.actual().backends {
            members.entry(backend.service).or_default().insert(host_address(backend.address), *id);
        }
        members
    }

    fn service_counters(&self, members: Option<&BTreeMap<IpAddr, u32>>) -> BackendCounters {
        let ids = members.into_iter().flat_map(BTreeMap::values);
        ids.fold(BackendCounters::default(), |sum, id| sum.plus(&self.counters(*id)))
    }

    pub(super) fn table_use(&self, key: ServiceKey) -> TableUse {
        let mut table = TableUse::default();
        let Some(entry) = self.entry(key) else { return table };
        for (_, slot) in self.reconciler.actual().slots_of(entry) {
            match slot.phase() {
                Phase::Steady => table.phases.steady += 1,
                Phase::Migrating => table.phases.migrating += 1,
                Phase::Settling => table.phases.settling += 1,
            }
            *table.owned.entry(slot.current()).or_default() += 1;
        }
        table
    }

    /// The slots of a service's table.
    pub(in crate::agent) fn slots_of(&self, key: ServiceKey) -> impl Iterator<Item = Slot> {
        let actual = self.reconciler.actual();
        self.entry(key).into_iter().flat_map(|entry| actual.slots_of(entry)).map(|(_, slot)| slot)
    }

    /// The id of a backend in the maps.
    pub(in crate::agent) fn backend_id(&self, key: &health::Key) -> Option<u32> {
        let service = self.entry(key.service)?.id;
        let address = wire_address(key.address);
        let mut backends = self.reconciler.actual().backends.iter();
        backends.find(|(_, entry)| (entry.service, entry.address) == (service, address)).map(|(id, _)| *id)
    }

    pub(in crate::agent) fn entry(&self, key: ServiceKey) -> Option<&ServiceEntry> {
        self.reconciler.actual().services.get(&abi_key(key))
    }

    pub(in crate::agent) fn counters(&self, id: u32) -> BackendCounters {
        self.reconciler.counters(id).unwrap_or_else(|error| {
            warn!(%error, "could not read a backend's counters");
            BackendCounters::default()
        })
    }
}
