//! The maps beside the [`tables`](crate::tables), and the only code that touches them.
//!
//! Sizes given here are placeholders: the agent sets them from its limits when it loads the program.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use crate::notes;
use aya_ebpf::{
    EbpfContext as _, Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    helpers::generated::{bpf_get_prandom_u32, bpf_jiffies64, bpf_redirect},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use mesh_common::{
    abi::{BackendCounters, Journey, Meta, ServiceEntry, programs},
    flow::{Ticks, ticks},
    fragment::{self, FragmentKey, FragmentRecord},
    icmp,
    outcome::Outcome,
    quic::{self, Routed},
};
use mesh_ebpf::{
    trie::Whole,
    verifier::{add, tail_call},
};

/// The seed of the flow hash; set at load time.
#[unsafe(no_mangle)]
static SEED: Global<u64> = Global::new(0);

/// Which agent's maps these are. The program does not read it.
#[map]
static META: Array<Meta> = Array::with_max_entries(1, 0);

#[map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounters> = PerCpuArray::with_max_entries(1, 0);

#[map]
static OUTCOMES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Outcome::COUNT, 0);

/// Where tail calls lead: the programs of the whole way, and the one that others put behind ours.
#[map]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(programs::COUNT, 0);

/// What each CPU knows of the packet that it is at.
#[map]
static JOURNEY: PerCpuArray<Journey> = PerCpuArray::with_max_entries(1, 0);

/// Whether there is a next program; set at load time, so that without one nothing is left of the call.
#[unsafe(no_mangle)]
static HAS_NEXT: Global<u32> = Global::new(0);

/// How connection ids of QUIC services are read.
#[map]
static QUIC_CONFIGS: HashMap<quic::ConfigKey, quic::Config> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Whose the server ids in them are: ids of backends.
#[map]
static SERVER_IDS: HashMap<quic::ServerIdKey, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// How packets of QUIC services found their backends.
#[map]
static QUIC_PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Routed::COUNTERS, 0);

/// Which group's rules hold for an address; IPv4 as IPv4-mapped addresses.
#[map]
static GROUPS: LpmTrie<[u64; 2], u32> = LpmTrie::with_max_entries(1, 0);

/// The services of each group, by `abi::rule_key`.
#[map]
static RULES: LpmTrie<u64, ServiceEntry> = LpmTrie::with_max_entries(1, 0);

/// 1 while there are wide services.
#[map]
static WIDE: Array<u32> = Array::with_max_entries(1, 0);

/// Flows that backends have, and after them those that services have, where somebody asks: since the agent last counted
/// them, what began less what ended.
#[map]
static LOADS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How many turns each CPU took at the table of each service.
#[map]
static TURNS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

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

/// Whether this CPU may send one more such answer now. An instance that does not write may always.
#[inline(always)]
pub(crate) fn may_send(answer: Answer) -> bool {
    if !notes::writes() {
        return true;
    }
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

/// Whether an address is a VIP of any service.
#[inline(always)]
pub(crate) fn is_vip(address: [u64; 2]) -> bool {
    VIPS.get(Whole::new(address).key()).is_some()
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

/// What this CPU knows of the packet that it is at.
#[inline(always)]
pub(crate) fn journey() -> Option<&'static mut Journey> {
    // SAFETY: the element belongs to this CPU, which takes one packet after the other; each program asks for it once.
    JOURNEY.get_ptr_mut(0).map(|journey| unsafe { &mut *journey })
}

/// Goes on with another program; comes back only if it is not in its place.
#[inline(always)]
pub(crate) fn call<const PROGRAM: u32>(context: &XdpContext) {
    // SAFETY: nothing is left to drop here, and the map is one of programs.
    unsafe { tail_call::<PROGRAM>(context.as_ptr(), (&raw const PROGRAMS).cast()) };
}

/// Goes on with the next program, if there is one.
#[inline(always)]
pub(crate) fn call_next(context: &XdpContext) {
    if HAS_NEXT.load() != 0 {
        call::<{ programs::NEXT }>(context);
    }
}

/// How many flows stand at an index of the loads; fewer than none if more ended than were counted.
#[inline(always)]
pub(crate) fn load(index: u32) -> i64 {
    // SAFETY: an element of the map; other CPUs and the agent change it in whole words.
    LOADS.get_ptr(index).map_or(0, |load| unsafe { load.read_volatile() }.cast_signed())
}

/// Adds to the flows at an index of the loads, or takes from them.
#[inline(always)]
pub(crate) fn add_load(index: u32, by: i64) {
    if let Some(load) = LOADS.get_ptr_mut(index) {
        // SAFETY: an aligned element of the map, which everybody changes atomically.
        unsafe { add(load, by.cast_unsigned()) };
    }
}

/// The number of this CPU's next turn at a service's table; who `writes` takes it.
#[inline(always)]
pub(crate) fn turn(service: u32, writes: bool) -> Option<u64> {
    let turns = TURNS.get_ptr_mut(service)?;
    // SAFETY: the element belongs to this CPU.
    unsafe {
        let turn = (*turns).wrapping_add(1);
        if writes {
            *turns = turn;
        }
        Some(turn)
    }
}

/// 32 bits by chance.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_get_prandom_u32() }
}

/// The seed of the flow hash.
#[inline(always)]
pub(crate) fn seed() -> u64 {
    SEED.load()
}

/// How connection ids with a codepoint are read.
#[inline(always)]
pub(crate) fn quic_config(service: u32, rotation: u32) -> Option<&'static quic::Config> {
    // SAFETY: the agent replaces an element as a whole, and the kernel keeps the old one until this packet is through.
    unsafe { QUIC_CONFIGS.get(quic::ConfigKey { service, rotation }) }
}

/// The backend that has a server id.
#[inline(always)]
pub(crate) fn server(key: &quic::ServerIdKey) -> Option<u32> {
    // SAFETY: as in `quic_config`; the id is copied at once.
    unsafe { SERVER_IDS.get(key) }.copied()
}

/// Whether there are wide services.
#[inline(always)]
pub(crate) fn any_wide() -> bool {
    WIDE.get(0).is_some_and(|any| *any != 0)
}

/// The group of an address.
#[inline(always)]
pub(crate) fn group(address: [u64; 2]) -> Option<u32> {
    GROUPS.get(Whole::new(address).key()).copied()
}

/// The wide service of a rule.
#[inline(always)]
pub(crate) fn rule(key: u64) -> Option<&'static ServiceEntry> {
    // The agent replaces a rule as a whole, and its memory is used again after this packet only.
    RULES.get(Whole::new(key).key())
}

/// Counts how a packet of a QUIC service found its backend.
#[inline(always)]
pub(crate) fn count_routed(routed: Routed, rotation: u32) {
    if let Some(counter) = QUIC_PACKETS.get_ptr_mut(routed.counter(rotation)) {
        // SAFETY: the element belongs to this CPU.
        unsafe { *counter += 1 };
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

/// Counts an answer of a backend that was sent to its client, by the outcome that says how.
#[inline(always)]
pub(crate) fn count_reply(id: u32, sent: Outcome, bytes: u16, refuses: bool) {
    if let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(id) {
        // SAFETY: the element belongs to this CPU.
        unsafe {
            if sent as u32 == Outcome::ReplyTransmitted as u32 {
                (*counters).replies_transmitted += 1;
            } else {
                (*counters).replies_redirected += 1;
            }
            (*counters).reply_bytes += u64::from(bytes);
            if refuses {
                (*counters).refused += 1;
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

/// How long a jiffy is, in nanoseconds; set at load time.
#[unsafe(no_mangle)]
static JIFFY: Global<u64> = Global::new(0);

/// The time now, exact to a jiffy. The kernel reads its counter of jiffies in place (kernel 5.5), where every other clock
/// is a call.
#[inline(always)]
pub(crate) fn now() -> Ticks {
    // SAFETY: the helper takes nothing and reads what the last timer interrupt wrote.
    ticks(unsafe { bpf_jiffies64() }, JIFFY.load())
}

/// Notes the interface that the packet is to leave by.
#[inline(always)]
pub(crate) fn redirect_to(ifindex: u32) {
    // SAFETY: the helper stores the index for this CPU; it always answers XDP_REDIRECT when it is given no flags.
    unsafe { bpf_redirect(ifindex, 0) };
}
