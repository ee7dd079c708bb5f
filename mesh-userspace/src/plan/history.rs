//! Since when slots and ids are as they are. After a restart of the agent everything counts as new, which errs on the
//! side of keeping flows.

use super::{Plan, Sweep};
use crate::dataplane::{Actual, Op};
use mesh_common::{
    abi::ServiceKey,
    slot::{Phase, Slot},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A slot that waits, in a word: 0 when it does not; else the time since the history began, in nanoseconds above what it
/// waits for. A million slots may change at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wait(u64);

impl Wait {
    /// Bits of the stage; the time has room for 70 years.
    const STAGE: u32 = 3;

    fn new(slot: Slot, since: Duration) -> Self {
        let nanoseconds = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self((nanoseconds << Self::STAGE) | stage(slot))
    }

    /// Since when the slot waits for what it waits for.
    fn since(self, slot: Slot) -> Option<Duration> {
        let is_same = self.0 != 0 && self.0 & ((1 << Self::STAGE) - 1) == stage(slot);
        is_same.then(|| Duration::from_nanos(self.0 >> Self::STAGE))
    }
}

/// What a slot waits for: its phase, and whether it records; not 0 unless it is steady.
const fn stage(slot: Slot) -> u64 {
    let records = if slot.records() { 4 } else { 0 };
    match slot.phase() {
        Phase::Steady => 0,
        Phase::Migrating => 1 | records,
        Phase::Settling => 2 | records,
    }
}

/// Since when slots and ids are as they are.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When it began.
    origin: Option<Instant>,
    /// What slots wait for, by their index; those beyond wait for nothing.
    slots: Vec<Wait>,
    /// How many do.
    waiting: usize,
    /// Backends that nobody wants and no slot names.
    unreferenced: BTreeMap<u32, Instant>,
    /// Services that were removed.
    retired: BTreeMap<u32, Instant>,
}

impl History {
    /// The history of maps that were found as they are.
    #[must_use]
    pub fn new(actual: &Actual, now: Instant) -> Self {
        // Memory of zeros that is not written to is not taken.
        let mut history = Self { slots: vec![Wait(0); actual.slots.len()], ..Self::default() };
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
        !(self.waiting == 0 && self.unreferenced.is_empty() && self.retired.is_empty())
    }

    /// Slots that wait for something.
    #[must_use]
    pub fn slots_waiting(&self) -> u64 {
        u64::try_from(self.waiting).unwrap_or(u64::MAX)
    }

    fn slot(&mut self, index: u32, slot: Slot, now: Instant) {
        if slot.phase() == Phase::Steady {
            self.set(index, Wait::default());
        } else if self.since(index, slot).is_none() {
            let origin = *self.origin.get_or_insert(now);
            self.set(index, Wait::new(slot, now.saturating_duration_since(origin)));
        }
    }

    fn set(&mut self, index: u32, wait: Wait) {
        let Ok(index) = usize::try_from(index) else { return };
        if index >= self.slots.len() && wait != Wait::default() {
            self.slots.resize(index + 1, Wait::default());
        }
        let Some(place) = self.slots.get_mut(index) else { return };
        let before = std::mem::replace(place, wait);
        self.waiting -= usize::from(before != Wait::default());
        self.waiting += usize::from(wait != Wait::default());
    }

    fn retire(&mut self, key: ServiceKey, actual: &Actual, now: Instant) {
        let Some(entry) = actual.services.get(&key) else { return };
        self.retired.insert(entry.id, now);
        for (index, _) in actual.slots_of(entry) {
            self.set(index, Wait::default());
        }
    }

    /// Since when the slot waits for what it waits for; `None` when it waited for something else before.
    pub(super) fn since(&self, index: u32, slot: Slot) -> Option<Instant> {
        let wait = self.slots.get(usize::try_from(index).ok()?)?;
        Some(self.origin? + wait.since(slot)?)
    }

    /// Whether nobody wants a backend and no slot names it.
    pub(super) fn is_unreferenced(&self, backend: u32) -> bool {
        self.unreferenced.contains_key(&backend)
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
