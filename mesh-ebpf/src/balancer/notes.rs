//! Notes about a packet, for those who want to know more of it than its outcome.
//!
//! Of the instance that is attached nothing of this is left: which instance it is, the verifier knows.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use crate::maps;
use aya_ebpf::{Global, macros::map, maps::PerCpuArray};
use mesh_common::{
    abi::Journey,
    flow::FlowRecord,
    notes::{Notes, instance, step},
    outcome::Outcome,
    slot::Slot,
};

/// What this instance is for, one of [`instance`]; set at load time.
#[unsafe(no_mangle)]
static INSTANCE: Global<u32> = Global::new(instance::PLAIN);

/// What is noted of the packet that each CPU is at. Every instance has its own.
#[map]
static NOTES: PerCpuArray<Notes> = PerCpuArray::with_max_entries(1, 0);

/// Whether this instance writes to the maps that all share.
#[inline(always)]
pub(crate) fn writes() -> bool {
    INSTANCE.load() != instance::EXPLAINING
}

/// Begins to note a packet, if this instance does so: then it goes the whole way.
#[inline(always)]
pub(crate) fn begin() -> bool {
    note(step::BEGUN, |notes| notes.now = maps::now());
    INSTANCE.load() != instance::PLAIN
}

/// Notes that the packet came so far, and what belongs to that.
#[inline(always)]
pub(crate) fn note(step: u32, write: impl FnOnce(&mut Notes)) {
    if INSTANCE.load() == instance::PLAIN {
        return;
    }
    if let Some(notes) = NOTES.get_ptr_mut(0) {
        // SAFETY: the element belongs to this CPU, which takes one packet after the other; nobody keeps a reference.
        let notes = unsafe { &mut *notes };
        notes.steps |= step;
        write(notes);
    }
}

/// Notes all that is known by now.
#[inline(always)]
pub(crate) fn journey(step: u32, journey: &Journey) {
    note(step, |notes| notes.journey = *journey);
}

/// Notes that there is a backend.
#[inline(always)]
pub(crate) fn chosen(journey: &Journey) {
    note(step::CHOSEN, |notes| {
        notes.journey.backend = journey.backend;
        notes.journey.opened = journey.opened;
    });
}

/// Notes a slot, and what the flow table says of the packet's flow.
#[inline(always)]
pub(crate) fn slot(slot: Slot) {
    note(step::SLOT, |notes| notes.slot = slot.0);
}

/// Notes a flow's record before and after the packet.
#[inline(always)]
pub(crate) fn records(found: Option<FlowRecord>, written: Option<FlowRecord>) {
    if let Some(found) = found {
        note(step::FOUND, |notes| notes.found = found);
    }
    if let Some(written) = written {
        note(step::WRITTEN, |notes| notes.written = written);
    }
}

/// Notes the owner of the slot that a scheduler picked.
#[inline(always)]
pub(crate) fn picked(owner: u32) {
    note(step::PICKED, |notes| notes.picked = owner);
}

/// Notes the owners of two slots of which the scheduler takes one.
#[inline(always)]
pub(crate) fn compared(first: u32, second: u32) {
    note(step::COMPARED, |notes| notes.compared = [first, second]);
}

/// Notes the end.
#[inline(always)]
pub(crate) fn end(outcome: Outcome) {
    note(step::ENDED, |notes| notes.outcome = outcome.index());
}
