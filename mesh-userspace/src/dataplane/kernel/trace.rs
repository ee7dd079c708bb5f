//! Packets that are watched while they are balanced.
//!
//! Invariant: who watches may vanish at any moment, the agent included, and packets keep flowing: the instance that is
//! attached then does all that the plain one does, its programs are held by a pin, and the next agent replaces it as it
//! replaces any other.

use super::{
    Kernel, LoadError, PROGRAM, Plain, Recipe, attach,
    load::{load_programs, map_error, open, program, put_in_place, shared, typed},
    mapped::{Words, from_words},
    next::Next,
    syscalls::follow,
    turns,
};
use aya::{
    Ebpf,
    maps::{Array, MapData, MapError, PerCpuArray, RingBuf},
    programs::Xdp,
};
use mesh_common::notes::{Event, Filter, instance};
use nix::time::{ClockId, clock_gettime};
use std::{fmt, fs, io, marker::PhantomData, path::PathBuf, time::Duration};
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

/// Bytes of what was told and not yet read: some 7,000 packets.
const RING_BYTES: u32 = 1 << 22;

/// The pin that holds the programs while they are attached: without one the kernel would clear the map when the agent ends,
/// and packets would find no way.
const PIN: &str = "TRACE_PROGRAMS";

/// An instance of the programs that tells of packets, or of flows.
pub struct Tracer {
    pub(super) ebpf: Ebpf,
    /// What holds its programs, and what else goes with it.
    pins: Vec<PathBuf>,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

/// What an instance tells in a ring buffer: packets, or segments that open and close flows.
pub struct Told<T = Event> {
    ring: RingBuf<MapData>,
    missed: PerCpuArray<MapData, u64>,
    what: PhantomData<T>,
}

impl Tracer {
    /// Loads the instance, for packets that a filter wants; one that logs flows, too, if they are logged. That takes the
    /// kernel a moment: the caller should not be the agent's loop. Only one may be there at a time.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or pins are gone, that of the next program included.
    pub fn load(recipe: &Recipe, filter: &Filter, logs: bool) -> Result<(Self, Told), LoadError> {
        let mut maps = shared(&recipe.pins)?;
        let mut kind = instance::TRACING;
        if logs {
            maps.extend(turns::MAPS);
            kind |= instance::LOGGING;
        }
        let mut ebpf = open(recipe, kind, &maps)?;
        let mut wanted: Array<_, Plain<Filter>> = typed(&mut ebpf, "FILTER", Array::try_from)?;
        wanted.set(0, Plain(*filter), 0).map_err(|source| map_error("FILTER", source))?;
        let told = Told::of(&mut ebpf, "EVENTS", "MISSED")?;
        remove(&recipe.pins, &[PIN]);
        Ok((Self::assemble(recipe, ebpf, PIN, &[])?, told))
    }

    /// Loads the programs of an instance, and pins where they are. The pins of some maps go with the instance, too.
    pub(super) fn assemble(
        recipe: &Recipe,
        mut ebpf: Ebpf,
        pin: &str,
        maps: &[&str],
    ) -> Result<Self, LoadError> {
        let next = recipe.choices.next_program.as_deref().map(Next::open).transpose()?;
        load_programs(&mut ebpf)?;
        let places = put_in_place(&mut ebpf, next.as_ref())?;
        let path = recipe.pins.map(pin);
        places.pin(&path).map_err(|source| map_error("PROGRAMS", source))?;
        let pins = maps.iter().map(|map| recipe.pins.map(map)).chain([path]).collect();
        Ok(Self { ebpf, pins })
    }

    /// The program that takes the place of the plain one.
    ///
    /// # Errors
    ///
    /// The object has no such program.
    pub fn program(&mut self) -> Result<&mut Xdp, LoadError> {
        program(&mut self.ebpf, PROGRAM)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        for pin in &self.pins {
            if let Err(error) = fs::remove_file(pin) {
                warn!(%error, pin = %pin.display(), "could not remove a pin of the programs that told of packets");
            }
        }
    }
}

/// Removes the pins of instances whose agent is no more.
pub(super) fn forget(pins: &super::Pins) {
    remove(pins, &[PIN]);
    remove(pins, &turns::PINS);
}

/// Removes those of these pins that are there.
pub(super) fn remove(pins: &super::Pins, names: &[&str]) {
    for pin in names.iter().map(|name| pins.map(name)).filter(|pin| pin.exists()) {
        match fs::remove_file(&pin) {
            Ok(()) => info!(pin = %pin.display(), "removed what an earlier agent watched packets with"),
            Err(error) => warn!(%error, "could not remove what an earlier agent watched packets with"),
        }
    }
}

/// The size of the ring buffer of an instance.
pub(super) const fn ring_bytes(instance: u32) -> Option<u32> {
    if instance & instance::TRACING != 0 { Some(RING_BYTES) } else { None }
}

impl Kernel {
    /// Puts the instance that tells of packets behind every link, without losing a packet.
    ///
    /// # Errors
    ///
    /// A link cannot be updated; then the plain instance is behind all of them.
    pub fn trace_by(&mut self, tracer: &mut Tracer) -> Result<(), String> {
        let program = tracer.program().map_err(|error| error.to_string())?;
        let replaced = attach::replace_all(program, &self.recipe.pins);
        if replaced.is_err() {
            self.trace_no_more()?;
        }
        replaced
    }

    /// Puts the plain instance behind every link again.
    ///
    /// # Errors
    ///
    /// A link cannot be updated.
    pub fn trace_no_more(&mut self) -> Result<(), String> {
        let program = program(&mut self.ebpf, PROGRAM).map_err(|error| error.to_string())?;
        attach::replace_all(program, &self.recipe.pins)
    }
}

impl<T: Words> Told<T> {
    /// What an instance tells in one map, and counts in another.
    pub(super) fn of(ebpf: &mut Ebpf, ring: &'static str, missed: &'static str) -> Result<Self, LoadError> {
        let ring = typed(ebpf, ring, RingBuf::try_from)?;
        let missed = typed(ebpf, missed, PerCpuArray::try_from)?;
        Ok(Self { ring, missed, what: PhantomData })
    }

    /// The next of what was told and not yet taken.
    pub fn take(&mut self) -> Option<T> {
        value(&self.ring.next()?)
    }

    /// How often something was to be told and there was no room.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn missed(&self) -> Result<u64, MapError> {
        count(&self.missed)
    }

    /// The same for who waits until something is told. Within a runtime.
    ///
    /// # Errors
    ///
    /// The runtime cannot follow the ring buffer.
    pub fn follow(self) -> io::Result<Followed<T>> {
        Ok(Followed { ring: follow(self.ring)?, missed: self.missed, what: PhantomData })
    }
}

/// What a [`Tracer`] tells, to wait for.
pub struct Followed<T = Event> {
    ring: AsyncFd<RingBuf<MapData>>,
    missed: PerCpuArray<MapData, u64>,
    what: PhantomData<T>,
}

impl<T: Words> Followed<T> {
    /// Waits until something was told.
    ///
    /// # Errors
    ///
    /// The runtime is ending.
    pub async fn wait(&mut self) -> io::Result<()> {
        // Before it is read: what is told meanwhile makes it ready again.
        self.ring.readable_mut().await?.clear_ready();
        Ok(())
    }

    /// As [`Told::take`].
    pub fn take(&mut self) -> Option<T> {
        value(&self.ring.get_mut().next()?)
    }

    /// As [`Told::missed`].
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn missed(&self) -> Result<u64, MapError> {
        count(&self.missed)
    }
}

fn count(missed: &PerCpuArray<MapData, u64>) -> Result<u64, MapError> {
    Ok(missed.get(&0, 0)?.iter().sum())
}

/// The time at which the clock was 0 by which packets are stamped, which is the monotonic one. Since 1970.
///
/// # Errors
///
/// The kernel has no such clocks.
pub fn epoch() -> io::Result<Duration> {
    let now = |clock| clock_gettime(clock).map(Duration::from);
    Ok(now(ClockId::CLOCK_REALTIME)?.saturating_sub(now(ClockId::CLOCK_MONOTONIC)?))
}

/// A value from its bytes.
fn value<T: Words>(bytes: &[u8]) -> Option<T> {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_ne_bytes(*word));
    if !rest.is_empty() {
        return None;
    }
    from_words(&mut words)
}
