//! The plan: which ops lead from what the maps hold to what they should hold.
//!
//! Invariants: after every single op no slot of a service names a backend that is not there; an id is free again only
//! after no slot, no server id and no flow record names it; slots change by [`mesh_common::lifecycle`] alone, so that
//! no live flow changes its backend. Pure: time comes as an argument, what happened before as [`History`] and
//! [`Sweep`].

mod history;
mod ids;
mod quic;
mod rest;
mod schedule;
mod sweep;
#[cfg(test)]
mod tests;

pub use history::History;
pub use ids::highest_service;
pub use rest::Rest;
pub use sweep::{Lifetime, Sweep, keeps_connection, keeps_record};

use crate::{
    config::{Scheduler, ServiceKey, Tracking},
    dataplane::{Actual, Op, abi_key, backend_entry, host_address},
    delivery::Delivery,
    desired::{self, Desired},
    maglev::Tables,
};
use ids::{BackendIds, Ids, ServiceIds, Slots};
use ipnet::IpNet;
use mesh_common::{
    abi::{self, BackendEntry, ServiceEntry},
    lifecycle::{self, Rules},
    quic::ServerIdKey,
    schedule::compress,
    slot::{Phase, Slot},
};
use rest::Due;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

/// How much fits, and what was before: what a plan depends on beside actual and desired.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Most services.
    pub services: u32,
    /// The highest backend id.
    pub backends: u32,
    /// Tables that were filled before.
    pub tables: &'a Tables,
    /// Where the policies of guarded services stand.
    pub policies: &'a BTreeMap<ServiceKey, u32>,
    /// Since when slots and ids are as they are.
    pub history: &'a History,
    /// Services that need not be looked at.
    pub rest: &'a Rest,
    /// What the last look through the flow table found.
    pub sweep: &'a Sweep,
    /// The time.
    pub now: Instant,
}

/// A plan of more ops leaves further new services to the next one: an op for each slot of thousands of services at once
/// would take more memory than all else.
const MOST_OPS: usize = 1 << 20;

/// What to do, and what cannot be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub ops: Vec<Op>,
    /// What does not fit or cannot be changed, for people.
    pub problems: Vec<String>,
    /// Whether new services were left to the next plan.
    pub is_partial: bool,
    /// Backends that nobody wants and no slot names once the ops are done.
    pub unreferenced: BTreeSet<u32>,
    /// Services that were looked at, and when that has to be done again.
    planned: BTreeMap<ServiceKey, Due>,
}

/// Makes the plan.
#[must_use]
pub fn plan(actual: &Actual, desired: &Desired, circumstances: Circumstances<'_>) -> Plan {
    let mut planner = Planner::new(actual, circumstances);
    planner.retire(desired);
    for (key, service) in &desired.services {
        planner.service(*key, service);
    }
    planner.route();
    planner.forget_vips();
    planner.free();
    planner.plan
}

struct Planner<'a> {
    actual: &'a Actual,
    circumstances: Circumstances<'a>,
    services: ServiceIds<'a>,
    slots: Slots,
    /// The VIPs of every service that there will be.
    vips: BTreeSet<IpNet>,
    /// Every backend that there is or will be, with what it will be; ids by service and address.
    ids: BTreeMap<(u32, IpAddr), u32>,
    free_ids: BackendIds,
    /// Entries that differ from what is there.
    written: BTreeMap<u32, BackendEntry>,
    /// The backends by their server ids, as they will be.
    server_ids: BTreeMap<ServerIdKey, u32>,
    /// Ids that a configured backend has, or a slot names.
    wanted: Ids,
    /// Whether a wide service was added.
    is_wider: bool,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(actual: &'a Actual, circumstances: Circumstances<'a>) -> Self {
        let identity =
            |(id, entry): (&u32, &BackendEntry)| ((entry.service, host_address(entry.address)), *id);
        Self {
            actual,
            circumstances,
            services: ServiceIds::new(actual, circumstances),
            slots: Slots::new(actual),
            vips: BTreeSet::new(),
            ids: actual.backends.iter().map(identity).collect(),
            free_ids: BackendIds::new(actual.backends.keys().copied().collect(), circumstances.backends),
            written: BTreeMap::new(),
            server_ids: actual.server_ids.clone(),
            wanted: Ids::new(circumstances.backends),
            is_wider: false,
            plan: Plan::default(),
        }
    }

    /// Removes services that are no longer wanted, and waits until no packet is in their tables.
    fn retire(&mut self, desired: &Desired) {
        let keep: BTreeSet<abi::ServiceKey> = desired.services.keys().map(|key| abi_key(*key)).collect();
        let (kept, gone): (Vec<&ServiceEntry>, Vec<_>) =
            self.actual.services.values().partition(|entry| keep.contains(&entry.key));
        for entry in &gone {
            self.plan.ops.push(Op::RemoveService(entry.key));
            self.slots.release(entry);
            self.services.retire();
        }
        let stays = self.actual.services.values().filter(|entry| keep.contains(&entry.key));
        // Also where an agent ended before it was done.
        let is_routed = self.actual.routes.is_of(stays);
        if !is_routed {
            self.plan.ops.push(Op::Route);
        }
        if !gone.is_empty() || !is_routed {
            self.plan.ops.push(Op::Grace);
        }
        self.retire_quic(&kept.iter().map(|entry| entry.id).collect());
    }

    /// Leads packets to the wide services that were added, whose slots stand.
    fn route(&mut self) {
        if self.is_wider {
            self.plan.ops.push(Op::Route);
        }
    }

    fn service(&mut self, key: ServiceKey, service: &desired::Service) {
        let Circumstances { rest, sweep, now, .. } = self.circumstances;
        match self.actual.services.get(&abi_key(key)) {
            Some(entry) if rest.holds(key, service, sweep, now) => self.keep(key, entry.id),
            Some(entry) => self.known(key, service, entry),
            None if self.plan.ops.len() >= MOST_OPS => self.plan.is_partial = true,
            None => self.new_service(key, service),
        }
    }

    fn new_service(&mut self, key: ServiceKey, service: &desired::Service) {
        let Some(id) = self.services.take() else {
            return self.problem(service, "has no place: raise limits.services");
        };
        let Some(base) = self.slots.take(service.table_size) else {
            return self.problem(service, "has no slots: raise limits.slots");
        };
        let size = service.table_size;
        let entry = ServiceEntry { key: abi_key(key), id, base, size, ..ServiceEntry::default() };
        // Until the policy is written a new service serves nobody.
        let guard = self.guarded(key, service).unwrap_or(schedule::Guarded::At(0));
        let entry = schedule::entry_of(service, schedule::number(service.scheduler), guard, entry);
        self.backends(key, service, id);
        let rules = rules(key, service);
        for (index, current) in (base..).zip(self.targets(service, &entry)) {
            let slot = lifecycle::change(Slot::default(), current, rules, |_| false);
            self.plan.ops.push(Op::WriteSlot { index, slot });
            self.wanted.insert(current);
        }
        self.write_quic(service, id);
        self.vip(key.vip);
        self.plan.ops.push(Op::AddService(entry));
        self.is_wider |= entry.key.is_wide();
        self.deaths(service, id);
    }

    /// Leaves a service as it is.
    fn keep(&mut self, key: ServiceKey, id: u32) {
        self.vip(key.vip);
        let members = self.ids.range((id, IpAddr::from([0; 4]))..).take_while(|((of, _), _)| *of == id);
        let history = self.circumstances.history;
        members
            .map(|(_, backend)| *backend)
            .filter(|backend| !history.is_unreferenced(*backend))
            .for_each(|backend| self.wanted.insert(backend));
    }

    fn known(&mut self, key: ServiceKey, service: &desired::Service, entry: &ServiceEntry) {
        self.vip(key.vip);
        self.backends(key, service, entry.id);
        self.write_quic(service, entry.id);
        let (alive, rules) = (self.alive(service, entry.id), rules(key, service));
        let scheduler = self.scheduler(service, entry, rules);
        let wanted = schedule::number(service.scheduler);
        let changes = scheduler != wanted || scheduler != entry.scheduler;
        let rules = if changes { schedule::rules_during(rules) } else { rules };
        let targets = self.targets(service, entry);
        let mut due = Due::default();
        if changes {
            due.by(self.circumstances.now);
        }
        for ((index, slot), current) in self.actual.slots_of(entry).zip(targets) {
            let slot_then = lifecycle::change(slot, current, rules, |id| alive.contains(id));
            let next = self.advance(index, slot_then, rules, service.window);
            if next != slot {
                self.plan.ops.push(Op::WriteSlot { index, slot: next });
            }
            self.wanted.insert(next.current());
            self.wanted.insert(next.untracked());
            self.await_time(&mut due, index, next, service.window);
        }
        self.plan.planned.insert(key, due);
        self.change_service(key, service, scheduler, entry);
        self.remove_quic(service, entry.id);
        self.deaths(service, entry.id);
    }

    /// Makes a VIP known before its first service is.
    fn vip(&mut self, vip: IpNet) {
        if self.vips.insert(vip) && !self.actual.vips.contains(&vip) {
            self.plan.ops.push(Op::AddVip(vip));
        }
    }

    /// Forgets the VIPs whose last service is gone.
    fn forget_vips(&mut self) {
        let gone = self.actual.vips.difference(&self.vips);
        self.plan.ops.extend(gone.map(|vip| Op::RemoveVip(*vip)));
    }

    /// What time makes of a slot: old flows have one window to end by themselves, and if they can be told from new
    /// ones another to send a packet.
    fn advance(&self, index: u32, slot: Slot, rules: Rules, window: Duration) -> Slot {
        let Circumstances { history, sweep, now, .. } = self.circumstances;
        let Some(since) = history.since(index, slot) else { return slot };
        let is_over = now.saturating_duration_since(since) >= window;
        match (slot.phase(), slot.records()) {
            (Phase::Migrating, false) if is_over => lifecycle::pin(slot),
            (Phase::Migrating, true) if is_over => lifecycle::settle(slot, rules),
            (Phase::Settling, _) if sweep.cleared(index, since) => lifecycle::calm(slot, rules),
            (Phase::Steady | Phase::Migrating | Phase::Settling, _) => slot,
        }
    }

    /// Notes when time will make something else of a slot.
    fn await_time(&self, due: &mut Due, index: u32, slot: Slot, window: Duration) {
        let Circumstances { history, now, .. } = self.circumstances;
        match slot.phase() {
            Phase::Steady => {}
            Phase::Migrating => due.by(history.since(index, slot).unwrap_or(now) + window),
            Phase::Settling => due.with_sweep = true,
        }
    }

    /// Writes what is new about a service's backends; deaths come later.
    fn backends(&mut self, key: ServiceKey, service: &desired::Service, id: u32) {
        let weigh = service.weights();
        for (address, backend) in &service.backends {
            let known = self.ids.get(&(id, *address)).copied();
            let Some(hop) = &backend.next_hop else {
                self.strand(known);
                continue;
            };
            let port = backend.port.or(service.delivery.port);
            let entry = backend_entry(id, key, *address, &Delivery { port, ..service.delivery }, hop);
            let known = known.or_else(|| self.new_backend(service, id, *address));
            let Some(known) = known else { continue };
            self.wanted.insert(known);
            let old = self.actual.backends.get(&known);
            let alive = u8::from(backend.is_alive() || old.is_some_and(|old| old.alive != 0));
            let weight = match service.scheduler {
                Scheduler::LeastConnections => compress(weigh(backend)),
                Scheduler::Maglev | Scheduler::Source | Scheduler::Random | Scheduler::RoundRobin => 0,
            };
            self.write(known, BackendEntry { alive, weight, ..entry });
        }
    }

    /// A backend that was there and cannot be reached now: its packets end with a reason instead of on a dead link.
    fn strand(&mut self, known: Option<u32>) {
        let Some((id, entry)) = known.and_then(|id| Some((id, *self.actual.backends.get(&id)?))) else {
            return;
        };
        self.wanted.insert(id);
        self.write(id, BackendEntry { room: 0, ..entry });
    }

    fn new_backend(&mut self, service: &desired::Service, id: u32, address: IpAddr) -> Option<u32> {
        let Some(free) = self.free_ids.take() else {
            self.problem(service, &format!("has no place for backend {address}: raise limits.backends"));
            return None;
        };
        self.ids.insert((id, address), free);
        Some(free)
    }

    fn write(&mut self, id: u32, entry: BackendEntry) {
        if self.actual.backends.get(&id) != Some(&entry) {
            self.plan.ops.push(Op::WriteBackend { id, entry });
            self.written.insert(id, entry);
        }
    }

    /// Marks backends dead, after the slots left them.
    fn deaths(&mut self, service: &desired::Service, id: u32) {
        let dead = service.backends.iter().filter(|(_, backend)| !backend.is_alive());
        let ids: Vec<u32> = dead.filter_map(|(address, _)| self.ids.get(&(id, *address)).copied()).collect();
        for id in ids {
            let entry = self.written.get(&id).or_else(|| self.actual.backends.get(&id)).copied();
            if let Some(entry) = entry.filter(|entry| entry.alive != 0) {
                self.plan.ops.push(Op::WriteBackend { id, entry: BackendEntry { alive: 0, ..entry } });
            }
        }
    }

    /// The backends of a service that flows may stay on, those that left the configuration included.
    fn alive(&self, service: &desired::Service, id: u32) -> Ids {
        let mut alive = Ids::new(self.circumstances.backends);
        let members = self.ids.range((id, IpAddr::from([0; 4]))..).take_while(|((of, _), _)| *of == id);
        members
            .filter(|((_, address), known)| match service.backends.get(address) {
                Some(backend) => backend.is_alive(),
                None => self.actual.backends.get(known).is_some_and(|entry| entry.alive != 0),
            })
            .for_each(|(_, known)| alive.insert(*known));
        alive
    }

    /// Who should own each slot of a table, by id; 0 where nobody takes new flows.
    fn targets(&self, service: &desired::Service, entry: &ServiceEntry) -> Vec<u32> {
        let shares = service.shares();
        // A backend without a place has no id, and its share goes to the others.
        let placed: Vec<_> =
            shares.into_iter().filter(|s| self.ids.contains_key(&(entry.id, s.address))).collect();
        let ids: Vec<u32> =
            placed.iter().filter_map(|share| self.ids.get(&(entry.id, share.address)).copied()).collect();
        let table = self.circumstances.tables.fill(entry.base, entry.size, &placed);
        table.owners().map(|index| index.and_then(|index| ids.get(index).copied()).unwrap_or(0)).collect()
    }

    /// Frees the ids that nobody wants, no slot names and no record names any more.
    fn free(&mut self) {
        let unwanted = self.actual.backends.keys().copied().filter(|id| !self.wanted.contains(*id));
        self.plan.unreferenced = unwanted.collect();
        let Circumstances { history, sweep, .. } = self.circumstances;
        let unreferenced = self.plan.unreferenced.iter().copied();
        let free: BTreeSet<u32> = unreferenced.filter(|id| history.is_free(*id, sweep)).collect();
        self.free_server_ids(&free);
        if !free.is_empty() {
            self.plan.ops.push(Op::Grace);
        }
        self.plan.ops.extend(free.into_iter().map(|id| Op::RemoveBackend { id }));
    }

    fn problem(&mut self, service: &desired::Service, what: &str) {
        self.plan.problems.push(format!("service {:?} {what}", service.name));
    }
}

fn rules(key: ServiceKey, service: &desired::Service) -> Rules {
    let tracking = match service.tracking {
        Tracking::Adaptive => lifecycle::Tracking::Adaptive,
        Tracking::Always => lifecycle::Tracking::Always,
        Tracking::Never => lifecycle::Tracking::Never,
    };
    Rules { tracking, connections: key.protocol.has_connections() }
}
