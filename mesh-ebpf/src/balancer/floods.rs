//! How many flows of each service begin: too many are a flood, of which nothing is remembered that need not be.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use crate::{maps, notes};
use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use mesh_common::{flood::Flood, flow::Ticks};
use mesh_ebpf::verifier::add;

/// What is counted of each service, by their ids.
#[map]
static FLOODS: Array<Flood> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What a flow begins in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing that anybody would notice.
    Quiet,
    /// A flood, or the end of one, that has taken fewer in this tick than are too many.
    Within,
    /// A flood that has taken as many as it may.
    Beyond,
}

/// Counts a flow of a service that begins, and says in what.
#[inline(always)]
pub(crate) fn begin(service: u32, now: Ticks) -> State {
    let Some(flood) = FLOODS.get_ptr_mut(service) else { return State::Quiet };
    // SAFETY: an element of the map, whose words are read and written whole. CPUs that begin a tick at the same time each
    // count the first flow, and may lose some others that they counted meanwhile.
    let known = unsafe { &*flood };
    if known.limit == 0 {
        return State::Quiet;
    }
    let count = known.in_tick(now);
    if notes::writes() {
        // SAFETY: as above, and a place is 0 or 1.
        unsafe {
            let word = (&raw mut (*flood).begun).cast::<u64>().add(Flood::place(now));
            if count == 0 {
                word.write_volatile(Flood::first(now))
            } else {
                add(word, 1)
            };
        }
    }
    if known.is_over(count + 1) {
        State::Beyond
    } else if known.is_on(now) {
        State::Within
    } else {
        State::Quiet
    }
}

/// What a packet is that [`too_many`] is asked about, if it may begin a flow.
pub(crate) const OPENING: u32 = 1;
pub(crate) const DATAGRAM: u32 = 2;

/// Whether too many flows of a service begin for this packet's to be recorded: 1 if so.
///
/// Exported, which makes it a global function: the verifier walks through it once (kernel 5.6).
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn too_many(service: u32, now: Ticks, packet: u32) -> u32 {
    let is_so = match packet {
        OPENING => begin(service, now) != State::Quiet,
        // Nobody knows whether its flow is new: if it is not, it has its record in one of the next ticks.
        DATAGRAM => begin(service, now) == State::Beyond,
        _ => FLOODS.get(service).is_some_and(|flood| flood.is_on(now)),
    };
    is_so.into()
}

/// Notes that a SYN was answered by a cookie.
#[inline(always)]
pub(crate) fn note_answered(service: u32, now: Ticks) {
    if let Some(flood) = FLOODS.get_ptr_mut(service)
        && notes::writes()
    {
        // SAFETY: as in `begin`.
        unsafe { (&raw mut (*flood).answered).write_volatile(now) };
    }
}

/// Whether clients of a service may come back with cookies.
#[inline(always)]
pub(crate) fn expects_cookies(service: u32) -> bool {
    FLOODS.get(service).is_some_and(|flood| flood.expects_cookies(maps::now()))
}
