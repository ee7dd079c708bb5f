//! How new flows of a service find their slots, and when that may change.
//!
//! A flow that is not recorded follows its slot. So the way to it changes at once only where such flows keep theirs;
//! else all flows are recorded for a window before.

use super::{Planner, quic};
use crate::{
    config::{Forward, Scheduler, ServiceKey, Tracking},
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

/// Whom a service's entry says that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarded {
    /// Everybody.
    Nobody,
    /// Whom the policy at this place says; at 0 nobody, for it is not written yet.
    At(u32),
    /// Whom it served before, for the policy is not written yet.
    AsBefore,
}

/// The entry of a service with what may change about it.
pub(super) fn entry_of(
    service: &Service,
    scheduler: u32,
    guard: Guarded,
    entry: ServiceEntry,
) -> ServiceEntry {
    let scheduled = if scheduler == MAGLEV { 0 } else { flag::SCHEDULER };
    let capped = if service.max_flows == 0 { 0 } else { flag::CAPPED };
    let (guarded, policy) = match guard {
        Guarded::Nobody => (0, 0),
        Guarded::At(policy) => (flag::GUARDED, policy),
        Guarded::AsBefore => (entry.flags & flag::GUARDED, entry.policy),
    };
    let translated = if service.delivery.forward == Forward::Nat { flag::NAT } else { 0 };
    let flags = quic::flags(service) | scheduled | capped | guarded | translated;
    ServiceEntry {
        flags,
        policy,
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
    /// Whom a service serves; `None` while its policy is not written.
    pub(super) fn guarded(&self, key: ServiceKey, service: &Service) -> Option<Guarded> {
        if service.guard.is_none() {
            return Some(Guarded::Nobody);
        }
        self.circumstances.policies.get(&key).map(|place| Guarded::At(*place))
    }

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
    pub(super) fn change_service(
        &mut self,
        key: ServiceKey,
        service: &Service,
        scheduler: u32,
        entry: &ServiceEntry,
    ) {
        let guard = self.guarded(key, service).unwrap_or(Guarded::AsBefore);
        let next = entry_of(service, scheduler, guard, *entry);
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
