//! Memory-mapped BPF arrays: the agent changes an element with plain stores, no system call.
#![expect(unsafe_code, reason = "mapped kernel memory is reached through raw pointers")]

use super::{DataplaneError, Plain};
use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};
use mesh_common::{
    abi::{BackendCounters, BackendEntry, Meta, ServiceEntry},
    connection::{Connection, Reply, Sources},
    flood::Flood,
    notes::{Event, Filter, FlowEvent},
    policy::Policy,
    quic::{Config, ConfigKey, ServerIdKey},
    slot::Slot,
    table::{Bucket, Clients},
    tuple::Tuple,
};
use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

// SAFETY: made of integers, without padding.
unsafe impl aya::Pod for Plain<BackendCounters> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Meta> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Event> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Filter> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<ServiceEntry> {}

// SAFETY: as above.
unsafe impl aya::Pod for Plain<Tuple> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Connection> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Reply> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Sources> {}

// SAFETY: as above; the sizes that are asserted where they are defined leave no room for any.
unsafe impl aya::Pod for Plain<ConfigKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Config> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<ServerIdKey> {}

/// Elements that are made of whole words.
///
/// # Safety
///
/// The size is a multiple of 8 bytes, there is no padding, and any words make a valid value.
pub unsafe trait Words: Copy + Default {}

// SAFETY: 64 bytes of integers, asserted where it is defined.
unsafe impl Words for ServiceEntry {}
// SAFETY: as above.
unsafe impl Words for BackendEntry {}
// SAFETY: one transparent word.
unsafe impl Words for Slot {}
// SAFETY: 24 bytes of integers, asserted where it is defined.
unsafe impl Words for Flood {}
// SAFETY: one word.
unsafe impl Words for u64 {}
// SAFETY: two words.
unsafe impl Words for [u64; 2] {}
// SAFETY: 96 bytes of integers, asserted where it is defined.
unsafe impl Words for Policy {}
// SAFETY: eight words.
unsafe impl Words for Bucket {}
// SAFETY: 224 bytes of integers without padding, both asserted by the sizes where it is defined.
unsafe impl Words for Clients {}
// SAFETY: made of integers, a multiple of 8 bytes, both asserted where it is defined.
unsafe impl Words for Event {}
// SAFETY: as above.
unsafe impl Words for FlowEvent {}

/// A value of its words, if there are as many.
pub(super) fn from_words<T: Words>(words: &mut impl Iterator<Item = u64>) -> Option<T> {
    let mut value = T::default();
    let to = (&raw mut value).cast::<u64>();
    for at in 0..size_of::<T>() / 8 {
        // SAFETY: `value` has so many words, and any words make a valid value.
        unsafe { to.add(at).write_unaligned(words.next()?) };
    }
    words.next().is_none().then_some(value)
}

/// The memory of a BPF array.
#[derive(Clone)]
pub(super) struct Memory(Arc<MmapRaw>);

impl Memory {
    /// Maps `bytes` from the array's first element on.
    pub(super) fn new(map: &MapData, bytes: u64) -> io::Result<Self> {
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        Ok(Self(Arc::new(MmapOptions::new().len(bytes).map_raw(map.fd().as_fd().as_raw_fd())?)))
    }

    /// Zeroed memory of nobody's array.
    #[cfg(test)]
    pub(super) fn anonymous(bytes: usize) -> io::Result<Self> {
        Ok(Self(Arc::new(memmap2::MmapMut::map_anon(bytes)?.into())))
    }
}

/// An array, or a part of one, in memory. Every access is one atomic word, since the kernel reads and writes at the same
/// time.
pub(super) struct Mapped<T> {
    name: &'static str,
    memory: Memory,
    /// Where it begins, in words.
    start: usize,
    elements: usize,
    of: PhantomData<T>,
}

impl<T: Words> Mapped<T> {
    const WORDS: usize = size_of::<T>() / 8;

    /// The `elements` from the byte `start` on, a multiple of 8; as many as there is memory for.
    pub(super) fn new(name: &'static str, memory: &Memory, start: u64, elements: u32) -> Self {
        let start = usize::try_from(start / 8).unwrap_or(usize::MAX);
        let there = (memory.0.len() / 8).saturating_sub(start) / Self::WORDS;
        let elements = usize::try_from(elements).unwrap_or(usize::MAX).min(there);
        Self { name, memory: memory.clone(), start, elements, of: PhantomData }
    }

    fn word(&self, element: usize, word: usize) -> Option<&AtomicU64> {
        if element >= self.elements || word >= Self::WORDS {
            return None;
        }
        let words = self.memory.0.as_mut_ptr().cast::<AtomicU64>();
        // SAFETY: the mapping begins at a page, holds `elements` of `WORDS` words each from `start` on, and lives as long
        // as `self`; whatever else touches this memory does so in whole words too.
        Some(unsafe { &*words.add(self.start + element * Self::WORDS + word) })
    }

    fn index(&self, index: u32) -> Result<usize, DataplaneError> {
        let element = usize::try_from(index).unwrap_or(usize::MAX);
        if element < self.elements {
            return Ok(element);
        }
        Err(DataplaneError::Index { map: self.name, index, size: self.elements })
    }

    /// How many elements there are.
    pub(super) const fn len(&self) -> usize {
        self.elements
    }

    /// An element; zeroes beyond the end.
    pub(super) fn read(&self, element: usize) -> T {
        let mut value = T::default();
        let words = (&raw mut value).cast::<u64>();
        for word in 0..Self::WORDS {
            let read = self.word(element, word).map_or(0, |word| word.load(Ordering::Acquire));
            // SAFETY: `value` has `WORDS` words, and any words make a valid value.
            unsafe { words.add(word).write_unaligned(read) };
        }
        value
    }

    /// Every element, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.elements).map(|element| self.read(element))
    }

    /// Writes an element, and the word that makes it count as there last.
    pub(super) fn write(&self, index: u32, value: &T, mark: usize) -> Result<(), DataplaneError> {
        let element = self.index(index)?;
        let words = (&raw const *value).cast::<u64>();
        for word in (0..Self::WORDS).filter(|word| *word != mark).chain([mark]) {
            // SAFETY: `value` has `WORDS` words; the callers' marks are among them.
            let new = unsafe { words.add(word).read_unaligned() };
            if let Some(word) = self.word(element, word) {
                word.store(new, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Replaces a word of an element, if it is still what it was thought to be.
    pub(super) fn replace_word(&self, element: usize, word: usize, old: u64, new: u64) {
        if let Some(word) = self.word(element, word) {
            // Who lost the race has nothing to do.
            let _ = word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Makes a word of an element another, whatever others make of it meanwhile.
    pub(super) fn change_word(
        &self,
        index: u32,
        word: usize,
        new: impl Fn(u64) -> u64,
    ) -> Result<(), DataplaneError> {
        let element = self.index(index)?;
        if let Some(word) = self.word(element, word) {
            word.update(Ordering::AcqRel, Ordering::Relaxed, new);
        }
        Ok(())
    }

    /// Sets bits of the first word of an element, whatever others change meanwhile.
    pub(super) fn set_bits(&self, element: usize, bits: u64) {
        if let Some(word) = self.word(element, 0) {
            word.fetch_or(bits, Ordering::AcqRel);
        }
    }

    /// Zeroes the first word of an element.
    pub(super) fn zero(&self, element: usize) {
        if let Some(word) = self.word(element, 0) {
            word.store(0, Ordering::Release);
        }
    }

    /// Adds to the first word of an element, whatever others add meanwhile; wraps.
    pub(super) fn add(&self, index: u32, by: u64) -> Result<(), DataplaneError> {
        let element = self.index(index)?;
        if let Some(word) = self.word(element, 0) {
            word.fetch_add(by, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Zeroes an element, the word that makes it count as there first.
    pub(super) fn clear(&self, index: u32, mark: usize) -> Result<(), DataplaneError> {
        let element = self.index(index)?;
        for word in [mark].into_iter().chain(0..Self::WORDS) {
            if let Some(word) = self.word(element, word) {
                word.store(0, Ordering::Release);
            }
        }
        Ok(())
    }
}
