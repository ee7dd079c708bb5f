//! Notes about a packet, for those who want to know more of it than its outcome.
//!
//! Of the instance that is attached nothing of this is left: which instance it is, the verifier knows.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use crate::{maps, parse::IP, tables::Tables};
use aya_ebpf::{
    Global,
    helpers::generated::bpf_ktime_get_ns,
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
    programs::XdpContext,
};
use mesh_common::{
    abi::{Journey, halves, protocol},
    flow::{FlowRecord, Signs},
    notes::{Event, Filter, FlowEvent, Notes, SNAP, instance, step},
    outcome::Outcome,
    slot::Slot,
    tuple::Tuple,
};
use mesh_ebpf::{
    header::{Ethernet, IPV4, IPV6, Ipv4, Ipv6, Tcp},
    packet::Packet,
};

/// What this instance is for, one of [`instance`]; set at load time.
#[unsafe(no_mangle)]
static INSTANCE: Global<u32> = Global::new(instance::PLAIN);

/// What is noted of the packet that each CPU is at. Every instance has its own.
#[map]
static NOTES: PerCpuArray<Event> = PerCpuArray::with_max_entries(1, 0);

/// Which packets somebody who watches wants.
#[map]
static FILTER: Array<Filter> = Array::with_max_entries(1, 0);

/// What is told of them. The size given here is the least there is; the agent sets it where it reads.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Packets that would have been told of, had there been room.
#[map]
static MISSED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// What is told of segments that open and close flows. Its size, too, is set where it is read.
#[map]
static FLOWS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Such segments that would have been told of, had there been room.
#[map]
static FLOWS_MISSED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Whether this instance writes to the maps that all share.
#[inline(always)]
pub(crate) fn writes() -> bool {
    INSTANCE.load() != instance::EXPLAINING
}

/// Begins to note a packet, if this instance does so and the packet is among those taken: then it goes the whole way.
#[inline(always)]
pub(crate) fn begin(context: &XdpContext) -> bool {
    if INSTANCE.load() == instance::PLAIN {
        return false;
    }
    let Some(event) = event() else { return false };
    event.notes.steps = 0;
    let packet = Packet::new(context);
    let mut steps = step::BEGUN;
    if is_tracing() && FILTER.get(0).is_some_and(|filter| maps::random() <= filter.chance) {
        capture(&packet, event);
        steps |= step::WATCHED;
    } else if is_attached() && !(is_logging() && may_turn(&packet)) {
        return false;
    }
    (event.notes.steps, event.notes.now) = (steps, maps::now());
    true
}

/// Whether this instance gets the packets of clients, of which it takes some.
#[inline(always)]
fn is_attached() -> bool {
    is_tracing() || is_logging()
}

#[inline(always)]
fn is_tracing() -> bool {
    INSTANCE.load() & instance::TRACING != 0
}

#[inline(always)]
fn is_logging() -> bool {
    INSTANCE.load() & instance::LOGGING != 0
}

/// Whether a packet may open or close a flow. Of those that are not plain, all may.
#[inline(always)]
fn may_turn(packet: &Packet) -> bool {
    let Some(ethernet) = packet.view::<Ethernet>(0) else { return false };
    let (number, at) = match ethernet.kind {
        IPV4 => match packet.view::<Ipv4>(IP) {
            Some(header) if header.version_length == 0x45 => (header.protocol, IP + Ipv4::LENGTH),
            _ => return true,
        },
        IPV6 => match packet.view::<Ipv6>(IP) {
            Some(header) => (header.next, IP + Ipv6::LENGTH),
            None => return true,
        },
        _ => return true,
    };
    match number {
        protocol::TCP => packet.view::<Tcp>(at).is_none_or(|header| Signs::tcp(header.flags).turns()),
        protocol::UDP => false,
        _ => true,
    }
}

#[inline(always)]
fn event() -> Option<&'static mut Event> {
    // SAFETY: the element belongs to this CPU, which takes one packet after the other; nobody keeps the reference.
    NOTES.get_ptr_mut(0).map(|event| unsafe { &mut *event })
}

/// Copies the packet as it came, or its beginning.
#[inline(always)]
fn capture(packet: &Packet, event: &mut Event) {
    // SAFETY: the helper takes nothing.
    event.time = unsafe { bpf_ktime_get_ns() };
    event.ingress = packet.ingress();
    event.length = packet.length();
    event.captured = event.length.min(SNAP);
    if packet.load(0, &mut event.packet, event.captured as usize).is_none() {
        event.captured = 0;
    }
}

/// Notes that the packet came so far, and what belongs to that.
#[inline(always)]
pub(crate) fn note(step: u32, write: impl FnOnce(&mut Notes)) {
    if INSTANCE.load() == instance::PLAIN {
        return;
    }
    if let Some(Event { notes, .. }) = event() {
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

/// Notes what becomes of the packet's tuple.
#[inline(always)]
pub(crate) fn translated(step: u32, to: &Tuple) {
    note(step, |notes| notes.journey.to = *to);
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

/// Notes the end, and tells of the packet if somebody wants it.
#[inline(always)]
pub(crate) fn end(outcome: Outcome) {
    note(step::ENDED, |notes| notes.outcome = outcome.index());
    if is_tracing()
        && let Some(event) = event()
        && event.notes.has(step::WATCHED)
        && is_wanted(&event.notes)
        && EVENTS.output::<Event>(&*event, 0).is_err()
    {
        miss(&MISSED);
    }
    if is_logging()
        && let Some(Event { notes, .. }) = event()
        && notes.has(step::BEGUN)
        && notes.has(step::SERVICE)
        && notes.journey.signs.turns()
    {
        // SAFETY: the helper takes nothing.
        let told = FlowEvent::of(notes, unsafe { bpf_ktime_get_ns() });
        if FLOWS.output::<FlowEvent>(&told, 0).is_err() {
            miss(&FLOWS_MISSED);
        }
    }
}

#[inline(always)]
fn miss(counter: &PerCpuArray<u64>) {
    if let Some(missed) = counter.get_ptr_mut(0) {
        // SAFETY: the element belongs to this CPU.
        unsafe { *missed += 1 };
    }
}

#[inline(always)]
fn is_wanted(notes: &Notes) -> bool {
    let chosen = Tables::open().filter(|_| notes.has(step::CHOSEN));
    let backend = chosen.and_then(|tables| tables.backend(notes.journey.backend));
    let address = backend.map(|backend| halves(backend.address));
    FILTER.get(0).is_some_and(|filter| filter.wants(notes, address))
}
