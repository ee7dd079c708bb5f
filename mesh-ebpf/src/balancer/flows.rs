//! The flow table, which is a part of the [`tables`]: its layout and the choices in it are [`table`]'s.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use crate::tables::{self, Tables};
use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use mesh_common::{
    filter::Mark,
    flow::{FlowRecord, Ticks},
    table::{self, Bucket, Client, Clients, Found, OVERFLOWED, WAYS},
};
use mesh_ebpf::verifier::{larger, set};

/// Who the flows of each bucket are. The program writes it only.
#[map]
static CLIENTS: Array<Clients> = Array::with_max_entries(1, BPF_F_MMAPABLE);

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
fn bucket(tables: Tables, index: u32) -> Option<(*mut Bucket, u64)> {
    let bucket = tables.bucket(index)?;
    // SAFETY: the pointer comes from the map; words are read whole, whoever writes them meanwhile.
    Some((bucket, unsafe { bucket.cast::<u64>().read_volatile() }))
}

/// Whether a flow may be recorded; if not, it surely is not.
#[inline(always)]
pub(crate) fn may_be_recorded(tables: Tables, key: u64) -> bool {
    let mark = Mark::of(key);
    let word = tables.filter_word(tables.filter_generation(), mark);
    // SAFETY: an element of the map; words are read whole, whoever writes them meanwhile.
    word.is_none_or(|word| mark.is_in(unsafe { word.read_volatile() }))
}

/// Sets a flow's bits in both generations of the filter.
#[inline(always)]
fn note(tables: Tables, key: u64) {
    let mark = Mark::of(key);
    for generation in [0, 1] {
        if let Some(word) = tables.filter_word(generation, mark) {
            // SAFETY: an aligned element of the map, whose bits everybody changes atomically.
            unsafe {
                if !mark.is_in(word.read_volatile()) {
                    set(word, mark.bits());
                }
            }
        }
    }
}

/// A flow's record, and where it stands.
#[inline(always)]
pub(crate) fn find(tables: Tables, key: u64, now: Ticks) -> Option<(Place, FlowRecord)> {
    let [first, second] = table::buckets(key, tables::flow_buckets());
    let (first, tags) = bucket(tables, first)?;
    let found = find_in(first, tags, key, now);
    if found.is_some() || tags & u64::from(OVERFLOWED) == 0 {
        return found;
    }
    let (second, tags) = bucket(tables, second)?;
    find_in(second, tags, key, now)
}

/// Looks at up to three records whose tags are the flow's; of seven other flows more than that have it with a probability
/// of 10^-8.
#[inline(always)]
fn find_in(bucket: *mut Bucket, tags: u64, key: u64, now: Ticks) -> Option<(Place, FlowRecord)> {
    let found = Found::tags(tags, table::tag(key));
    let at = |found: Found| {
        let place = Place::new(bucket, found.first()?);
        Some((place, place.read(key, now)?))
    };
    at(found).or_else(|| at(found.rest())).or_else(|| at(found.rest().rest()))
}

/// Records a new flow: at a free place of its first bucket, else of its second, else at that of the most expendable flow of
/// the first. A bucket full of active flows takes none. Where an instance does not write, only whether there is a place is
/// found out.
#[inline(always)]
pub(crate) fn record(
    tables: Tables,
    key: u64,
    record: &FlowRecord,
    now: Ticks,
    client: &Client,
    writes: bool,
) -> Option<()> {
    let (index, place) = place_for(tables, key, now, writes)?;
    if !writes {
        return Some(());
    }
    // Before the flow is there, so that nobody who looks for it is told that it surely is not.
    note(tables, key);
    place.take(key, record);
    name(index, place.at, client);
    Some(())
}

#[inline(always)]
fn place_for(tables: Tables, key: u64, now: Ticks, writes: bool) -> Option<(u32, Place)> {
    let [first, second] = table::buckets(key, tables::flow_buckets());
    let (full, tags) = bucket(tables, first)?;
    if let Some(at) = Found::tags(tags, 0).first() {
        return Some((first, Place::new(full, at)));
    }
    let (other, tags) = bucket(tables, second)?;
    if let Some(at) = Found::tags(tags, 0).first() {
        if writes {
            // Before the flow is there, so that nobody looks for it in vain.
            mark(full, 0, OVERFLOWED);
        }
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
