//! The kernel behind the [`Dataplane`] trait: the program, its maps and its links, all pinned.
//!
//! Invariant: the agent may end at any moment and packets keep flowing; the next one adopts what it finds, after
//! checking that it is what it expects.

mod attach;
mod connections;
mod explain;
mod filter;
mod floods;
mod flows;
mod guards;
mod load;
mod mapped;
mod memory;
mod next;
mod pins;
mod quic;
mod runs;
mod services;
mod syscalls;
mod trace;
mod turns;
mod vips;
mod wide;

pub(crate) use attach::attach_best;
pub use attach::{AttachError, Attached, Mode};
pub use explain::{ExplainError, Explained, Explainer};
pub use load::{Choices, LoadError, Loaded, LoadedProgram, Sizes};
pub use memory::{InTries, MapMemory, memory};
pub use next::NextError;
pub(crate) use pins::{BPFFS, is_bpffs};
pub use pins::{PinError, Pins};
pub use runs::Runs;
pub(crate) use syscalls::wait_for_packets;
pub use trace::{Followed, Told, Tracer, epoch};

use super::{Actual, Dataplane, DataplaneError, Flow, Load, Op, flow_hash};
use crate::{config::XdpMode, guard::Image};
use aya::{
    Ebpf,
    maps::{IterableMap as _, MapData, PerCpuArray},
    programs::{ProgramError, TestRun as _, TestRunOptions, Xdp},
    util::nr_cpus,
};
use connections::Connections;
use floods::Floods;
use flows::FlowTable;
use guards::GuardMaps;
use mapped::Mapped;
use mesh_common::{
    abi::{BackendCounters, BackendEntry, ServiceEntry, flag, programs},
    connection::Sources,
    flood::Flood,
    flow::Ticks,
    outcome::Outcome,
    quic::{Config, Routed},
    slot::Slot,
    table,
};
use quic::QuicMaps;
use services::ServiceTable;
use std::{collections::BTreeMap, error::Error, io, os::fd::AsFd as _};
use syscalls::read_per_cpu;
use vips::Vips;
use wide::WideMaps;

/// Values of the maps, for aya: foreign types need a type of our own to be marked as plain.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T: Copy>(T);

/// The program that is attached, by its name in the object.
pub(crate) const PROGRAM: &str = "meshlb";

/// The programs of the whole way, in the order in which they call each other, and their places.
const WAY: [(&str, u32); 11] = [
    ("whole", programs::WHOLE),
    ("quic", programs::QUIC),
    ("choose", programs::CHOOSE),
    ("nat", programs::NAT),
    ("connect", programs::CONNECT),
    ("reply", programs::REPLY),
    ("translate", programs::TRANSLATE),
    ("cookie", programs::COOKIE),
    ("splice", programs::SPLICE),
    ("deliver", programs::DELIVER),
    ("reject", programs::REJECT),
];

/// The program that tells the time by which it stamps flow records.
const CLOCK: &str = "clock";

/// The word of a backend's entry that says that there is one.
const BACKEND_MARK: usize = 1;

/// What it takes to load another instance of the programs over the same maps.
#[derive(Clone, Debug)]
pub struct Recipe {
    pins: Pins,
    sizes: Sizes,
    choices: Choices,
    seed: u64,
}

/// The kernel's maps and program.
pub struct Kernel {
    ebpf: Ebpf,
    recipe: Recipe,
    loaded: Loaded,
    services: ServiceTable,
    vips: Vips,
    slots: Mapped<Slot>,
    backends: Mapped<BackendEntry>,
    counters: PerCpuArray<MapData, Plain<BackendCounters>>,
    outcomes: PerCpuArray<MapData, u64>,
    quic: QuicMaps,
    flows: FlowTable,
    wide: WideMaps,
    guards: GuardMaps,
    connections: Connections,
    floods: Floods,
    loads: Mapped<u64>,
}

impl Kernel {
    /// Facts about the loaded program.
    #[must_use]
    pub const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// What it takes to load another instance of the programs over the same maps.
    #[must_use]
    pub const fn recipe(&self) -> &Recipe {
        &self.recipe
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
        attach::attach(program, &self.recipe.pins, interface, mode)
    }

    /// Records a flow with the age that it has, unless its bucket is full.
    pub fn record_flow(&mut self, flow: &Flow) -> Option<()> {
        self.flows.put(table::key(flow_hash(self.loaded.seed, flow.client), flow.service), flow)
    }

    /// Where the loads have one.
    fn load_of(&self, of: Load) -> u32 {
        match of {
            Load::Backend(id) => id,
            Load::Service(id) => u32::try_from(self.backends.len()).unwrap_or(u32::MAX).saturating_add(id),
        }
    }

    /// What was sent to all backends that ever were.
    fn sent(&self) -> Result<BackendCounters, DataplaneError> {
        let failed = |source: io::Error| DataplaneError::Map {
            map: "BACKEND_COUNTERS",
            action: "read",
            source: source.into(),
        };
        let cpus = nr_cpus().map_err(|(_, source)| failed(source))?;
        let elements = usize::try_from(self.counters.len()).unwrap_or(0);
        let map = self.counters.map().fd().as_fd();
        let words = read_per_cpu(map, elements, BackendCounters::WORDS, cpus).map_err(failed)?;
        let (counters, _) = words.as_chunks::<{ BackendCounters::WORDS }>();
        Ok(counters.iter().fold(BackendCounters::default(), |sum, words| sum.plus(&(*words).into())))
    }

    /// Detaches from every interface but these, which the plain instance is attached to.
    ///
    /// # Errors
    ///
    /// A pin cannot be read or removed.
    pub fn keep_only(&self, interfaces: &[String]) -> Result<(), PinError> {
        attach::keep_only(&self.recipe.pins, interfaces)?;
        trace::forget(&self.recipe.pins);
        Ok(())
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
        let (quic, server_ids) = (self.quic.configs()?, self.quic.server_ids()?);
        let routes = self.wide.read(&services)?;
        let (vips, slots) = (self.vips.read()?, self.slots.iter().collect());
        Ok(Actual { services, vips, backends, slots, quic, server_ids, routes })
    }

    fn apply(&mut self, op: &Op) -> Result<(), DataplaneError> {
        match *op {
            Op::WriteBackend { id, entry } => self.backends.write(id, &entry, BACKEND_MARK),
            Op::RemoveBackend { id } => {
                self.connections.forget(id);
                self.backends.clear(id, BACKEND_MARK)
            }
            Op::WriteSlot { index, slot } => self.slots.write(index, &slot, 0),
            Op::AddService(entry) => {
                if entry.flags & flag::NAT != 0 {
                    self.connections.expect()?;
                }
                self.services.add(entry)
            }
            Op::RemoveService(key) => self.services.remove(key),
            Op::WriteQuicConfig { key, parameters } => self.quic.write_config(key, &Config::new(&parameters)),
            Op::RemoveQuicConfig(key) => self.quic.remove_config(key),
            Op::WriteServerId { key, backend } => self.quic.write_server_id(key, backend),
            Op::RemoveServerId(key) => self.quic.remove_server_id(key),
            Op::Route => self.wide.route(&self.services.iter().map(|entry| (entry.key, entry)).collect()),
            Op::AddVip(vip) => self.vips.add(vip),
            Op::RemoveVip(vip) => self.vips.remove(vip),
            Op::Grace => {
                wait_for_packets();
                Ok(())
            }
        }
    }

    fn write_policies(&mut self, half: u32, image: &Image) -> Result<(), DataplaneError> {
        self.guards.write(half, image)
    }

    fn write_sources(&mut self, service: u32, sources: &Sources) -> Result<(), DataplaneError> {
        self.connections.write_sources(service, sources)
    }

    fn write_flood_limit(&mut self, service: u32, limit: u32) -> Result<(), DataplaneError> {
        self.floods.set_limit(service, limit)
    }

    fn flood(&self, service: u32) -> Flood {
        self.floods.read(service)
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
        outcomes.extend([
            (Outcome::Transmitted, sent.transmitted),
            (Outcome::Redirected, sent.redirected),
            (Outcome::ReplyTransmitted, sent.replies_transmitted),
            (Outcome::ReplyRedirected, sent.replies_redirected),
        ]);
        Ok(outcomes)
    }

    fn routed(&self) -> Result<BTreeMap<(Routed, u32), u64>, DataplaneError> {
        self.quic.routed()
    }

    fn load(&self, of: Load) -> u64 {
        self.loads.read(usize::try_from(self.load_of(of)).unwrap_or(usize::MAX))
    }

    fn connections(&self) -> u64 {
        self.connections.count()
    }

    fn unanswered(&self, backend: u32) -> u64 {
        self.connections.unanswered(backend)
    }

    fn silent(&self, backend: u32) -> u64 {
        self.connections.silent(backend)
    }

    fn add_load(&mut self, of: Load, by: u64) -> Result<(), DataplaneError> {
        self.loads.add(self.load_of(of), by)
    }

    fn retain_flows(
        &mut self,
        now: Ticks,
        visit: &mut dyn FnMut(&Flow) -> bool,
    ) -> Result<(), DataplaneError> {
        self.flows.retain(now, visit);
        self.connections.retain(now, visit)
    }

    fn renew_filter(&mut self, records: u64) -> Result<(), DataplaneError> {
        self.flows.renew_filter(records)
    }

    fn now(&self) -> Result<Ticks, DataplaneError> {
        let run = || {
            let program = self.ebpf.program(CLOCK).ok_or(ProgramError::NotLoaded)?;
            let program: &Xdp = program.try_into()?;
            // The kernel runs nothing without a packet, however little it says.
            program.test_run(TestRunOptions { data_in: Some(&[0; 14]), ..TestRunOptions::new() })
        };
        let failed = |source: ProgramError| DataplaneError::Clock { source: source.into() };
        Ok(run().map_err(failed)?.return_value)
    }

    fn seed(&self) -> u64 {
        self.loaded.seed
    }
}
