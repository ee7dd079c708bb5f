//! The maps of the measuring programs, and the only code that touches them.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, ProgramArray},
    programs::XdpContext,
};
use mesh_common::bench::Traffic;

/// What the wrapper plays.
#[map]
static TRAFFIC: Array<Traffic> = Array::with_max_entries(1, 0);

/// The program under test.
#[map]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// How many backends the floors choose from.
pub(crate) const BACKENDS: u32 = 128;

/// The floors' backends, one cache line each; nobody fills them, since zeros take as long.
#[map]
static FLOOR_BACKENDS: Array<[u64; 8]> = Array::with_max_entries(BACKENDS, BPF_F_MMAPABLE);

/// The traffic as it is for this packet; it goes on to the next.
#[inline(always)]
pub(crate) fn next_packet() -> Option<Traffic> {
    let traffic = TRAFFIC.get_ptr_mut(0)?;
    // SAFETY: the pointer comes from the map; one test run at a time uses it.
    unsafe {
        let now = *traffic;
        (*traffic).advance();
        Some(now)
    }
}

/// Goes on in the program under test; comes back only if there is none.
#[inline(always)]
pub(crate) fn call_program(context: &XdpContext) {
    // SAFETY: nothing is left to drop here.
    unsafe { PROGRAMS.tail_call(context, 0) };
}

/// A floor's backend.
#[inline(always)]
pub(crate) fn floor_backend(index: u32) -> Option<&'static [u64; 8]> {
    FLOOR_BACKENDS.get(index)
}
