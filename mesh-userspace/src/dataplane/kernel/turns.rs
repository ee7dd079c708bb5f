//! Segments that open and close flows, as the programs tell of them while flows are logged.
//!
//! Invariant: the ring buffer is one, whichever instance is attached: that of the log alone, or one that somebody watches
//! packets by and that logs, too. Both find it by its pin.

use super::{
    LoadError, Recipe, Told, Tracer,
    load::{open, shared},
    trace,
};
use mesh_common::notes::{FlowEvent, instance};

/// Bytes of what was told and not yet read: some 58,000 segments.
const RING_BYTES: u32 = 1 << 22;

/// The maps of the log, which are pinned while it goes on.
pub(super) const MAPS: [&str; 2] = ["FLOWS", "FLOWS_MISSED"];

/// The pin that holds the programs while they are attached.
const PIN: &str = "LOG_PROGRAMS";

/// All pins of the log.
pub(super) const PINS: [&str; 3] = [PIN, MAPS[0], MAPS[1]];

/// The size of the ring buffer of an instance.
pub(super) const fn ring_bytes(instance: u32) -> Option<u32> {
    if instance & instance::LOGGING != 0 { Some(RING_BYTES) } else { None }
}

impl Tracer {
    /// Loads the instance that tells of flows, and of nothing else.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or pins are gone, that of the next program included.
    pub fn log(recipe: &Recipe) -> Result<(Self, Told<FlowEvent>), LoadError> {
        trace::remove(&recipe.pins, &PINS);
        let mut maps = shared(&recipe.pins)?;
        maps.extend(MAPS);
        let mut ebpf = open(recipe, instance::LOGGING, &maps)?;
        let turns = Told::of(&mut ebpf, MAPS[0], MAPS[1])?;
        let tracer = Self::assemble(recipe, ebpf, PIN, &MAPS)?;
        Ok((tracer, turns))
    }
}
