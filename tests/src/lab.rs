//! The loaded programs without a network: packets go in and come out through `BPF_PROG_TEST_RUN`.
//!
//! Invariant: a lab has its own maps on its own bpffs, so that labs do not meet.

mod bpffs;
mod connections;
mod decap;
mod flows;
mod fragments;
mod run;

pub use decap::DecapLab;
pub use run::Verdict;

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, ProgramArray};
use bpffs::BpfFs;
use mesh_common::abi::{BackendCounters, BackendEntry, ServiceEntry, flag};
use mesh_common::outcome::Outcome;
use mesh_common::schedule::MAGLEV;
use mesh_common::slot::Slot;
use mesh_userspace::config::{Protocol, ServiceKey};
use mesh_userspace::dataplane::kernel::{Choices, Kernel, Pins, Sizes};
use mesh_userspace::dataplane::{Dataplane as _, Op, abi_key, backend_entry};
use mesh_userspace::delivery::Delivery;
use mesh_userspace::guard::{Guard, Image, place};
use mesh_userspace::nexthop::NextHop;
use run::{moved, run};

/// The interface that test runs come in by: the loopback of the process's namespace.
pub const INGRESS: u32 = 1;

/// The seed of every lab's flow hash.
pub const SEED: u64 = 0x0123_4567_89ab_cdef;

/// How large the maps of every lab are.
pub const SIZES: Sizes = Sizes {
    services: 64,
    backends: 64,
    slots: 4096,
    rules: 1024,
    flows: 4096,
    connections: 4096,
    prefixes: 1024,
};

/// The balancer's program and maps.
pub struct Lab {
    /// The dataplane.
    pub kernel: Kernel,
    sizes: Sizes,
    pins: Pins,
    bpffs: BpfFs,
}

impl Lab {
    /// Loads the program with small empty maps.
    pub fn new() -> Result<Self> {
        Self::of_size(SIZES)
    }

    /// Loads the program with empty maps of these sizes.
    pub fn of_size(sizes: Sizes) -> Result<Self> {
        Self::prepared(sizes, |_| Ok(Choices { seed: Some(SEED), answer_echo: true, next_program: None }))
    }

    /// Loads the program as `choose` says, which may pin something on the lab's bpffs before.
    pub fn prepared(sizes: Sizes, choose: impl FnOnce(&Path) -> Result<Choices>) -> Result<Self> {
        let bpffs = BpfFs::mount()?;
        let choices = choose(&bpffs.path())?;
        let pins = Pins::open(&bpffs.path().join("meshlb"))?;
        let kernel = Kernel::load(pins.clone(), sizes, &choices)?;
        Ok(Self { kernel, sizes, pins, bpffs })
    }

    /// Loads the program anew over the maps that are there, as an agent does that starts again.
    pub fn restart(&mut self, choices: &Choices) -> Result<()> {
        self.kernel = Kernel::load(self.pins.clone(), SIZES, choices)?;
        Ok(())
    }

    /// Adds a service whose `size` slots from `base` on all have this value.
    pub fn service(&mut self, key: ServiceKey, id: u32, base: u32, size: u32, slot: Slot) -> Result<()> {
        self.slots(base, size, slot)?;
        self.kernel.apply(&Op::AddVip(key.vip))?;
        let entry = ServiceEntry { key: abi_key(key), id, base, size, ..ServiceEntry::default() };
        self.kernel.apply(&Op::AddService(entry))?;
        if entry.key.is_wide() { self.route() } else { Ok(()) }
    }

    /// Changes a standing service's scheduler and its limit to flows (0: none).
    pub fn schedule(&mut self, key: ServiceKey, scheduler: u32, max_flows: u32) -> Result<()> {
        let actual = self.kernel.read()?;
        let entry = actual.services.get(&abi_key(key)).context("there is no such service")?;
        let scheduled = if scheduler == MAGLEV { 0 } else { flag::SCHEDULER };
        let flags = scheduled | if max_flows == 0 { 0 } else { flag::CAPPED };
        self.kernel.apply(&Op::AddService(ServiceEntry { flags, scheduler, max_flows, ..*entry }))?;
        Ok(())
    }

    /// Has standing services serve whom their guards say; packets read this half from now on.
    pub fn guard(&mut self, guards: &[(ServiceKey, Guard)], half: u32) -> Result<()> {
        let (actual, layout) = (self.kernel.read()?, self.sizes.policies());
        let entry = |key: &ServiceKey| {
            actual.services.get(&abi_key(*key)).copied().context("there is no such service")
        };
        let guarded: Vec<_> =
            guards.iter().map(|(key, guard)| Ok((entry(key)?, guard.clone()))).collect::<Result<_>>()?;
        let by_id = guarded.iter().map(|(entry, guard)| (entry.id, guard.clone())).collect();
        self.kernel.write_policies(half, &Image::new(&by_id, half, layout))?;
        for (entry, _) in guarded {
            let (flags, policy) = (entry.flags | flag::GUARDED, place(entry.id, half, layout));
            self.kernel.apply(&Op::AddService(ServiceEntry { flags, policy, ..entry }))?;
        }
        self.route()
    }

    /// Has a standing service tell senders where there is no backend.
    pub fn reject(&mut self, key: ServiceKey) -> Result<()> {
        let actual = self.kernel.read()?;
        let entry = actual.services.get(&abi_key(key)).context("there is no such service")?;
        self.kernel.apply(&Op::AddService(ServiceEntry { reject: 1, ..*entry }))?;
        if entry.key.is_wide() { self.route() } else { Ok(()) }
    }

    /// Has packets of a standing service translated.
    pub fn translate(&mut self, key: ServiceKey) -> Result<()> {
        let actual = self.kernel.read()?;
        let entry = actual.services.get(&abi_key(key)).context("there is no such service")?;
        self.kernel.apply(&Op::AddService(ServiceEntry { flags: entry.flags | flag::NAT, ..*entry }))?;
        Ok(())
    }

    /// Has more than so many new flows in a tick be a flood, at every standing service.
    pub fn flood_limit(&mut self, limit: u32) -> Result<()> {
        let services = self.kernel.read()?.services;
        services.values().try_for_each(|entry| Ok(self.kernel.write_flood_limit(entry.id, limit)?))
    }

    /// Removes a service.
    pub fn remove_service(&mut self, key: ServiceKey) -> Result<()> {
        self.kernel.apply(&Op::RemoveService(abi_key(key)))?;
        self.route()
    }

    fn route(&mut self) -> Result<()> {
        Ok(self.kernel.apply(&Op::Route)?)
    }

    /// Loads the program anew over the maps that are there, as the next agent does.
    pub fn reload(&mut self) -> Result<()> {
        self.restart(&Choices { seed: Some(SEED), answer_echo: true, next_program: None })
    }

    /// Gives slots a value.
    pub fn slots(&mut self, base: u32, size: u32, slot: Slot) -> Result<()> {
        for index in base..base + size {
            self.kernel.apply(&Op::WriteSlot { index, slot })?;
        }
        Ok(())
    }

    /// Adds a backend, or changes it.
    pub fn backend(&mut self, id: u32, entry: BackendEntry) -> Result<()> {
        Ok(self.kernel.apply(&Op::WriteBackend { id, entry })?)
    }

    /// What was sent to a backend so far.
    pub fn counters(&self, id: u32) -> Result<BackendCounters> {
        Ok(self.kernel.counters(id)?)
    }

    /// Takes a program from its place, where the one before calls it.
    pub fn misplace(&self, program: u32) -> Result<()> {
        let programs = MapData::from_pin(self.pins.map("PROGRAMS"))?;
        Ok(ProgramArray::try_from(Map::ProgramArray(programs))?.clear_index(&program)?)
    }

    /// Runs a packet through the program.
    pub fn run(&mut self, packet: &[u8]) -> Result<Verdict<Outcome>> {
        self.run_behind(0, packet)
    }

    /// Runs a packet behind `metadata` bytes of metadata, as a driver may leave there: they take from the head room.
    pub fn run_behind(&mut self, metadata: usize, packet: &[u8]) -> Result<Verdict<Outcome>> {
        let before = self.kernel.outcomes()?;
        let (action, packet) = run(self.kernel.program()?, packet, metadata)?;
        Ok(Verdict { action, packet, moved: moved(&before, &self.kernel.outcomes()?) })
    }

    /// Runs a packet through the program without a look at the counters: the action and the packet. Faster.
    pub fn send(&mut self, packet: &[u8]) -> Result<(u32, Vec<u8>)> {
        send(&mut self.kernel, packet)
    }

    /// Where the maps are pinned.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The dataplane for somebody else to hold, and what it lives on.
    pub fn into_kernel(self) -> (Kernel, impl Sized) {
        (self.kernel, self.bpffs)
    }
}

/// Runs a packet through the program of a dataplane.
pub fn send(kernel: &mut Kernel, packet: &[u8]) -> Result<(u32, Vec<u8>)> {
    run(kernel.program()?, packet, 0)
}

/// A living backend behind the service with id 1, next to the ingress interface.
#[must_use]
pub fn neighbour(address: IpAddr, source: IpAddr, how: &Delivery) -> BackendEntry {
    let key = ServiceKey::exact([192, 0, 2, 10].into(), 80, Protocol::Tcp);
    backend_entry(1, key, address, how, &next_hop(source))
}

/// The way to a neighbour next to the ingress interface.
#[must_use]
pub const fn next_hop(source: IpAddr) -> NextHop {
    NextHop {
        ifindex: INGRESS,
        source,
        source_mac: [2, 0, 0, 0, 0, 0xbb],
        destination_mac: [2, 0, 0, 0, 0, 0xcc],
        mtu: 1600,
        direct: true,
        is_here: false,
    }
}
