//! The kernel behind the [`Dataplane`] trait: the program, its maps and its links, all pinned.
//!
//! Invariant: the agent may end at any moment and packets keep flowing; the next one adopts what it finds, after
//! checking that it is what it expects.

mod attach;
mod flows;
mod load;
mod mapped;
mod next;
mod pins;
mod services;
mod syscalls;
mod vips;

pub(crate) use attach::attach_best;
pub use attach::{AttachError, Attached, Mode};
pub use load::{Choices, LoadError, Loaded, LoadedProgram, Sizes};
pub use next::NextError;
pub use pins::{PinError, Pins};

use super::{Actual, Dataplane, DataplaneError, Flow, Op};
use crate::config::XdpMode;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
    programs::Xdp,
};
use flows::FlowTable;
use mapped::Mapped;
use mesh_common::{
    abi::{BackendCounters, BackendEntry, ServiceEntry},
    flow::Ticks,
    outcome::Outcome,
    slot::Slot,
};
use services::ServiceTable;
use std::{collections::BTreeMap, error::Error, io};
use syscalls::wait_for_packets;
use vips::Vips;

/// Values of the maps, for aya: foreign types need a type of our own to be marked as plain.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T: Copy>(T);

/// The program that is attached, by its name in the object.
const PROGRAM: &str = "meshlb";

/// The program that it hands over to.
const WHOLE: &str = "whole";

/// The word of a backend's entry that says that there is one.
const BACKEND_MARK: usize = 1;

/// The kernel's maps and program.
pub struct Kernel {
    ebpf: Ebpf,
    pins: Pins,
    loaded: Loaded,
    services: ServiceTable,
    vips: Vips,
    slots: Mapped<Slot>,
    backends: Mapped<BackendEntry>,
    counters: PerCpuArray<MapData, Plain<BackendCounters>>,
    outcomes: PerCpuArray<MapData, u64>,
    flows: FlowTable,
}

impl Kernel {
    /// Facts about the loaded program.
    #[must_use]
    pub const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The program, for test runs.
    ///
    /// # Errors
    ///
    /// The object has no such program.
    pub fn program(&mut self) -> Result<&mut Xdp, LoadError> {
        load::program(&mut self.ebpf, PROGRAM)
    }

    /// Attaches the program to an interface, replacing the one of an earlier agent without losing a packet.
    ///
    /// # Errors
    ///
    /// The interface is not there, belongs to somebody else's program, or cannot be attached to in this mode.
    pub fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<Attached, AttachError> {
        let program = load::program(&mut self.ebpf, PROGRAM).map_err(Box::new)?;
        attach::attach(program, &self.pins, interface, mode)
    }

    /// What was sent to all backends that ever were.
    fn sent(&self) -> Result<BackendCounters, DataplaneError> {
        (0..self.counters.len())
            .try_fold(BackendCounters::default(), |sum, id| Ok(sum.plus(&self.counters(id)?)))
    }

    /// Detaches from every interface but these.
    ///
    /// # Errors
    ///
    /// A pin cannot be read or removed.
    pub fn keep_only(&self, interfaces: &[String]) -> Result<(), PinError> {
        attach::keep_only(&self.pins, interfaces)
    }
}

/// Whether the kernel says that there is no such thing.
fn is_missing(error: &(dyn Error + 'static)) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
        || error.source().is_some_and(is_missing)
}

impl Dataplane for Kernel {
    fn read(&self) -> Result<Actual, DataplaneError> {
        let backends = (0u32..).zip(self.backends.iter()).filter(|(_, entry)| entry.forward != 0).collect();
        let services: BTreeMap<_, ServiceEntry> =
            self.services.iter().map(|entry| (entry.key, entry)).collect();
        Ok(Actual { services, vips: self.vips.read()?, backends, slots: self.slots.iter().collect() })
    }

    fn apply(&mut self, op: &Op) -> Result<(), DataplaneError> {
        match *op {
            Op::WriteBackend { id, entry } => self.backends.write(id, &entry, BACKEND_MARK),
            Op::RemoveBackend { id } => self.backends.clear(id, BACKEND_MARK),
            Op::WriteSlot { index, slot } => self.slots.write(index, &slot, 0),
            Op::AddService(entry) => self.services.add(entry),
            Op::RemoveService(key) => self.services.remove(key),
            Op::AddVip(vip) => self.vips.add(vip),
            Op::RemoveVip(vip) => self.vips.remove(vip),
            Op::Grace => {
                wait_for_packets();
                Ok(())
            }
        }
    }

    fn counters(&self, backend: u32) -> Result<BackendCounters, DataplaneError> {
        let values = self.counters.get(&backend, 0).map_err(|source| DataplaneError::Map {
            map: "BACKEND_COUNTERS",
            action: "read",
            source: source.into(),
        })?;
        Ok(values.iter().fold(BackendCounters::default(), |sum, Plain(cpu)| sum.plus(cpu)))
    }

    fn outcomes(&self) -> Result<BTreeMap<Outcome, u64>, DataplaneError> {
        let read =
            |outcome: &Outcome| {
                let values = self.outcomes.get(&outcome.index(), 0).map_err(|source| {
                    DataplaneError::Map { map: "OUTCOMES", action: "read", source: source.into() }
                })?;
                Ok((*outcome, values.iter().copied().fold(0, u64::wrapping_add)))
            };
        let mut outcomes: BTreeMap<Outcome, u64> = Outcome::ALL.iter().map(read).collect::<Result<_, _>>()?;
        let sent = self.sent()?;
        outcomes.extend([(Outcome::Transmitted, sent.transmitted), (Outcome::Redirected, sent.redirected)]);
        Ok(outcomes)
    }

    fn retain_flows(&mut self, now: Ticks, visit: &mut dyn FnMut(&Flow) -> bool) {
        self.flows.retain(now, visit);
    }

    fn seed(&self) -> u64 {
        self.loaded.seed
    }
}
