//! The maps, and the only code that touches them.
//!
//! Sizes given here are placeholders: the agent sets them from its limits when it loads the program.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_ktime_get_ns, generated::bpf_redirect},
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use mesh_common::{
    abi::{BackendCounters, BackendEntry, FlowKey4, FlowKey6, Meta, ServiceEntry, ServiceKey, protocol},
    flow::{FlowRecord, Ticks, ticks},
    hash,
    outcome::Outcome,
    slot::Slot,
};

/// The seed of the flow hash; set at load time.
#[unsafe(no_mangle)]
static SEED: Global<u64> = Global::new(0);

/// How many elements `SERVICES` has; set at load time.
#[unsafe(no_mangle)]
static SERVICE_PLACES: Global<u32> = Global::new(1);

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

#[map]
static FLOWS4: LruHashMap<FlowKey4, FlowRecord> = LruHashMap::with_max_entries(1, 0);

#[map]
static FLOWS6: LruHashMap<FlowKey6, FlowRecord> = LruHashMap::with_max_entries(1, 0);

/// A client's side of a flow, in one of the families.
pub(crate) trait Client: Copy {
    /// The IP protocol number that an outer header gives to a packet of this family.
    const INNER_PROTOCOL: u8;
    /// The flow's hash under the seed.
    fn hash(&self) -> u64;
    /// The flow's record.
    fn record(&self, service: u32) -> Option<FlowRecord>;
    /// Writes the flow's record; a full table makes room by itself.
    fn write(&self, service: u32, record: &FlowRecord);
}

macro_rules! client {
    ($key:ty, $map:ident, $hash:path, $protocol:expr) => {
        impl Client for $key {
            const INNER_PROTOCOL: u8 = $protocol;

            #[inline(always)]
            fn hash(&self) -> u64 {
                $hash(SEED.load(), self.address, self.port)
            }

            #[inline(always)]
            fn record(&self, service: u32) -> Option<FlowRecord> {
                // SAFETY: may be replaced while we read; a torn record is one flow's last packet told wrong by a tick
                // or a state, its backend is one aligned word.
                unsafe { $map.get(&Self { service, ..*self }) }.copied()
            }

            #[inline(always)]
            fn write(&self, service: u32, record: &FlowRecord) {
                // The table evicts by itself; should the kernel still refuse, the flow stays unrecorded.
                let _ = $map.insert(&Self { service, ..*self }, record, 0);
            }
        }
    };
}

client!(FlowKey4, FLOWS4, hash::flow4, protocol::IPIP);
client!(FlowKey6, FLOWS6, hash::flow6, protocol::IPV6);

/// The service that owns an address, port and protocol.
#[inline(always)]
pub(crate) fn service(key: ServiceKey) -> Option<&'static ServiceEntry> {
    let [first, second] = hash::service(key, SERVICE_PLACES.load());
    service_at(first, key).or_else(|| service_at(second, key))
}

#[inline(always)]
fn service_at(place: u32, key: ServiceKey) -> Option<&'static ServiceEntry> {
    // The agent writes the key last and clears it first, so that the other fields are those of the key.
    SERVICES.get(place).filter(|entry| entry.key == key)
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

/// The time now.
#[inline(always)]
pub(crate) fn now() -> Ticks {
    // SAFETY: the helper takes nothing and reads a clock.
    ticks(unsafe { bpf_ktime_get_ns() })
}

/// Notes the interface that the packet is to leave by.
#[inline(always)]
pub(crate) fn redirect_to(ifindex: u32) {
    // SAFETY: the helper stores the index for this CPU; it always answers XDP_REDIRECT when it is given no flags.
    unsafe { bpf_redirect(ifindex, 0) };
}
