//! The maps beside the [`tables`](crate::tables), and the only code that touches them.
//!
//! Sizes given here are placeholders: the agent sets them from its limits when it loads the program.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_ktime_get_coarse_ns, generated::bpf_redirect},
    macros::map,
    maps::{Array, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use mesh_common::{
    abi::{BackendCounters, Meta, programs},
    flow::{FlowRecord, Ticks, ticks},
    icmp,
    outcome::Outcome,
    table::{self, Bucket, Client, Clients, Found, OVERFLOWED, WAYS},
};
use mesh_ebpf::verifier::larger;

/// The seed of the flow hash; set at load time.
#[unsafe(no_mangle)]
static SEED: Global<u64> = Global::new(0);

/// How many elements `FLOWS` has; set at load time.
#[unsafe(no_mangle)]
static FLOW_BUCKETS: Global<u32> = Global::new(1);

/// Which agent's maps these are. The program does not read it.
#[map]
static META: Array<Meta> = Array::with_max_entries(1, 0);

#[map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounters> = PerCpuArray::with_max_entries(1, 0);

#[map]
static OUTCOMES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Outcome::COUNT, 0);

/// The flow table.
#[map]
static FLOWS: Array<Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Who the flows of each bucket are. The program writes it only.
#[map]
static CLIENTS: Array<Clients> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Where tail calls lead: the whole way, and the program that others put behind ours.
#[map]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// Whether there is a next program; set at load time, so that without one nothing is left of the call.
#[unsafe(no_mangle)]
static HAS_NEXT: Global<u32> = Global::new(0);

/// How many errors each CPU sent in this tick.
#[map]
static ANSWERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Whether this CPU may send one more error now.
#[inline(always)]
pub(crate) fn may_answer() -> bool {
    let Some(spent) = ANSWERS.get_ptr_mut(0) else { return false };
    // SAFETY: the element belongs to this CPU.
    icmp::take(unsafe { *spent }, now()).map(|left| unsafe { *spent = left }).is_some()
}

/// Goes on with the program for every packet; comes back only if it is not in its place.
#[inline(always)]
pub(crate) fn call_whole(context: &XdpContext) {
    // SAFETY: nothing is left to drop here.
    unsafe { PROGRAMS.tail_call(context, programs::WHOLE) };
}

/// Goes on with the next program, if there is one.
#[inline(always)]
pub(crate) fn call_next(context: &XdpContext) {
    if HAS_NEXT.load() != 0 {
        // SAFETY: nothing is left to drop here.
        unsafe { PROGRAMS.tail_call(context, programs::NEXT) };
    }
}

/// The seed of the flow hash.
#[inline(always)]
pub(crate) fn seed() -> u64 {
    SEED.load()
}

/// Where a flow stands in the table.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    bucket: *mut Bucket,
    /// The index of the record, and of the tag in the word of tags.
    at: usize,
}

impl Place {
    /// A place in a bucket; `at` is cut to the bucket's words.
    #[inline(always)]
    const fn new(bucket: *mut Bucket, at: usize) -> Self {
        Self { bucket, at: at & WAYS }
    }

    #[inline(always)]
    const fn record(self) -> *mut u64 {
        // SAFETY: a bucket has one word more than `WAYS`, which is all ones.
        unsafe { self.bucket.cast::<u64>().add(self.at) }
    }

    /// The record that stands here, if it is this flow's.
    #[inline(always)]
    fn read(self, key: u64, now: Ticks) -> Option<FlowRecord> {
        // SAFETY: the bucket is an element of the map; words are read whole, whoever writes them meanwhile.
        table::unpack(key, unsafe { self.record().read_volatile() }, now)
    }

    /// Replaces the record of a flow that stands here.
    #[inline(always)]
    pub(crate) fn write(self, key: u64, record: &FlowRecord) {
        // SAFETY: as in `read`.
        unsafe { self.record().write_volatile(table::pack(key, record)) };
    }

    /// Makes the place a flow's: the record first, so that a reader that finds the tag finds it, too.
    #[inline(always)]
    fn take(self, key: u64, record: &FlowRecord) {
        self.write(key, record);
        mark(self.bucket, self.at, table::tag(key));
    }
}

/// Sets a byte of the word of tags.
#[inline(always)]
fn mark(bucket: *mut Bucket, at: usize, byte: u8) {
    // SAFETY: the bucket is an element of the map, and its first word has the bytes 0 to `WAYS`.
    unsafe { bucket.cast::<u8>().add(at).write_volatile(byte) };
}

/// A bucket, and its word of tags.
#[inline(always)]
fn bucket(index: u32) -> Option<(*mut Bucket, u64)> {
    let bucket = FLOWS.get_ptr_mut(index)?;
    // SAFETY: the pointer comes from the map; words are read whole, whoever writes them meanwhile.
    Some((bucket, unsafe { bucket.cast::<u64>().read_volatile() }))
}

/// A flow's record, and where it stands.
#[inline(always)]
pub(crate) fn flow(key: u64, now: Ticks) -> Option<(Place, FlowRecord)> {
    let [first, second] = table::buckets(key, FLOW_BUCKETS.load());
    let (first, tags) = bucket(first)?;
    let found = flow_in(first, tags, key, now);
    if found.is_some() || tags & u64::from(OVERFLOWED) == 0 {
        return found;
    }
    let (second, tags) = bucket(second)?;
    flow_in(second, tags, key, now)
}

/// Looks at up to three records whose tags are the flow's; of seven other flows more than that have it with a probability
/// of 10^-8.
#[inline(always)]
fn flow_in(bucket: *mut Bucket, tags: u64, key: u64, now: Ticks) -> Option<(Place, FlowRecord)> {
    let found = Found::tags(tags, table::tag(key));
    let at = |found: Found| {
        let place = Place::new(bucket, found.first()?);
        Some((place, place.read(key, now)?))
    };
    at(found).or_else(|| at(found.rest())).or_else(|| at(found.rest().rest()))
}

/// Records a new flow: at a free place of its first bucket, else of its second, else at that of the most expendable flow of
/// the first. A bucket full of active flows takes none.
#[inline(always)]
pub(crate) fn record(key: u64, record: &FlowRecord, now: Ticks, client: &Client) {
    if let Some((index, place)) = place_for(key, now) {
        place.take(key, record);
        name(index, place.at, client);
    }
}

#[inline(always)]
fn place_for(key: u64, now: Ticks) -> Option<(u32, Place)> {
    let [first, second] = table::buckets(key, FLOW_BUCKETS.load());
    let (full, tags) = bucket(first)?;
    if let Some(at) = Found::tags(tags, 0).first() {
        return Some((first, Place::new(full, at)));
    }
    let (other, tags) = bucket(second)?;
    if let Some(at) = Found::tags(tags, 0).first() {
        // Before the flow is there, so that nobody looks for it in vain.
        mark(full, 0, OVERFLOWED);
        return Some((second, Place::new(other, at)));
    }
    // SAFETY: as in `bucket`.
    let records = unsafe { full.read_volatile() };
    Some((first, Place::new(full, table::victim(&records, now, larger)?)))
}

/// Notes whose flow stands at a place.
#[inline(always)]
fn name(bucket: u32, at: usize, client: &Client) {
    let way = at.wrapping_sub(1);
    if let Some(clients) = CLIENTS.get_ptr_mut(bucket)
        && way < WAYS
    {
        // SAFETY: the pointer comes from the map and the way is below `WAYS`; the agent checks the key.
        unsafe { clients.cast::<Client>().add(way).write(*client) };
    }
}

/// Counts a packet that was sent to a backend, by the outcome that says how.
#[inline(always)]
pub(crate) fn count_sent(id: u32, sent: Outcome, bytes: u16, opened: bool) {
    if let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(id) {
        // SAFETY: the element belongs to this CPU.
        unsafe {
            if sent as u32 == Outcome::Transmitted as u32 {
                (*counters).transmitted += 1;
            } else {
                (*counters).redirected += 1;
            }
            (*counters).bytes += u64::from(bytes);
            if opened {
                (*counters).new_flows += 1;
            }
        }
    }
}

/// Counts the end of a packet's journey that did not lead to a backend.
#[inline(always)]
pub(crate) fn count(outcome: Outcome) {
    if let Some(counter) = OUTCOMES.get_ptr_mut(outcome.index()) {
        // SAFETY: the element belongs to this CPU.
        unsafe { *counter += 1 };
    }
}

/// The time now, exact to a few milliseconds, since asking the hardware takes longer than all else does (kernel 5.11).
#[inline(always)]
pub(crate) fn now() -> Ticks {
    // SAFETY: the helper takes nothing and reads what the last timer interrupt wrote.
    ticks(unsafe { bpf_ktime_get_coarse_ns() })
}

/// Notes the interface that the packet is to leave by.
#[inline(always)]
pub(crate) fn redirect_to(ifindex: u32) {
    // SAFETY: the helper stores the index for this CPU; it always answers XDP_REDIRECT when it is given no flags.
    unsafe { bpf_redirect(ifindex, 0) };
}
