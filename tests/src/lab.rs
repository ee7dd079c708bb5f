//! The loaded program without a network: packets go in and come out through `BPF_PROG_TEST_RUN`.
//!
//! Invariant: a lab has its own maps on its own bpffs, so that labs do not meet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions};
use mesh_common::abi::{BackendCounters, BackendEntry, ServiceEntry};
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_userspace::config::{Forward, ServiceKey};
use mesh_userspace::dataplane::kernel::{Kernel, Pins, Sizes};
use mesh_userspace::dataplane::{Dataplane as _, Op, abi_key, backend_entry};
use mesh_userspace::nexthop::NextHop;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// The interface that test runs come in by: the loopback of the process's namespace.
pub const INGRESS: u32 = 1;

/// The seed of every lab's flow hash.
pub const SEED: u64 = 0x0123_4567_89ab_cdef;

/// A bpffs of its own, unmounted with the value.
#[derive(Debug)]
struct BpfFs(TempDir);

impl BpfFs {
    fn mount() -> Result<Self> {
        crate::preflight::check()?;
        let directory = tempfile::Builder::new().prefix("mlb-lab-").tempdir()?;
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a bpffs")?;
        Ok(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // The directory goes with its own guard.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `XDP_PASS` and its like.
    pub action: u32,
    /// The packet as the program left it.
    pub packet: Vec<u8>,
    /// The counters that moved, and by how much.
    pub moved: BTreeMap<Outcome, u64>,
}

/// The balancer's program and maps.
pub struct Lab {
    /// The dataplane.
    pub kernel: Kernel,
    _bpffs: BpfFs,
}

impl Lab {
    /// Loads the program with small empty maps.
    pub fn new() -> Result<Self> {
        Self::sized(Sizes { services: 64, backends: 64, slots: 4096, flows: 4096 })
    }

    /// Loads the program with empty maps of a size.
    pub fn sized(sizes: Sizes) -> Result<Self> {
        let bpffs = BpfFs::mount()?;
        let kernel = Kernel::load(Pins::open(&bpffs.path().join("meshlb"))?, sizes, Some(SEED))?;
        Ok(Self { kernel, _bpffs: bpffs })
    }

    /// Adds a service whose `size` slots from `base` on all have this value.
    pub fn service(&mut self, key: ServiceKey, id: u32, base: u32, size: u32, slot: Slot) -> Result<()> {
        self.slots(base, size, slot)?;
        let entry = ServiceEntry { key: abi_key(key), id, base, size, ..ServiceEntry::default() };
        Ok(self.kernel.apply(&Op::AddService(entry))?)
    }

    /// Gives slots a value.
    pub fn slots(&mut self, base: u32, size: u32, slot: Slot) -> Result<()> {
        for index in base..base + size {
            self.kernel.apply(&Op::WriteSlot { index, slot })?;
        }
        Ok(())
    }

    /// Adds a backend.
    pub fn backend(&mut self, id: u32, entry: BackendEntry) -> Result<()> {
        Ok(self.kernel.apply(&Op::WriteBackend { id, entry })?)
    }

    /// What was sent to a backend so far.
    pub fn counters(&self, id: u32) -> Result<BackendCounters> {
        Ok(self.kernel.counters(id)?)
    }

    /// Runs a packet through the program.
    pub fn run(&mut self, packet: &[u8]) -> Result<Verdict> {
        let before = self.kernel.outcomes()?;
        let mut out = vec![0xa5; packet.len() + 256];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ctx_in: None,
            ctx_out: None,
            repeat: 1,
            attrs: TestRunAttrs::new(),
        };
        let result = self.kernel.program()?.test_run(options)?;
        out.truncate(usize::try_from(result.data_size_out)?);
        let after = self.kernel.outcomes()?;
        let moved = after.into_iter().map(|(outcome, count)| {
            let before = before.get(&outcome).copied().unwrap_or(0);
            (outcome, count - before)
        });
        Ok(Verdict {
            action: result.return_value,
            packet: out,
            moved: moved.filter(|(_, by)| *by > 0).collect(),
        })
    }
}

/// A living backend behind the service with id 1, next to the ingress interface.
#[must_use]
pub fn neighbour(address: IpAddr, source: IpAddr, how: Forward) -> BackendEntry {
    let hop = NextHop {
        ifindex: INGRESS,
        source,
        source_mac: [2, 0, 0, 0, 0, 0xbb],
        destination_mac: [2, 0, 0, 0, 0, 0xcc],
        mtu: 1600,
    };
    backend_entry(1, 80, address, how, &hop)
}
