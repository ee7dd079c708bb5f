//! The maps, and the only code that touches them.
//!
//! Sizes given here are placeholders: the agent sets them from its limits when it loads the program.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_ktime_get_coarse_ns, generated::bpf_redirect},
    macros::map,
    maps::{Array, LpmTrie, PerCpuArray},
};
use mesh_common::{
    abi::{BackendCounters, BackendEntry, Meta, ServiceEntry, ServiceKey},
    flow::{FlowRecord, Ticks, ticks},
    hash, icmp,
    outcome::Outcome,
    slot::Slot,
    table::{self, Bucket, Client, Clients, WAYS},
};
use mesh_ebpf::trie::Whole;

/// The seed of the flow hash; set at load time.
#[unsafe(no_mangle)]
static SEED: Global<u64> = Global::new(0);

/// How many elements `SERVICES` has; set at load time.
#[unsafe(no_mangle)]
static SERVICE_PLACES: Global<u32> = Global::new(1);

/// How many elements `FLOWS` has; set at load time.
#[unsafe(no_mangle)]
static FLOW_BUCKETS: Global<u32> = Global::new(1);

/// Which agent's maps these are. The program does not read it.
#[map]
static META: Array<Meta> = Array::with_max_entries(1, 0);

#[map]
static SERVICES: Array<ServiceEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
static SLOTS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
static BACKENDS: Array<BackendEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

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

/// Which group's rules hold for an address; IPv4 as IPv4-mapped addresses.
#[map]
static VIPS: LpmTrie<[u64; 2], u32> = LpmTrie::with_max_entries(1, 0);

/// The services of each group, by `abi::rule_key`.
#[map]
static RULES: LpmTrie<u64, ServiceEntry> = LpmTrie::with_max_entries(1, 0);

/// 1 while there are wide services.
#[map]
static WIDE: Array<u32> = Array::with_max_entries(1, 0);

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

/// The seed of the flow hash.
#[inline(always)]
pub(crate) fn seed() -> u64 {
    SEED.load()
}

/// The service that owns an address, port and protocol.
#[inline(always)]
pub(crate) fn service(key: ServiceKey) -> Option<&'static ServiceEntry> {
    let [first, second] = hash::service(key, SERVICE_PLACES.load());
    service_at(first, key).or_else(|| service_at(second, key))
}

#[inline(always)]
fn service_at(place: u32, key: ServiceKey) -> Option<&'static ServiceEntry> {
    // The agent writes the key last and clears it first, so that the other fields are those of the key.
    SERVICES.get(place).filter(|entry| entry.key.is(key))
}

/// Whether there are wide services.
#[inline(always)]
pub(crate) fn any_wide() -> bool {
    WIDE.get(0).is_some_and(|any| *any != 0)
}

/// The group of an address.
#[inline(always)]
pub(crate) fn group(address: [u64; 2]) -> Option<u32> {
    VIPS.get(Whole::new(address).key()).copied()
}

/// The wide service of a rule.
#[inline(always)]
pub(crate) fn rule(key: u64) -> Option<&'static ServiceEntry> {
    // The agent replaces a rule as a whole, and its memory is used again after this packet only.
    RULES.get(Whole::new(key).key())
}

/// A slot of a service's table.
#[inline(always)]
pub(crate) fn slot(service: &ServiceEntry, hash: u64) -> Option<Slot> {
    let slot = SLOTS.get_ptr(service.base + hash::slot(hash, service.size))?;
    // SAFETY: the pointer comes from the map; the agent replaces the word in one store.
    Some(Slot(unsafe { slot.read_volatile() }))
}

/// A backend; `None` for ids that nobody has.
#[inline(always)]
pub(crate) fn backend(id: u32) -> Option<&'static BackendEntry> {
    // See `BackendEntry` for what may change while it is read.
    BACKENDS.get(id).filter(|entry| entry.forward != 0)
}

/// Whether flows may stay on a backend.
#[inline(always)]
pub(crate) fn is_alive(id: u32) -> bool {
    backend(id).is_some_and(|backend| backend.alive != 0)
}

/// Where a flow stands in the table.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    bucket: *mut Bucket,
    way: usize,
}

impl Place {
    /// The record that stands here, if it is this flow's.
    #[inline(always)]
    fn read(self, tag: u64, now: Ticks) -> Option<FlowRecord> {
        // SAFETY: the bucket is an element of the map and the way is below `WAYS`; words are read whole.
        let value = unsafe { (&raw const (*self.bucket).values).cast::<u64>().add(self.way).read_volatile() };
        table::unpack(tag, value, now)
    }

    /// Replaces the record of a flow that stands here.
    #[inline(always)]
    pub(crate) fn write(self, tag: u64, record: &FlowRecord) {
        // SAFETY: as in `read`.
        unsafe {
            (&raw mut (*self.bucket).values)
                .cast::<u64>()
                .add(self.way)
                .write_volatile(table::pack(tag, record));
        }
    }

    /// Makes the place a flow's: the value first, so that a reader that finds the tag finds it, too.
    #[inline(always)]
    fn take(self, tag: u64, record: &FlowRecord) {
        self.write(tag, record);
        // SAFETY: as in `read`.
        unsafe { (&raw mut (*self.bucket).tags).cast::<u64>().add(self.way).write_volatile(tag) };
    }
}

/// A flow's record, and where it stands.
#[inline(always)]
pub(crate) fn flow(tag: u64, now: Ticks) -> Option<(Place, FlowRecord)> {
    let [first, second] = table::buckets(tag, FLOW_BUCKETS.load());
    flow_at(first, tag, now).or_else(|| flow_at(second, tag, now))
}

#[inline(always)]
fn flow_at(bucket: u32, tag: u64, now: Ticks) -> Option<(Place, FlowRecord)> {
    let bucket = FLOWS.get_ptr_mut(bucket)?;
    // SAFETY: the pointer comes from the map; words are read whole, whoever writes them meanwhile.
    let tags = unsafe { (&raw const (*bucket).tags).read_volatile() };
    let place = Place { bucket, way: table::find(&tags, tag)? & (WAYS - 1) };
    Some((place, place.read(tag, now)?))
}

/// Records a new flow: at a free place, else at that of the most expendable flow of its first bucket. A bucket full of
/// active flows takes none.
#[inline(always)]
pub(crate) fn record(tag: u64, record: &FlowRecord, now: Ticks, client: &Client) {
    let [first, second] = table::buckets(tag, FLOW_BUCKETS.load());
    let taken = free_in(first).or_else(|| free_in(second)).or_else(|| victim_in(first, now));
    if let Some((index, place)) = taken {
        place.take(tag, record);
        name(index, place.way, client);
    }
}

#[inline(always)]
fn free_in(index: u32) -> Option<(u32, Place)> {
    let bucket = FLOWS.get_ptr_mut(index)?;
    // SAFETY: as in `flow_at`.
    let tags = unsafe { (&raw const (*bucket).tags).read_volatile() };
    Some((index, Place { bucket, way: table::find(&tags, 0)? & (WAYS - 1) }))
}

#[inline(always)]
fn victim_in(index: u32, now: Ticks) -> Option<(u32, Place)> {
    let bucket = FLOWS.get_ptr_mut(index)?;
    // SAFETY: as in `flow_at`.
    let values = unsafe { (&raw const (*bucket).values).read_volatile() };
    Some((index, Place { bucket, way: table::victim(&values, now)? & (WAYS - 1) }))
}

/// Notes whose flow stands at a place.
#[inline(always)]
fn name(bucket: u32, way: usize, client: &Client) {
    if let Some(clients) = CLIENTS.get_ptr_mut(bucket) {
        // SAFETY: the pointer comes from the map and the way is below `WAYS`; the agent checks the tag.
        unsafe { clients.cast::<Client>().add(way).write(*client) };
    }
}

/// Counts a packet that was sent to a backend.
#[inline(always)]
pub(crate) fn count_backend(id: u32, bytes: u16, opened: bool) {
    if let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(id) {
        // SAFETY: the element belongs to this CPU.
        unsafe {
            (*counters).packets += 1;
            (*counters).bytes += u64::from(bytes);
            (*counters).new_flows += u64::from(opened);
        }
    }
}

/// Counts the end of a packet's journey.
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
