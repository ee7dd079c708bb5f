//! The maps of connections: who is translated to what.
#![expect(unsafe_code, reason = "map values are reached through raw pointers")]

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap},
};
use mesh_common::{
    connection::{Connection, Reply, Sources, Splice, Way, sign},
    flow::Ticks,
    siphash::Key,
    tuple::Tuple,
};
use mesh_ebpf::verifier::set;

/// The clients' directions of connections.
#[map]
static CONNECTIONS: HashMap<Tuple, Connection> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The backends' directions.
#[map]
static REPLIES: HashMap<Tuple, Reply> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Where packets to backends come from, by services' ids.
#[map]
static SOURCES: Array<Sources> = Array::with_max_entries(1, 0);

/// 1 once there is a service whose packets are translated.
#[map]
static TRANSLATES: Array<u32> = Array::with_max_entries(1, 0);

/// What cookies are baked with; the agent makes it once, and the next agent goes on with it.
#[map]
static COOKIE_KEY: Array<Key> = Array::with_max_entries(1, 0);

/// Why an entry was not made.
pub(crate) enum Refused {
    /// There is one already.
    Exists,
    /// There is no room.
    Full,
}

impl Refused {
    #[inline(always)]
    const fn of(error: i32) -> Self {
        const EEXIST: i32 = 17;
        if error == -EEXIST { Self::Exists } else { Self::Full }
    }
}

/// Whether a packet of nobody that we know may be a backend's answer.
#[inline(always)]
pub(crate) fn any() -> bool {
    TRANSLATES.get(0).is_some_and(|any| *any != 0)
}

/// What cookies are baked with.
#[inline(always)]
pub(crate) fn cookie_key() -> Key {
    COOKIE_KEY.get(0).copied().unwrap_or_default()
}

/// Where packets to backends of a service come from.
#[inline(always)]
pub(crate) fn sources(service: u32) -> Option<&'static Sources> {
    SOURCES.get(service)
}

/// The connection of a client's packet.
#[inline(always)]
pub(crate) fn connection(tuple: &Tuple) -> Option<Known> {
    CONNECTIONS.get_ptr_mut(tuple).map(Known)
}

/// The connection of a backend's packet.
#[inline(always)]
pub(crate) fn reply(tuple: &Tuple) -> Option<&'static mut Reply> {
    // SAFETY: an element of the map. CPUs that change it at the same time write whole words, each of which makes sense with
    // the others as they were or are.
    REPLIES.get_ptr_mut(tuple).map(|reply| unsafe { &mut *reply })
}

/// Makes the backend's direction of a connection, unless another has its tuple.
#[inline(always)]
pub(crate) fn claim(tuple: &Tuple, reply: &Reply) -> Result<(), Refused> {
    REPLIES.insert(tuple, reply, u64::from(BPF_NOEXIST)).map_err(Refused::of)
}

/// Gives a tuple back.
#[inline(always)]
pub(crate) fn release(tuple: &Tuple) {
    let _ = REPLIES.remove(tuple);
}

/// Makes the client's direction of a connection; in place of another, if it `replaces` one.
#[inline(always)]
pub(crate) fn begin(tuple: &Tuple, connection: &Connection, replaces: bool) -> Result<(), Refused> {
    let how = if replaces { BPF_ANY } else { BPF_NOEXIST };
    CONNECTIONS.insert(tuple, connection, u64::from(how)).map_err(Refused::of)
}

/// The client's direction of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Known(*mut Connection);

impl Known {
    /// What is known of it.
    #[inline(always)]
    pub(crate) const fn get(&self) -> &'static Connection {
        // SAFETY: as in `reply`.
        unsafe { &*self.0 }
    }

    /// Notes a packet, in whichever direction.
    #[inline(always)]
    pub(crate) fn note(self, now: Ticks, signs: u32) {
        // SAFETY: an element of the map; `seen` and `signs` fill an aligned word.
        unsafe {
            if (*self.0).seen != now {
                (&raw mut (*self.0).seen).write_volatile(now);
            }
            if (*self.0).signs & signs != signs {
                set((&raw mut (*self.0).seen).cast(), u64::from(signs) << 32);
            }
        }
    }

    /// Begins the connection anew.
    #[inline(always)]
    pub(crate) fn renew(self, now: Ticks) {
        // SAFETY: as in `note`.
        unsafe { (&raw mut (*self.0).seen).cast::<u64>().write_volatile(u64::from(now)) };
    }

    /// Notes that the backend has answered, and how its numbers are changed.
    #[inline(always)]
    pub(crate) fn splice(self, splice: Splice) {
        // SAFETY: as in `note`; who reads the sign finds the rest.
        unsafe {
            (&raw mut (*self.0).splice).cast::<u64>().write_volatile(
                u64::from(splice.difference) | u64::from(splice.theirs) << 32 | u64::from(splice.ours) << 40,
            );
            set((&raw mut (*self.0).seen).cast(), u64::from(sign::SPLICED) << 32);
        }
    }

    /// Notes that the client comes by another way.
    #[inline(always)]
    pub(crate) fn turn_to(self, way: &Way) {
        // SAFETY: as in `reply`.
        let known = unsafe { &mut *self.0 };
        known.way = Way { room: known.way.room, ..*way };
        if let Some(reply) = reply(&known.to.turned()) {
            reply.way = known.way;
        }
    }
}
