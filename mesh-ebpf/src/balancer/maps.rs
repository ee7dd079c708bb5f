//! The maps beside the [`tables`](crate::tables), and the only code that touches them.
//!
//! Sizes given here are placeholders: the agent sets them from its limits when it loads the program.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_ktime_get_coarse_ns, generated::bpf_redirect},
    macros::map,
    maps::{Array, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, lpm_trie::Key},
    programs::XdpContext,
};
use mesh_common::{
    abi::{self, BackendCounters, Meta, programs},
    flow::{FlowRecord, Ticks, ticks},
    fragment::{self, FragmentKey, FragmentRecord},
    icmp,
    outcome::Outcome,
    table::{self, Bucket, Client, Clients, WAYS},
};

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

/// How many answers of each kind each CPU sent in this tick.
#[map]
static ANSWERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// What the balancer sends by itself.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// An error about a packet.
    Error,
    /// The reply to an echo request. A flood of these leaves the errors their own allowance.
    Echo,
}

/// Whether this CPU may send one more such answer now.
#[inline(always)]
pub(crate) fn may_send(answer: Answer) -> bool {
    let Some(spent) = ANSWERS.get_ptr_mut(answer as u32) else { return false };
    // SAFETY: the element belongs to this CPU.
    icmp::take(unsafe { *spent }, now()).map(|left| unsafe { *spent = left }).is_some()
}

/// Whether echo requests to VIPs are answered; set at load time.
#[unsafe(no_mangle)]
static ANSWER_ECHO: Global<u32> = Global::new(1);

/// Whether echo requests to VIPs are answered.
#[inline(always)]
pub(crate) fn answers_echo() -> bool {
    ANSWER_ECHO.load() != 0
}

/// The VIPs of all services, as prefixes; IPv4 as IPv4-mapped addresses.
#[map]
static VIPS: LpmTrie<[u64; 2], u32> = LpmTrie::with_max_entries(1, 0);

/// A key of the trie, whose address begins at a multiple of 8 bytes.
// verifier: words on the stack are written where they are aligned.
#[repr(C, align(8))]
struct VipKey {
    reserved: u32,
    key: Key<[u64; 2]>,
}

/// Whether an address is a VIP of any service.
#[inline(always)]
pub(crate) fn is_vip(address: [u64; 2]) -> bool {
    let vip = VipKey { reserved: 0, key: Key::new(abi::WHOLE_ADDRESS, address) };
    VIPS.get(&vip.key).is_some()
}

/// What became of first fragments.
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentRecord> =
    LruHashMap::with_max_entries(fragment::PACKETS, 0);

/// What became of the first fragment of a packet.
#[inline(always)]
pub(crate) fn fragment(key: &FragmentKey) -> Option<FragmentRecord> {
    // SAFETY: may be replaced while it is read: by what became of another first fragment that claims to be the same
    // packet's. The backend is checked against its service.
    unsafe { FRAGMENTS.get(key) }.copied()
}

/// Notes what became of the first fragment of a packet. Where there is no memory for it the others are orphans.
#[inline(always)]
pub(crate) fn note_fragment(key: &FragmentKey, record: &FragmentRecord) {
    let _ = FRAGMENTS.insert(key, record, 0);
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
