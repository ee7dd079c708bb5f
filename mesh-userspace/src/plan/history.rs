//! Since when slots and ids are as they are. After a restart of the agent everything counts as new, which errs on the
//! side of keeping flows.

use super::{Plan, Sweep};
use crate::dataplane::{Actual, Op};
use mesh_common::{
    abi::ServiceKey,
    slot::{Phase, Slot},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

/// What a slot waits for: its phase, and whether it records.
type Stage = (Phase, bool);

/// Since when slots and ids are as they are.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Slots that are not steady.
    slots: HashMap<u32, (Stage, Instant)>,
    /// Backends that nobody wants and no slot names.
    unreferenced: BTreeMap<u32, Instant>,
    /// Services that were removed.
    retired: BTreeMap<u32, Instant>,
}

impl History {
    /// The history of maps that were found as they are.
    #[must_use]
    pub fn new(actual: &Actual, now: Instant) -> Self {
        let mut history = Self::default();
        let slots = actual.services.values().flat_map(|service| actual.slots_of(service));
        slots.for_each(|(index, slot)| history.slot(index, slot, now));
        history
    }

    /// Notes an op that was carried out; `actual` is as it was before.
    pub fn note(&mut self, op: &Op, actual: &Actual, now: Instant) {
        match op {
            Op::WriteSlot { index, slot } => self.slot(*index, *slot, now),
            Op::RemoveService(key) => self.retire(*key, actual, now),
            Op::RemoveBackend { id } => drop(self.unreferenced.remove(id)),
            Op::WriteBackend { .. }
            | Op::AddService(_)
            | Op::WriteQuicConfig { .. }
            | Op::RemoveQuicConfig(_)
            | Op::WriteServerId { .. }
            | Op::RemoveServerId(_)
            | Op::AddVip(_)
            | Op::RemoveVip(_)
            | Op::Route
            | Op::Grace => {}
        }
    }

    /// Notes what a plan found out, once its ops are done.
    pub fn conclude(&mut self, plan: &Plan, sweep: &Sweep, now: Instant) {
        self.unreferenced.retain(|id, _| plan.unreferenced.contains(id));
        for id in &plan.unreferenced {
            self.unreferenced.entry(*id).or_insert(now);
        }
        self.retired.retain(|id, since| !sweep.is_after(*since) || sweep.services.contains(id));
    }

    /// Whether time alone may bring further ops.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !(self.slots.is_empty() && self.unreferenced.is_empty() && self.retired.is_empty())
    }

    fn slot(&mut self, index: u32, slot: Slot, now: Instant) {
        if slot.phase() == Phase::Steady {
            self.slots.remove(&index);
        } else if self.since(index, slot).is_none() {
            self.slots.insert(index, (stage(slot), now));
        }
    }

    fn retire(&mut self, key: ServiceKey, actual: &Actual, now: Instant) {
        let Some(entry) = actual.services.get(&key) else { return };
        self.retired.insert(entry.id, now);
        for (index, _) in actual.slots_of(entry) {
            self.slots.remove(&index);
        }
    }

    /// Since when the slot waits for what it waits for; `None` when it waited for something else before.
    pub(super) fn since(&self, index: u32, slot: Slot) -> Option<Instant> {
        self.slots.get(&index).filter(|(known, _)| *known == stage(slot)).map(|(_, since)| *since)
    }

    /// Whether an unreferenced backend's id can be used again.
    pub(super) fn is_free(&self, backend: u32, sweep: &Sweep) -> bool {
        let since = self.unreferenced.get(&backend);
        since.is_some_and(|since| sweep.is_after(*since)) && !sweep.backends.contains(&backend)
    }

    /// Whether a service's id still rests.
    pub(super) fn is_retired(&self, service: u32, sweep: &Sweep) -> bool {
        self.retired.contains_key(&service) || sweep.services.contains(&service)
    }
}

const fn stage(slot: Slot) -> Stage {
    (slot.phase(), slot.records())
}
