//! The tables: services, backends, slots and flows, all in the one element of one map.
//!
//! One lookup serves all of them: each would be a call to the compiler, before which it saves and after which it
//! restores what it holds in registers, and a trip of its index through memory.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{Global, bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use mesh_common::{
    abi::{BackendEntry, ServiceEntry, ServiceKey},
    filter::{self, Mark},
    hash,
    slot::Slot,
    table::Bucket,
};
use mesh_ebpf::verifier::opaque;

/// Divided as [`mesh_common::abi::Layout`] says; the size given here is a placeholder, the agent makes the map.
#[map]
static TABLES: Array<[u64; 8]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

// The layout, set at load time. The verifier knows these values, so that comparing with them bounds an offset.

/// How many places the service table has.
#[unsafe(no_mangle)]
static SERVICE_PLACES: Global<u32> = Global::new(1);

/// How many elements the backend array has, and where it begins.
#[unsafe(no_mangle)]
static BACKEND_COUNT: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static BACKENDS_AT: Global<u32> = Global::new(0);

/// How many slots there are, and where they begin.
#[unsafe(no_mangle)]
static SLOT_COUNT: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static SLOTS_AT: Global<u32> = Global::new(0);

/// How many buckets the flow table has, and where it begins.
#[unsafe(no_mangle)]
static FLOW_BUCKETS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static FLOWS_AT: Global<u32> = Global::new(0);

/// How many words each generation of the flow table's filter has, where its head begins, and where they do.
#[unsafe(no_mangle)]
static FILTER_WORDS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static FILTER_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static FILTER_WORDS_AT: Global<u32> = Global::new(0);

/// How many buckets the flow table has.
#[inline(always)]
pub(crate) fn flow_buckets() -> u32 {
    FLOW_BUCKETS.load()
}

/// How many elements the backend array has.
#[inline(always)]
pub(crate) fn backend_count() -> u32 {
    BACKEND_COUNT.load()
}

/// The tables, found.
#[derive(Clone, Copy)]
pub(crate) struct Tables(*mut u8);

impl Tables {
    /// Looks the tables up: once per packet, before anything else.
    #[inline(always)]
    pub(crate) fn open() -> Option<Self> {
        TABLES.get_ptr_mut(0).map(|tables| Self(tables.cast()))
    }

    /// The element with this index of the part that has `count` from the byte `at` on.
    #[inline(always)]
    fn element<T>(self, at: u32, count: u32, index: usize) -> Option<*mut T> {
        let index = opaque(index);
        if index >= count as usize {
            return None;
        }
        // SAFETY: the agent made the map so large that all of the part lies within it.
        Some(unsafe { self.0.add(at as usize).cast::<T>().add(index) })
    }

    /// The service that owns one address, port and protocol.
    #[inline(always)]
    pub(crate) fn service(self, key: ServiceKey) -> Option<&'static ServiceEntry> {
        let places = SERVICE_PLACES.load();
        let [first, second] = hash::service(key, places);
        self.service_at(first, places, key).or_else(|| self.service_at(second, places, key))
    }

    #[inline(always)]
    fn service_at(self, place: u32, places: u32, key: ServiceKey) -> Option<&'static ServiceEntry> {
        let entry = self.element::<ServiceEntry>(0, places, place as usize)?;
        // SAFETY: an element of the map, which outlives the program's run. The agent writes the key last and clears it
        // first, so that the other fields are those of the key.
        Some(unsafe { &*entry }).filter(|entry| entry.key.is(key))
    }

    /// The slot of a service's table that a hash leads to.
    #[inline(always)]
    pub(crate) fn slot(self, service: &ServiceEntry, hash: u64) -> Option<Slot> {
        self.slot_at(service, hash::slot(hash, service.size))
    }

    /// A slot of a service's table by its index there.
    #[inline(always)]
    pub(crate) fn slot_at(self, service: &ServiceEntry, index: u32) -> Option<Slot> {
        let index = service.base as usize + index as usize;
        let slot = self.element::<u64>(SLOTS_AT.load(), SLOT_COUNT.load(), index)?;
        // SAFETY: an element of the map; the agent replaces the word in one store.
        Some(Slot(unsafe { slot.read_volatile() }))
    }

    /// A backend's element; one that nobody has is zero.
    #[inline(always)]
    pub(crate) fn backend(self, id: u32) -> Option<&'static BackendEntry> {
        let entry = self.element::<BackendEntry>(BACKENDS_AT.load(), BACKEND_COUNT.load(), id as usize)?;
        // SAFETY: an element of the map, which outlives the program's run. See `BackendEntry` for what may change while it
        // is read.
        Some(unsafe { &*entry })
    }

    /// A bucket of the flow table.
    #[inline(always)]
    pub(crate) fn bucket(self, index: u32) -> Option<*mut Bucket> {
        self.element(FLOWS_AT.load(), FLOW_BUCKETS.load(), index as usize)
    }

    /// The word of a generation of the flow table's filter that has a mark.
    #[inline(always)]
    pub(crate) fn filter_word(self, generation: u64, mark: Mark) -> Option<*mut u64> {
        let words = FILTER_WORDS.load();
        let index = filter::index(generation, mark.word(words), words);
        self.element(FILTER_WORDS_AT.load(), words * 2, index)
    }

    /// Which generation of the flow table's filter counts.
    #[inline(always)]
    pub(crate) fn filter_generation(self) -> u64 {
        // SAFETY: the filter's head is a part of the map; the agent replaces the word in one store.
        unsafe { self.0.add(FILTER_AT.load() as usize).cast::<u64>().read_volatile() }
    }

    /// Whether flows may stay on a backend.
    #[inline(always)]
    pub(crate) fn is_alive(self, id: u32) -> bool {
        self.backend(id).is_some_and(|backend| backend.alive != 0)
    }
}
