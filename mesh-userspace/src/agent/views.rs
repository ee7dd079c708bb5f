//! What the faces show, taken from what the agent knows.

use super::{clock, state::Agent};
use crate::{
    api::types::{
        BackendView, FlowUse, FlowView, HealthView, InterfaceView, ProgramView, ServiceHealth, ServiceView,
        SlotPhases, Status,
    },
    config::{self, ServiceKey},
    dataplane::{Actual, Dataplane as _, Flow, abi_key, host_address},
    desired::{Backend, Role, Service},
    health::{self, Verdict},
    metrics::Snapshot,
    nexthop::{NextHop, Resolution},
};
use mesh_common::{
    abi::{BackendCounters, ServiceEntry},
    flow::state,
    slot::Phase,
};
use nix::net::if_::if_indextoname;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, SystemTime},
};
use tracing::warn;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a service's table says.
#[derive(Default)]
struct TableUse {
    phases: SlotPhases,
    /// Slots that name a backend as their owner, by id.
    owned: HashMap<u32, u32>,
}

impl Agent {
    pub(super) fn status(&mut self) -> Status {
        let load_time_ms = self.reconciler.dataplane().loaded().took.as_secs_f64() * 1000.0;
        let verified_instructions = self.reconciler.dataplane().loaded().verified_instructions.unwrap_or(0);
        Status {
            version: VERSION.to_owned(),
            ready: self.is_ready(),
            uptime_seconds: clock::now().saturating_duration_since(self.started).as_secs_f64(),
            interfaces: self.interfaces(),
            services: self
                .config
                .services
                .iter()
                .filter_map(|service| self.service_health(service))
                .collect(),
            problems: self.problems(),
            programs: vec![ProgramView { name: "meshlb".into(), verified_instructions, load_time_ms }],
            flows: self.flow_use(),
            outcomes: self.outcomes(),
        }
    }

    fn interfaces(&self) -> Vec<InterfaceView> {
        let view = |attached: &crate::dataplane::kernel::Attached| InterfaceView {
            name: attached.interface.clone(),
            ifindex: attached.ifindex,
            mode: attached.mode.to_string(),
            reason: attached.reason.clone(),
        };
        self.attached.iter().map(view).collect()
    }

    fn service_health(&self, service: &config::Service) -> Option<ServiceHealth> {
        let desired = self.desired.services.get(&service.key())?;
        let mut health =
            ServiceHealth { service: service.name.clone(), panic: desired.panic, ..ServiceHealth::default() };
        for backend in desired.backends.values() {
            match (backend.role, backend.next_hop) {
                (Role::Active, Some(_)) => health.up += 1,
                (Role::Draining, Some(_)) => health.draining += 1,
                (Role::Active | Role::Draining, None) | (Role::Down | Role::Unknown, _) => health.down += 1,
            }
        }
        Some(health)
    }

    /// What somebody should look at.
    fn problems(&self) -> Vec<String> {
        let mut problems = self.reconciler.problems().to_vec();
        for service in self.desired.services.values() {
            if service.panic {
                problems.push(format!("service {:?}: too few backends are healthy, using all", service.name));
            } else if service.shares().is_empty() {
                problems.push(format!("service {:?}: no backend takes new flows", service.name));
            }
        }
        for (address, resolution) in self.inputs.next_hops().iter() {
            if let Resolution::Unresolved { reason } = resolution {
                problems.push(format!("backend {address} cannot be reached: {reason}"));
            }
        }
        problems.extend(self.config.services.iter().filter_map(|service| self.resized(service)));
        problems
    }

    /// A table keeps the size that it was created with.
    fn resized(&self, service: &config::Service) -> Option<String> {
        let entry = self.entry(service.key())?;
        let wanted = service.table_size.filter(|wanted| *wanted != entry.size)?;
        Some(format!(
            "service {:?} keeps its table of {} slots; for {wanted}, remove it, reload, and add it again",
            service.name, entry.size
        ))
    }

    fn entry(&self, key: ServiceKey) -> Option<&ServiceEntry> {
        self.reconciler.actual().services.get(&abi_key(key))
    }

    fn flow_use(&self) -> FlowUse {
        FlowUse { used: self.reconciler.records(), capacity: u64::from(self.config.limits.flows) }
    }

    fn outcomes(&mut self) -> BTreeMap<String, u64> {
        match self.reconciler.dataplane().outcomes() {
            Ok(outcomes) => {
                outcomes.into_iter().map(|(name, count)| (name.label().to_owned(), count)).collect()
            }
            Err(error) => {
                warn!(%error, "could not read the outcomes");
                BTreeMap::new()
            }
        }
    }

    pub(super) fn service_views(&self) -> Vec<ServiceView> {
        self.config.services.iter().map(|service| self.service_view(service)).collect()
    }

    fn service_view(&self, service: &config::Service) -> ServiceView {
        let health = self.service_health(service).unwrap_or_default();
        let table = self.table_use(service.key());
        let entry = self.entry(service.key());
        let sum = self.service_counters(entry);
        ServiceView {
            name: service.name.clone(),
            vip: service.vip.to_string(),
            port: service.port,
            protocol: service.protocol.to_string(),
            scheduler: service.scheduler.to_string(),
            forward: service.forward.to_string(),
            tracking: service.tracking.to_string(),
            table_size: entry.map_or_else(|| service.table_size(), |entry| entry.size),
            slots: table.phases,
            backends: u32::try_from(service.backends.len()).unwrap_or(u32::MAX),
            up: health.up,
            panic: health.panic,
            packets: sum.packets,
            bytes: sum.bytes,
            new_flows: sum.new_flows,
        }
    }

    fn service_counters(&self, entry: Option<&ServiceEntry>) -> BackendCounters {
        let backends = self.reconciler.actual().backends.iter();
        let members = backends.filter(|(_, backend)| Some(backend.service) == entry.map(|entry| entry.id));
        members.map(|(id, _)| self.counters(*id)).fold(BackendCounters::default(), |sum, one| {
            BackendCounters {
                packets: sum.packets + one.packets,
                bytes: sum.bytes + one.bytes,
                new_flows: sum.new_flows + one.new_flows,
            }
        })
    }

    fn table_use(&self, key: ServiceKey) -> TableUse {
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

    fn counters(&self, id: u32) -> BackendCounters {
        self.reconciler.counters(id).unwrap_or_else(|error| {
            warn!(%error, "could not read a backend's counters");
            BackendCounters::default()
        })
    }

    pub(super) fn backend_views(&self) -> Vec<BackendView> {
        let actual = self.reconciler.actual();
        let (latencies, names) = (self.inputs.latencies(), interface_names(actual));
        let mut views = Vec::new();
        for service in &self.config.services {
            let table = self.table_use(service.key());
            let ids = self.ids(service.key());
            let desired = self.desired.services.get(&service.key());
            for backend in &service.backends {
                let known = desired.and_then(|service| service.backends.get(&backend.address));
                let key = health::Key { service: service.key(), address: backend.address };
                let id = ids.get(&backend.address);
                let counted = self.counted(&table, id);
                views.push(BackendView {
                    service: service.name.clone(),
                    address: backend.address.to_string(),
                    weight: backend.weight,
                    state: known.map_or("unknown", state_name).to_owned(),
                    health: self.health_view(&key, latencies.get(&key)),
                    next_hop: known.and_then(|backend| backend.next_hop).map(|hop| show_hop(&hop, &names)),
                    ..counted
                });
            }
            views.extend(removed(&ids, desired).map(|(address, id)| BackendView {
                service: service.name.clone(),
                address: address.to_string(),
                state: "removed".into(),
                ..self.counted(&table, Some(&id))
            }));
        }
        views
    }

    /// A view of nothing but the numbers.
    fn counted(&self, table: &TableUse, id: Option<&u32>) -> BackendView {
        let Some(id) = id else { return BackendView::default() };
        let BackendCounters { packets, bytes, new_flows } = self.counters(*id);
        let slots = table.owned.get(id).copied().unwrap_or(0);
        BackendView { slots, packets, bytes, new_flows, ..BackendView::default() }
    }

    /// The ids of a service's backends in the maps, those that left the configuration included.
    fn ids(&self, key: ServiceKey) -> BTreeMap<IpAddr, u32> {
        let Some(entry) = self.entry(key) else { return BTreeMap::new() };
        let backends = self.reconciler.actual().backends.iter();
        let members = backends.filter(|(_, backend)| backend.service == entry.id);
        members.map(|(id, backend)| (host_address(backend.address), *id)).collect()
    }

    fn health_view(&self, key: &health::Key, latency: Option<&Duration>) -> Option<HealthView> {
        let verdicts = self.inputs.verdicts();
        let Verdict { state, since, last_error, .. } = verdicts.get(key)?;
        Some(HealthView {
            state: state.to_string(),
            since_seconds: SystemTime::now().duration_since(*since).unwrap_or_default().as_secs_f64(),
            last_error: last_error.clone(),
            latency_ms: latency.map(|latency| latency.as_secs_f64() * 1000.0),
        })
    }

    pub(super) fn flow_views(&mut self, limit: usize) -> Vec<FlowView> {
        let flows = self.reconciler.flows(limit, clock::kernel_now());
        let keys =
            self.config.services.iter().filter_map(|service| Some((self.entry(service.key())?.id, service)));
        let services: HashMap<u32, &config::Service> = keys.collect();
        flows.iter().map(|flow| self.flow_view(flow, &services)).collect()
    }

    fn flow_view(&self, flow: &Flow, services: &HashMap<u32, &config::Service>) -> FlowView {
        let backend = self.reconciler.actual().backends.get(&flow.record.backend);
        let idle = Duration::from_nanos(u64::from(flow.record.idle(clock::kernel_now())) << 30);
        let unknown = || "unknown".to_owned();
        FlowView {
            service: services.get(&flow.service).map_or_else(unknown, |service| service.name.clone()),
            client: flow.client.to_string(),
            backend: backend.map_or_else(unknown, |backend| host_address(backend.address).to_string()),
            state: flow_state(flow.record.state).to_owned(),
            idle_seconds: idle.as_secs_f64(),
        }
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            version: VERSION.to_owned(),
            ready: self.is_ready(),
            services: self.service_views(),
            backends: self.backend_views(),
            outcomes: self.outcomes(),
            flows: self.flow_use(),
            reloads: self.reloads,
        }
    }
}

fn removed<'a>(
    ids: &'a BTreeMap<IpAddr, u32>,
    desired: Option<&'a Service>,
) -> impl Iterator<Item = (IpAddr, u32)> + 'a {
    let stands =
        move |address: &IpAddr| desired.is_some_and(|service| service.backends.contains_key(address));
    ids.iter().filter(move |(address, _)| !stands(address)).map(|(address, id)| (*address, *id))
}

const fn state_name(backend: &Backend) -> &'static str {
    match (backend.role, backend.next_hop) {
        (Role::Down, _) => "down",
        (Role::Unknown, _) => "unknown",
        (Role::Active | Role::Draining, None) => "unresolved",
        (Role::Active, Some(_)) => "up",
        (Role::Draining, Some(_)) => "draining",
    }
}

const fn flow_state(number: u32) -> &'static str {
    match number {
        state::OPENING => "opening",
        state::CLOSING => "closing",
        _ => "established",
    }
}

fn interface_names(actual: &Actual) -> BTreeMap<u32, String> {
    let indices = actual.backends.values().map(|backend| backend.ifindex);
    let name = |index| Some((index, if_indextoname(index).ok()?.to_string_lossy().into_owned()));
    indices.filter_map(name).collect()
}

fn show_hop(hop: &NextHop, names: &BTreeMap<u32, String>) -> String {
    let interface = names.get(&hop.ifindex).cloned().unwrap_or_else(|| hop.ifindex.to_string());
    let [a, b, c, d, e, f] = hop.destination_mac;
    format!("{interface} {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} mtu {}", hop.mtu)
}
