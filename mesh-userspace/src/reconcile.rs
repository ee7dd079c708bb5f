//! Makes actual what is desired: plans, applies, looks through the flow table, and re-reads the maps on silence.
//!
//! Invariant: the dataplane is changed here alone, and what is believed to be there changes with every op.

use crate::{
    config::{Config, Limits, ServiceKey},
    dataplane::kernel::Sizes,
    dataplane::{Actual, Dataplane, DataplaneError, Flow, Load, Op, abi_key, source_hash},
    desired::Desired,
    guard::{Guard, Image, half_of, place},
    health::Tally,
    maglev::Tables,
    plan::{Circumstances, History, Lifetime, Plan, Rest, Sweep, keeps_connection, keeps_record, plan},
};
use mesh_common::{
    abi::{BackendCounters, PolicyLayout, ServiceEntry},
    connection::Sources,
    flow::{Ticks, state},
    hash, schedule,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};
use tracing::{debug, warn};

/// The guards' policies, as they were written last.
#[derive(Debug, Default)]
struct Guards {
    /// By the ids of services.
    wanted: BTreeMap<u32, Guard>,
    /// Where the services' policies stand.
    places: BTreeMap<ServiceKey, u32>,
    /// Why those that were wanted last are not there.
    problem: Option<String>,
}

/// Keeps a dataplane as it should be.
pub struct Reconciler<D> {
    dataplane: D,
    limits: Limits,
    actual: Actual,
    tables: Tables,
    history: History,
    rest: Rest,
    sweep: Sweep,
    guards: Guards,
    /// Where translated packets come from, by the ids of services, as it was written last.
    sources: BTreeMap<u32, Sources>,
    /// Counters of a backend's id when the backend got it.
    baselines: BTreeMap<u32, BackendCounters>,
    problems: Vec<String>,
}

/// What a flow's record refers to, for a sweep.
struct Owner {
    base: u32,
    size: u32,
    by_source: bool,
    is_translated: bool,
    lifetime: Lifetime,
}

impl<D: Dataplane> Reconciler<D> {
    /// Takes over a dataplane as it is.
    ///
    /// # Errors
    ///
    /// The maps cannot be read.
    pub fn new(dataplane: D, limits: Limits, now: Instant) -> Result<Self, DataplaneError> {
        let actual = dataplane.read()?;
        let history = History::new(&actual, now);
        let (tables, rest, sweep) = (Tables::default(), Rest::default(), Sweep::default());
        let (baselines, problems) = (BTreeMap::new(), Vec::new());
        let guards = Guards::default();
        let sources = BTreeMap::new();
        Ok(Self {
            dataplane,
            limits,
            actual,
            tables,
            history,
            rest,
            sweep,
            guards,
            sources,
            baselines,
            problems,
        })
    }

    /// What the maps hold.
    #[must_use]
    pub const fn actual(&self) -> &Actual {
        &self.actual
    }

    /// What does not fit.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Flow records that the last sweep left.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.sweep.records
    }

    /// The dataplane, for what is not ops.
    pub const fn dataplane(&mut self) -> &mut D {
        &mut self.dataplane
    }

    /// Slots that are not steady.
    #[must_use]
    pub fn slots_changing(&self) -> u64 {
        self.history.slots_waiting()
    }

    /// Brings the maps to what is desired, and answers how many ops it took.
    ///
    /// # Errors
    ///
    /// An op failed; those before it are done, and the next call goes on from there.
    pub fn reconcile(&mut self, desired: &Desired, now: Instant) -> Result<usize, DataplaneError> {
        let (mut ops, mut plan) = self.carry_out_all(desired, now)?;
        if self.write_guards(desired, now)? {
            let (more, last) = self.carry_out_all(desired, now)?;
            (ops, plan) = (ops + more, last);
        }
        self.write_sources(desired)?;
        self.write_flood_limits(desired)?;
        plan.problems.extend(self.guards.problem.clone());
        let bases: BTreeSet<u32> = self.actual.services.values().map(|entry| entry.base).collect();
        self.tables.retain(|base| bases.contains(&base));
        if self.problems != plan.problems {
            plan.problems.iter().for_each(|problem| warn!(problem, "could not make actual what is desired"));
            self.problems.clone_from(&plan.problems);
        }
        Ok(ops)
    }

    /// Carries out plans until one is whole, and answers how many ops it took.
    fn carry_out_all(&mut self, desired: &Desired, now: Instant) -> Result<(usize, Plan), DataplaneError> {
        let mut plan = self.carry_out(desired, now)?;
        let mut ops = plan.ops.len();
        while plan.is_partial {
            plan = self.carry_out(desired, now)?;
            ops += plan.ops.len();
        }
        Ok((ops, plan))
    }

    fn carry_out(&mut self, desired: &Desired, now: Instant) -> Result<Plan, DataplaneError> {
        let plan = self.plan(desired, now);
        let applied = plan.ops.iter().try_for_each(|op| self.apply(op, now));
        applied.inspect_err(|_| self.rest.forget())?;
        self.history.conclude(&plan, &self.sweep, now);
        self.rest.conclude(&plan, desired, &self.sweep);
        Ok(plan)
    }

    /// Writes the policies of guarded services, if they are others than before, and answers whether they were: their
    /// services are to be told where. One half of the map is written while packets read the other.
    fn write_guards(&mut self, desired: &Desired, now: Instant) -> Result<bool, DataplaneError> {
        let guarded = desired.services.iter().filter_map(|(key, service)| {
            let entry = self.actual.services.get(&abi_key(*key))?;
            Some((*key, entry.id, service.guard.as_ref()?))
        });
        let guarded: Vec<(ServiceKey, u32, &Guard)> = guarded.collect();
        let wanted: BTreeMap<u32, Guard> =
            guarded.iter().map(|(_, id, guard)| (*id, (*guard).clone())).collect();
        if wanted == self.guards.wanted {
            return Ok(false);
        }
        let layout = Sizes::from(self.limits).policies();
        let half = self.free_half(layout, now)?;
        let image = Image::new(&wanted, half, layout);
        self.guards.wanted = wanted;
        self.guards.problem = image.excess(layout, self.limits.prefixes);
        if self.guards.problem.is_some() {
            return Ok(false);
        }
        self.dataplane.apply(&Op::Grace)?;
        self.dataplane.write_policies(half, &image)?;
        self.guards.places = guarded.iter().map(|(key, id, _)| (*key, place(*id, half, layout))).collect();
        self.rest.forget();
        Ok(true)
    }

    /// Writes where translated packets come from, if it is from elsewhere than before.
    fn write_sources(&mut self, desired: &Desired) -> Result<(), DataplaneError> {
        for (key, service) in &desired.services {
            let (Some(sources), Some(entry)) = (service.sources, self.actual.services.get(&abi_key(*key)))
            else {
                continue;
            };
            if self.sources.get(&entry.id) != Some(&sources) {
                self.dataplane.write_sources(entry.id, &sources)?;
                self.sources.insert(entry.id, sources);
            }
        }
        Ok(())
    }

    /// Writes how many new flows are a flood, where that is not what stands there.
    fn write_flood_limits(&mut self, desired: &Desired) -> Result<(), DataplaneError> {
        for (key, service) in &desired.services {
            let Some(entry) = self.actual.services.get(&abi_key(*key)) else { continue };
            if self.dataplane.flood(entry.id).limit != service.flood_limit {
                self.dataplane.write_flood_limit(entry.id, service.flood_limit)?;
            }
        }
        Ok(())
    }

    /// The half of the policies' map that no service is told of.
    fn free_half(&mut self, layout: PolicyLayout, now: Instant) -> Result<u32, DataplaneError> {
        let guarded = self.actual.services.values().filter(|entry| entry.policy != 0);
        let in_half = |half| guarded.clone().filter(move |entry| half_of(entry.policy, layout) == half);
        if in_half(1).next().is_none() {
            return Ok(u32::from(in_half(0).next().is_some()));
        }
        // An agent was killed between telling the one and the other: those that it did not come to serve nobody until they
        // are told.
        let untold: Vec<ServiceEntry> = in_half(0).copied().collect();
        for entry in untold {
            self.apply(&Op::AddService(ServiceEntry { policy: 0, ..entry }), now)?;
        }
        Ok(0)
    }

    /// What the maps would hold if something else were desired. Nothing is changed.
    #[must_use]
    pub fn prospect(&self, desired: &Desired, now: Instant) -> Actual {
        let mut actual = self.actual.clone();
        self.plan(desired, now).ops.iter().for_each(|op| actual.apply(op));
        actual
    }

    fn plan(&self, desired: &Desired, now: Instant) -> Plan {
        let Self { limits, tables, history, rest, sweep, guards, .. } = self;
        let circumstances = Circumstances {
            services: limits.services,
            backends: limits.backends,
            tables,
            policies: &guards.places,
            history,
            rest,
            sweep,
            now,
        };
        plan(&self.actual, desired, circumstances)
    }

    fn apply(&mut self, op: &Op, now: Instant) -> Result<(), DataplaneError> {
        if let Op::WriteBackend { id, .. } = op
            && !self.actual.backends.contains_key(id)
        {
            self.baselines.insert(*id, self.dataplane.counters(*id)?);
        }
        self.dataplane.apply(op)?;
        self.history.note(op, &self.actual, now);
        self.actual.apply(op);
        Ok(())
    }

    /// What was sent to the backend that has this id now.
    ///
    /// # Errors
    ///
    /// The counters cannot be read.
    pub fn counters(&self, backend: u32) -> Result<BackendCounters, DataplaneError> {
        let now = self.dataplane.counters(backend)?;
        let before = self.baselines.get(&backend).copied().unwrap_or_default();
        Ok(now.since(&before))
    }

    /// Connections of the backend that has this id that ended without an answer.
    pub fn unanswered(&self, backend: u32) -> u64 {
        self.dataplane.unanswered(backend)
    }

    /// What connections to the backend that has this id have come to; those without an answer as the last look found them.
    ///
    /// # Errors
    ///
    /// The counters cannot be read.
    pub fn tally(&self, backend: u32) -> Result<Tally, DataplaneError> {
        let BackendCounters { new_flows: opened, refused, .. } = self.counters(backend)?;
        let silent = self.dataplane.unanswered(backend) + self.dataplane.silent(backend);
        Ok(Tally { opened, refused, silent })
    }

    /// Whether a call of [`Self::reconcile`] may find something to do though nothing else changed.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        !self.problems.is_empty() || (self.history.is_waiting() && self.rest.is_due(&self.sweep, now))
    }

    /// Looks through the flow table and throws away records that say nothing any more.
    ///
    /// # Errors
    ///
    /// The kernel does not tell its time, or refuses to count on.
    pub fn sweep(&mut self, config: &Config, now: Instant) -> Result<(), DataplaneError> {
        let ticks = self.dataplane.now()?;
        let owners = owners(config, &self.actual);
        let mut sweep = Sweep { started: Some(now), ..Sweep::default() };
        let (slots, seed) = (&self.actual.slots, self.dataplane.seed());
        let before = self.loads();
        self.dataplane.retain_flows(ticks, &mut |flow| {
            let Some(owner) = owners.get(&flow.service) else { return false };
            let hash = if owner.by_source { source_hash(seed, flow.client) } else { flow.hash };
            let index = owner.base + hash::slot(hash, owner.size);
            let slot =
                usize::try_from(index).ok().and_then(|index| slots.get(index)).copied().unwrap_or_default();
            let keeps = if owner.is_translated {
                keeps_connection(flow, owner.lifetime, ticks)
            } else {
                keeps_record(flow, slot, owner.lifetime, ticks)
            };
            if keeps {
                sweep.keep(index, flow);
            }
            keeps
        })?;
        self.sweep = sweep;
        self.correct_loads(&before)?;
        self.dataplane.renew_filter(self.sweep.records)
    }

    /// Recorded flows that a backend or a service has and that are not closing. What ended before it was counted may make
    /// the count fall below nothing until the next sweep; then it is nothing.
    pub fn load(&self, of: Load) -> u64 {
        u64::try_from(self.dataplane.load(of).cast_signed()).unwrap_or(0)
    }

    /// What the kernel has counted, of everybody whose flows it may count.
    fn loads(&self) -> Vec<(Load, u64)> {
        let backends = self.actual.backends.keys().map(|id| Load::Backend(*id));
        let services = self.actual.services.values().map(|entry| Load::Service(entry.id));
        backends.chain(services).map(|of| (of, self.dataplane.load(of))).collect()
    }

    /// Makes loads what the sweep has counted, where the kernel's count was another before: records came and went
    /// without a packet. What changed during the sweep may be missing or counted twice until the next.
    fn correct_loads(&mut self, before: &[(Load, u64)]) -> Result<(), DataplaneError> {
        for (of, was) in before {
            let is = self.sweep.loads.get(of).copied().unwrap_or(0);
            if is != *was {
                self.dataplane.add_load(*of, is.wrapping_sub(*was))?;
            }
        }
        Ok(())
    }

    /// Visits all recorded flows, and returns the time by which they are stamped.
    ///
    /// # Errors
    ///
    /// The kernel does not tell its time.
    pub fn each_flow(&mut self, mut visit: impl FnMut(&Flow)) -> Result<Ticks, DataplaneError> {
        let now = self.dataplane.now()?;
        self.dataplane.retain_flows(now, &mut |flow| {
            visit(flow);
            true
        })?;
        Ok(now)
    }

    /// Recorded flows that a backend has and that are not closing, as the packets have it now.
    ///
    /// # Errors
    ///
    /// The kernel does not tell its time.
    pub fn flows_of(&mut self, backend: u32) -> Result<u64, DataplaneError> {
        let mut flows = 0;
        self.each_flow(|flow| {
            flows += u64::from(flow.record.backend == backend && flow.record.state != state::CLOSING);
        })?;
        Ok(flows)
    }

    /// Reads the maps again and believes them, should they differ from what was thought.
    ///
    /// # Errors
    ///
    /// The maps cannot be read.
    pub fn reread(&mut self, now: Instant) -> Result<(), DataplaneError> {
        let actual = self.dataplane.read()?;
        if actual == self.actual {
            debug!("the maps are as they should be");
            return Ok(());
        }
        warn!("the maps were changed by somebody else, making them right again");
        self.history = History::new(&actual, now);
        self.rest.forget();
        self.guards = Guards::default();
        self.actual = actual;
        Ok(())
    }
}

/// Every configured service that is in the maps, by id.
fn owners(config: &Config, actual: &Actual) -> BTreeMap<u32, Owner> {
    let entry = |service: &crate::config::Service| {
        let entry = actual.services.get(&abi_key(service.key()))?;
        let by_source = entry.scheduler == schedule::SOURCE;
        let lifetime = Lifetime {
            protocol: service.protocol,
            window: service.window,
            idle_timeout: service.idle_timeout,
        };
        let is_translated = service.nat.is_some();
        Some((entry.id, Owner { base: entry.base, size: entry.size, by_source, is_translated, lifetime }))
    };
    config.services.iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        dataplane::Memory,
        desired::{Inputs, desired},
        health::Outliers,
        nexthop::{NextHop, Resolution},
        overrides::Overrides,
        performance::Factors,
    };
    use mesh_common::abi::flag;
    use mesh_common::slot::Phase;
    use std::time::Duration;

    fn config(backends: &[u8]) -> Config {
        let head = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 80\n\
                    protocol = \"tcp\"\nforward = \"ipip\"\n";
        let backend = |last: &u8| format!("[[service.backend]]\naddress = \"10.0.0.{last}\"\n");
        config::parse("test", &format!("{head}{}", backends.iter().map(backend).collect::<String>())).unwrap()
    }

    fn wish(config: &Config) -> Desired {
        let hop = NextHop::some();
        let next_hops = (1..9).map(|last| ([10, 0, 0, last].into(), Resolution::Resolved(hop))).collect();
        let (verdicts, overrides) = (BTreeMap::new(), Overrides::default());
        let (overrides, now) = (&overrides, Instant::now());
        desired(Inputs {
            config,
            verdicts: &verdicts,
            next_hops: &next_hops,
            overrides,
            factors: &Factors::default(),
            outliers: &Outliers::default(),
            local: None,
            now,
        })
    }

    fn phases(reconciler: &Reconciler<Memory>, phase: Phase) -> usize {
        reconciler.actual().slots.iter().filter(|slot| slot.phase() == phase).count()
    }

    #[test]
    fn an_agent_that_restarts_changes_nothing() {
        let now = Instant::now();
        let before = config(&[1, 2, 3]);
        let mut memory = Memory::new(before.limits.slots);
        let mut first = Reconciler::new(Memory::new(before.limits.slots), before.limits, now).unwrap();
        first.reconcile(&wish(&before), now).unwrap();
        memory.actual = first.actual().clone();
        let mut second = Reconciler::new(memory, before.limits, now).unwrap();
        assert_eq!(second.reconcile(&wish(&before), now).unwrap(), 0);
        assert!(!second.history.is_waiting());
    }

    #[test]
    fn a_change_comes_to_rest_by_itself() {
        let start = Instant::now();
        let mut now = start;
        let after = config(&[1, 2]);
        let mut reconciler = Reconciler::new(Memory::new(after.limits.slots), after.limits, now).unwrap();
        reconciler.reconcile(&wish(&config(&[1, 2, 3])), now).unwrap();
        reconciler.reconcile(&wish(&after), now).unwrap();
        assert!(phases(&reconciler, Phase::Migrating) > 0);
        assert!(reconciler.history.is_waiting());
        for _ in 0..6 {
            now += Duration::from_secs(1801);
            reconciler.sweep(&after, now).unwrap();
            reconciler.reconcile(&wish(&after), now).unwrap();
        }
        assert_eq!(phases(&reconciler, Phase::Steady), reconciler.actual().slots.len());
        assert_eq!(reconciler.actual().backends.len(), 2);
        assert!(!reconciler.history.is_waiting());
    }

    #[test]
    fn maps_that_somebody_changed_are_made_right() {
        struct Forgetful(Memory, bool);
        impl Dataplane for Forgetful {
            fn read(&self) -> Result<Actual, DataplaneError> {
                if self.1 { Ok(Actual::empty(1 << 20)) } else { self.0.read() }
            }
            fn apply(&mut self, op: &Op) -> Result<(), DataplaneError> {
                self.1 = true;
                self.0.apply(op)
            }
            fn write_policies(&mut self, half: u32, image: &Image) -> Result<(), DataplaneError> {
                self.0.write_policies(half, image)
            }
            fn counters(&self, id: u32) -> Result<BackendCounters, DataplaneError> {
                self.0.counters(id)
            }
            fn outcomes(&self) -> Result<BTreeMap<mesh_common::outcome::Outcome, u64>, DataplaneError> {
                self.0.outcomes()
            }
            fn routed(&self) -> Result<BTreeMap<(mesh_common::quic::Routed, u32), u64>, DataplaneError> {
                self.0.routed()
            }
            fn load(&self, of: Load) -> u64 {
                self.0.load(of)
            }
            fn connections(&self) -> u64 {
                self.0.connections()
            }
            fn unanswered(&self, backend: u32) -> u64 {
                self.0.unanswered(backend)
            }
            fn silent(&self, backend: u32) -> u64 {
                self.0.silent(backend)
            }
            fn add_load(&mut self, of: Load, by: u64) -> Result<(), DataplaneError> {
                self.0.add_load(of, by)
            }
            fn write_sources(&mut self, service: u32, sources: &Sources) -> Result<(), DataplaneError> {
                self.0.write_sources(service, sources)
            }
            fn write_flood_limit(&mut self, service: u32, limit: u32) -> Result<(), DataplaneError> {
                self.0.write_flood_limit(service, limit)
            }
            fn flood(&self, service: u32) -> mesh_common::flood::Flood {
                self.0.flood(service)
            }
            fn retain_flows(
                &mut self,
                now: Ticks,
                visit: &mut dyn FnMut(&Flow) -> bool,
            ) -> Result<(), DataplaneError> {
                self.0.retain_flows(now, visit)
            }
            fn renew_filter(&mut self, records: u64) -> Result<(), DataplaneError> {
                self.0.renew_filter(records)
            }
            fn now(&self) -> Result<Ticks, DataplaneError> {
                self.0.now()
            }
            fn seed(&self) -> u64 {
                0
            }
        }
        let (now, config) = (Instant::now(), config(&[1]));
        let memory = Memory::new(config.limits.slots);
        let mut reconciler = Reconciler::new(Forgetful(memory, false), config.limits, now).unwrap();
        let ops = reconciler.reconcile(&wish(&config), now).unwrap();
        assert_eq!(reconciler.reconcile(&wish(&config), now).unwrap(), 0);
        reconciler.reread(now).unwrap();
        assert_eq!(reconciler.reconcile(&wish(&config), now).unwrap(), ops);
    }

    /// The reconciler's places of guarded services, which their entries name.
    fn places(reconciler: &Reconciler<Memory>) -> Vec<(u32, u32)> {
        let entries = reconciler.actual().services.values();
        entries.map(|entry| (entry.flags & flag::GUARDED, entry.policy)).collect()
    }

    #[test]
    fn policies_are_written_into_the_half_that_nobody_reads() {
        let now = Instant::now();
        let guarded = |prefix: &str| with(&format!("guard = {{ deny = [\"{prefix}\"] }}"));
        let (first, second) = (guarded("192.0.2.0/24"), guarded("198.51.100.0/24"));
        let limits = first.limits;
        let layout = Sizes::from(limits).policies();
        let mut reconciler = Reconciler::new(Memory::new(limits.slots), limits, now).unwrap();
        reconciler.reconcile(&wish(&first), now).unwrap();
        let id = reconciler.actual().services.values().next().unwrap().id;
        assert_eq!(places(&reconciler), [(flag::GUARDED, place(id, 0, layout))]);
        let before = reconciler.dataplane().policies[&0].clone();
        reconciler.reconcile(&wish(&second), now).unwrap();
        assert_eq!(places(&reconciler), [(flag::GUARDED, place(id, 1, layout))]);
        assert_eq!(reconciler.dataplane().policies[&0], before);
        assert_ne!(reconciler.dataplane().policies[&1].boundaries, before.boundaries);
        assert_eq!(reconciler.reconcile(&wish(&second), now).unwrap(), 0, "nothing is new");
        // The next agent takes the other half, too.
        let mut memory = Memory::new(limits.slots);
        memory.actual = reconciler.actual().clone();
        let mut next = Reconciler::new(memory, limits, now).unwrap();
        next.reconcile(&wish(&second), now).unwrap();
        assert_eq!(places(&next), [(flag::GUARDED, place(id, 0, layout))]);
        next.reconcile(&wish(&with("")), now).unwrap();
        assert_eq!(places(&next), [(0, 0)]);
    }

    #[test]
    fn an_agent_that_was_killed_between_the_halves_leaves_nobody_unguarded() {
        let now = Instant::now();
        let config = with("guard = { deny = [\"192.0.2.0/24\"] }");
        let layout = Sizes::from(config.limits).policies();
        let mut reconciler = Reconciler::new(Memory::new(config.limits.slots), config.limits, now).unwrap();
        reconciler.reconcile(&wish(&config), now).unwrap();
        let mut memory = Memory::new(config.limits.slots);
        memory.actual = reconciler.actual().clone();
        let (key, entry) =
            reconciler.actual().services.iter().next().map(|(key, entry)| (*key, *entry)).unwrap();
        // Another service, of which the agent had told the other half.
        let other = mesh_common::abi::ServiceKey::v4([192, 0, 2, 77], [0, 80], 6);
        let told =
            ServiceEntry { key: other, id: entry.id + 1, policy: place(entry.id + 1, 1, layout), ..entry };
        memory.actual.services.insert(other, told);
        memory.actual.vips.insert("192.0.2.77/32".parse().unwrap());
        let mut next = Reconciler::new(memory, config.limits, now).unwrap();
        assert_eq!(next.free_half(layout, now).unwrap(), 0);
        assert_eq!(next.actual().services[&key].policy, 0);
        assert_eq!(next.actual().services[&other], told);
    }

    #[test]
    fn prefixes_that_do_not_fit_are_a_problem_and_what_stood_stays() {
        let now = Instant::now();
        let mut few = with("guard = { deny = [\"192.0.2.0/24\"] }");
        let mut many = with("guard = { deny = [\"192.0.2.0/28\", \"192.0.2.64/28\", \"192.0.2.128/28\"] }");
        (few.limits.prefixes, many.limits.prefixes) = (2, 2);
        let mut reconciler = Reconciler::new(Memory::new(few.limits.slots), few.limits, now).unwrap();
        reconciler.reconcile(&wish(&few), now).unwrap();
        let before = places(&reconciler);
        for _ in 0..2 {
            reconciler.reconcile(&wish(&many), now).unwrap();
            assert_eq!(places(&reconciler), before);
            let [problem] = reconciler.problems() else { panic!("{:?}", reconciler.problems()) };
            assert!(problem.starts_with("guards have more than 2 prefixes, about 3"), "{problem}");
        }
        reconciler.reconcile(&wish(&few), now).unwrap();
        assert_eq!(reconciler.problems(), [""; 0]);
    }

    #[test]
    fn records_of_unknown_services_are_thrown_away() {
        let (now, config) = (Instant::now(), config(&[1]));
        let mut memory = Memory::new(config.limits.slots);
        let record = mesh_common::flow::FlowRecord { backend: 1, seen: 0, state: 2 };
        memory.flows.push(Flow { client: ([192, 0, 2, 1], 1).into(), service: 77, hash: 0, record });
        let mut reconciler = Reconciler::new(memory, config.limits, now).unwrap();
        let flows = |reconciler: &mut Reconciler<Memory>| {
            let mut flows = 0;
            reconciler.each_flow(|_| flows += 1).unwrap();
            flows
        };
        assert_eq!(flows(&mut reconciler), 1);
        reconciler.sweep(&config, now).unwrap();
        assert_eq!(flows(&mut reconciler), 0);
    }

    /// A configuration with three backends and these lines in its service.
    fn with(lines: &str) -> Config {
        let text = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\n\
                    port = 80\nprotocol = \"tcp\"\nforward = \"ipip\"\n";
        let backends = "backend = [{ address = \"10.0.0.1\" }, { address = \"10.0.0.2\" }]\n";
        config::parse("test", &format!("{text}{lines}\n{backends}")).unwrap()
    }

    fn scheduler(reconciler: &Reconciler<Memory>) -> u32 {
        reconciler.actual().services.values().next().unwrap().scheduler
    }

    #[test]
    fn flows_are_recorded_for_a_window_before_they_change_their_slots_with_the_scheduler() {
        let (maglev, source) = (with(""), with("scheduler = \"source\""));
        let mut now = Instant::now();
        let mut reconciler = Reconciler::new(Memory::new(maglev.limits.slots), maglev.limits, now).unwrap();
        reconciler.reconcile(&wish(&maglev), now).unwrap();
        for _ in 0..3 {
            reconciler.reconcile(&wish(&source), now).unwrap();
            assert_eq!(scheduler(&reconciler), schedule::MAGLEV);
            let used =
                reconciler.actual().services.values().flat_map(|entry| reconciler.actual().slots_of(entry));
            assert!(used.into_iter().all(|(_, slot)| slot.records()));
            now += Duration::from_secs(599);
        }
        now += Duration::from_secs(5);
        reconciler.reconcile(&wish(&source), now).unwrap();
        assert_eq!(scheduler(&reconciler), schedule::SOURCE);
        for _ in 0..3 {
            now += Duration::from_secs(10);
            reconciler.reconcile(&wish(&source), now).unwrap();
            reconciler.sweep(&source, now).unwrap();
        }
        assert_eq!(phases(&reconciler, Phase::Steady), reconciler.actual().slots.len());
    }

    #[test]
    fn connections_let_new_flows_be_picked_at_once() {
        let (maglev, random) = (with(""), with("scheduler = \"random\""));
        let now = Instant::now();
        let mut reconciler = Reconciler::new(Memory::new(maglev.limits.slots), maglev.limits, now).unwrap();
        reconciler.reconcile(&wish(&maglev), now).unwrap();
        reconciler.reconcile(&wish(&random), now).unwrap();
        assert_eq!(scheduler(&reconciler), schedule::RANDOM);
        reconciler.reconcile(&wish(&maglev), now).unwrap();
        assert_eq!(scheduler(&reconciler), schedule::MAGLEV);
    }

    #[test]
    fn a_sweep_makes_loads_what_is_recorded() {
        let (now, config) = (Instant::now(), with("scheduler = \"least-connections\"\nmax_flows = 9"));
        let mut memory = Memory::new(config.limits.slots);
        let flow = |port, state| {
            let record = mesh_common::flow::FlowRecord { backend: 1, seen: 0, state };
            Flow { client: ([192, 0, 2, 1], port).into(), service: 1, hash: 0, record }
        };
        memory.flows = vec![flow(1, 1), flow(2, 2), flow(3, 3)];
        memory.loads = [(Load::Backend(1), 7), (Load::Backend(2), 3), (Load::Service(1), u64::MAX)].into();
        let mut reconciler = Reconciler::new(memory, config.limits, now).unwrap();
        reconciler.reconcile(&wish(&config), now).unwrap();
        reconciler.sweep(&config, now).unwrap();
        let load = |of| reconciler.dataplane.load(of);
        assert_eq!([Load::Backend(1), Load::Backend(2), Load::Service(1)].map(load), [2, 0, 2]);
        let entry = reconciler.actual().services.values().next().unwrap();
        assert_eq!((entry.max_flows, entry.flags), (9, 6));
        assert!(
            reconciler.actual().backends.values().all(|backend| backend.weight == schedule::compress(100))
        );
    }
}
