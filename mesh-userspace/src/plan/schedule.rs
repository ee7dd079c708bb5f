//! How new flows of a service find their slots, and when that may change.
//!
//! A flow that is not recorded follows its slot. So the way to it changes at once only where such flows keep theirs;
//! else all flows are recorded for a window before.

use super::{Planner, quic};
use crate::{
    config::{Scheduler, Tracking},
    dataplane::Op,
    desired::Service,
};
use mesh_common::{
    abi::{ServiceEntry, flag},
    lifecycle::{self, Rules},
    schedule::{self, MAGLEV, SOURCE},
};

/// What packets are told by, as the maps have it.
pub(super) const fn number(scheduler: Scheduler) -> u32 {
    match scheduler {
        Scheduler::Maglev => MAGLEV,
        Scheduler::Source => SOURCE,
        Scheduler::Random => schedule::RANDOM,
        Scheduler::RoundRobin => schedule::ROUND_ROBIN,
        Scheduler::LeastConnections => schedule::LEAST_CONNECTIONS,
    }
}

/// The entry of a service with what may change about it.
pub(super) fn entry_of(service: &Service, scheduler: u32, entry: ServiceEntry) -> ServiceEntry {
    let scheduled = if scheduler == MAGLEV { 0 } else { flag::SCHEDULER };
    let capped = if service.max_flows == 0 { 0 } else { flag::CAPPED };
    let flags = quic::flags(service) | scheduled | capped;
    ServiceEntry {
        flags,
        scheduler,
        max_flows: service.max_flows,
        reject: u32::from(service.reject),
        ..entry
    }
}

/// Whether flows that are not recorded change their slots with the scheduler.
const fn moves_flows(before: u32, after: u32, rules: Rules) -> bool {
    // A segment of a connection that is not recorded goes by the hash that `maglev` uses, wherever new flows go.
    let keeps = schedule::picks(before)
        || before == after
        || (before == MAGLEV && schedule::picks(after) && rules.connections);
    !keeps
}

impl Planner<'_> {
    /// The scheduler that a known service has once the plan is done.
    pub(super) fn scheduler(&self, service: &Service, entry: &ServiceEntry, rules: Rules) -> u32 {
        let after = number(service.scheduler);
        let waits = service.tracking != Tracking::Never
            && moves_flows(entry.scheduler, after, rules)
            && !self.is_recorded(service, entry);
        if waits { entry.scheduler } else { after }
    }

    /// Whether all flows that have sent a packet for a window are recorded.
    fn is_recorded(&self, service: &Service, entry: &ServiceEntry) -> bool {
        let (history, now) = (self.circumstances.history, self.circumstances.now);
        self.actual.slots_of(entry).all(|(index, slot)| {
            let since = history.since(index, slot).filter(|_| slot.records());
            since.is_some_and(|since| now.saturating_duration_since(since) >= service.window)
        })
    }

    /// Makes a known service what it should be, after its slots.
    pub(super) fn change_service(&mut self, service: &Service, scheduler: u32, entry: &ServiceEntry) {
        let next = entry_of(service, scheduler, *entry);
        if next == *entry {
            return;
        }
        self.plan.ops.push(Op::AddService(next));
        self.is_wider |= entry.key.is_wide();
        if scheduler != entry.scheduler && !entry.key.is_wide() {
            // Until nobody picks by the old one, its flows are recorded.
            self.plan.ops.push(Op::Grace);
        }
    }
}

/// The rules while the scheduler changes: all flows are recorded.
pub(super) const fn rules_during(rules: Rules) -> Rules {
    match rules.tracking {
        lifecycle::Tracking::Never => rules,
        lifecycle::Tracking::Adaptive | lifecycle::Tracking::Always => {
            Rules { tracking: lifecycle::Tracking::Always, ..rules }
        }
    }
}
