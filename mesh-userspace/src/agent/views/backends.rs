//! Backends: what they are to flows, what the probes say, where their packets go.

use super::composition::{Parts, held_back};
use super::services::TableUse;
use crate::{
    agent::state::Agent,
    api::types::{BackendView, HealthView},
    dataplane::{Actual, Load},
    desired::{Backend, Role, Service},
    health::{self, Verdict},
    nexthop::NextHop,
};
use mesh_common::abi::BackendCounters;
use nix::net::if_::if_indextoname;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, SystemTime},
};

impl Agent {
    pub(in crate::agent) fn backend_views(&self) -> Vec<BackendView> {
        let actual = self.reconciler.actual();
        let (latencies, loads) = (self.inputs.latencies(), self.inputs.loads());
        let names = interface_names(actual);
        let (members, nobody) = (self.members(), BTreeMap::new());
        let mut views = Vec::new();
        for service in &self.config.services {
            let table = self.table_use(service.key());
            let ids = self.entry(service.key()).and_then(|entry| members.get(&entry.id)).unwrap_or(&nobody);
            let desired = self.desired.services.get(&service.key());
            let (parts, split) = (Parts::of(desired), self.overrides.split(service));
            for backend in &service.backends {
                let known = desired.and_then(|service| service.backends.get(&backend.address));
                let key = health::Key { service: service.key(), address: backend.address };
                let order = self.overrides.of(&key);
                let work = self.overrides.maintenance(backend.address);
                let id = ids.get(&backend.address);
                let counted = self.counted(&table, id);
                views.push(BackendView {
                    service: service.name.clone(),
                    address: backend.address.to_string(),
                    source: self.origins.get(&key).cloned().unwrap_or_else(|| "configuration".to_owned()),
                    weight: order.weight.unwrap_or(backend.weight),
                    configured_weight: backend.weight,
                    share: known.map_or(0, |backend| backend.weight),
                    group: backend.group.to_string(),
                    priority: backend.priority,
                    percent: known.map_or(0.0, |backend| parts.percent(backend)),
                    held_back: held_back(backend, known, &split),
                    ejected: self.ejected(&key, known),
                    ejections: self.outliers.times(&key),
                    starting: known.is_some_and(|backend| backend.starting),
                    performance: self.factors.of(&key).map(|(_, reason)| reason.to_owned()),
                    drained: self.overrides.is_drained(&key),
                    maintenance: work.map(|work| work.reason.clone()),
                    state: state(known, work.is_some()).to_owned(),
                    health: self.health_view(&key, latencies.get(&key), loads.get(&key)),
                    next_hop: known.and_then(|backend| backend.next_hop).map(|hop| show_hop(&hop, &names)),
                    ..counted
                });
            }
            views.extend(removed(ids, desired).map(|(address, id)| BackendView {
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
        let counters = self.counters(*id);
        let BackendCounters { bytes, new_flows, reply_bytes, refused, .. } = counters;
        let slots = table.owned.get(id).copied().unwrap_or(0);
        let (packets, recorded_flows) = (counters.packets(), self.reconciler.load(Load::Backend(*id)));
        BackendView {
            slots,
            packets,
            bytes,
            new_flows,
            replies: counters.replies(),
            reply_bytes,
            refused,
            unanswered: self.reconciler.unanswered(*id),
            recorded_flows,
            ..BackendView::default()
        }
    }

    fn health_view(
        &self,
        key: &health::Key,
        latency: Option<&Duration>,
        load: Option<&f64>,
    ) -> Option<HealthView> {
        let verdicts = self.inputs.verdicts();
        let Verdict { state, since, last_error, damped, load_error, .. } = verdicts.get(key)?;
        Some(HealthView {
            state: state.to_string(),
            since_seconds: SystemTime::now().duration_since(*since).unwrap_or_default().as_secs_f64(),
            last_error: last_error.clone(),
            damped: *damped,
            held: *state == health::State::Down && self.correlator.holds(key),
            load: load.copied(),
            load_error: load_error.as_ref().map(ToString::to_string),
            latency_ms: latency.map(|latency| latency.as_secs_f64() * 1000.0),
        })
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

/// What a backend is to flows, in a word.
fn state(backend: Option<&Backend>, is_in_maintenance: bool) -> &'static str {
    match backend {
        Some(_) if is_in_maintenance => "maintenance",
        Some(backend) => state_name(backend),
        None => "unknown",
    }
}

const fn state_name(backend: &Backend) -> &'static str {
    match (backend.role, backend.next_hop) {
        (Role::Down, _) => "down",
        (Role::Unknown, _) => "unknown",
        (Role::Active | Role::Draining | Role::Standby | Role::Ejected, None) => "unresolved",
        (Role::Standby, Some(_)) => "standby",
        (Role::Ejected, Some(_)) => "ejected",
        (Role::Active, Some(_)) => "up",
        (Role::Draining, Some(_)) => "draining",
    }
}

fn interface_names(actual: &Actual) -> BTreeMap<u32, String> {
    let indices: BTreeSet<u32> = actual.backends.values().map(|backend| backend.ifindex).collect();
    let name = |index| Some((index, if_indextoname(index).ok()?.to_string_lossy().into_owned()));
    indices.into_iter().filter_map(name).collect()
}

fn show_hop(hop: &NextHop, names: &BTreeMap<u32, String>) -> String {
    let interface = names.get(&hop.ifindex).cloned().unwrap_or_else(|| hop.ifindex.to_string());
    let [a, b, c, d, e, f] = hop.destination_mac;
    format!("{interface} {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} mtu {}", hop.mtu)
}
