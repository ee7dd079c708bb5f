//! Packets that are watched while they are balanced.
//!
//! Invariant: who watches may vanish at any moment, the agent included, and packets keep flowing: the instance that is
//! attached then does all that the plain one does, its programs are held by a pin, and the next agent replaces it as it
//! replaces any other.

use super::{
    Kernel, LoadError, PROGRAM, Plain, Recipe, attach,
    load::{load_programs, map_error, open, program, put_in_place, shared, typed},
    next::Next,
    syscalls::follow,
};
use aya::{
    Ebpf,
    maps::{Array, MapData, MapError, PerCpuArray, RingBuf},
    programs::Xdp,
};
use mesh_common::notes::{Event, Filter, instance};
use std::{fmt, fs, io, path::PathBuf};
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

/// Bytes of what was told and not yet read: some 7,000 packets.
const RING_BYTES: u32 = 1 << 22;

/// The pin that holds the programs while they are attached: without one the kernel would clear the map when the agent ends,
/// and packets would find no way.
const PIN: &str = "TRACE_PROGRAMS";

/// The instance of the programs that tells of packets.
pub struct Tracer {
    pub(super) ebpf: Ebpf,
    pin: PathBuf,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

/// What it tells.
pub struct Told {
    ring: RingBuf<MapData>,
    missed: PerCpuArray<MapData, u64>,
}

impl Tracer {
    /// Loads the instance, for packets that a filter wants. That takes the kernel a moment: the caller should not be the
    /// agent's loop. Only one may be there at a time.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or pins are gone, that of the next program included.
    pub fn load(recipe: &Recipe, filter: &Filter) -> Result<(Self, Told), LoadError> {
        let next = recipe.choices.next_program.as_deref().map(Next::open).transpose()?;
        let mut ebpf = open(recipe, instance::TRACING, &shared(&recipe.pins)?)?;
        load_programs(&mut ebpf)?;
        let mut wanted: Array<_, Plain<Filter>> = typed(&mut ebpf, "FILTER", Array::try_from)?;
        wanted.set(0, Plain(*filter), 0).map_err(|source| map_error("FILTER", source))?;
        let ring = typed(&mut ebpf, "EVENTS", RingBuf::try_from)?;
        let missed = typed(&mut ebpf, "MISSED", PerCpuArray::try_from)?;
        let pin = recipe.pins.map(PIN);
        forget(&recipe.pins);
        let places = put_in_place(&mut ebpf, next.as_ref())?;
        places.pin(&pin).map_err(|source| map_error("PROGRAMS", source))?;
        Ok((Self { ebpf, pin }, Told { ring, missed }))
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
        if let Err(error) = fs::remove_file(&self.pin) {
            warn!(%error, "could not remove the pin of the programs that told of packets");
        }
    }
}

/// Removes the pin of an instance whose agent is no more.
pub(super) fn forget(pins: &super::Pins) {
    let pin = pins.map(PIN);
    if pin.exists() {
        match fs::remove_file(&pin) {
            Ok(()) => info!("removed what an earlier agent watched packets with"),
            Err(error) => warn!(%error, "could not remove what an earlier agent watched packets with"),
        }
    }
}

/// The size of the ring buffer of an instance.
pub(super) const fn ring_bytes(instance: u32) -> Option<u32> {
    if instance == instance::TRACING { Some(RING_BYTES) } else { None }
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

impl Told {
    /// The next packet of what was told and not yet taken.
    pub fn take(&mut self) -> Option<Event> {
        event(&self.ring.next()?)
    }

    /// Packets that were wanted and for which there was no room.
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
    pub fn follow(self) -> io::Result<Followed> {
        Ok(Followed { ring: follow(self.ring)?, missed: self.missed })
    }
}

/// What a [`Tracer`] tells, to wait for.
pub struct Followed {
    ring: AsyncFd<RingBuf<MapData>>,
    missed: PerCpuArray<MapData, u64>,
}

impl Followed {
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
    pub fn take(&mut self) -> Option<Event> {
        event(&self.ring.get_mut().next()?)
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

/// An event from its bytes.
fn event(bytes: &[u8]) -> Option<Event> {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_ne_bytes(*word));
    if !rest.is_empty() {
        return None;
    }
    super::mapped::from_words(&mut words)
}
