//! Hosts around a switch:
//!
//! ```text
//!   client ──┐ (or: client ── router ──┐)
//!            ├── switch ── backend-1 … backend-N
//! balancer ──┘
//! ```
//!
//! The balancer is on a stick: traffic comes in and goes out of its `eth0`. A VIP is routed to the balancer
//! and lives on `lo` of every backend, which answers the client directly.

mod addresses;
mod builder;
mod wiring;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use aya::Ebpf;
use ipnet::IpNet;
use mesh_userspace::config::is_address;

use self::addresses::FABRIC;
pub use self::builder::Builder;
use self::wiring::SILENT_VIPS;
use crate::cleanup::BPFFS;
use crate::host::Host;
use crate::name;
use crate::namespace::Namespace;
use crate::pass;
use crate::registry::Lease;

/// Hosts, links and a bpffs of their own; dropping it removes them.
#[derive(Debug)]
pub struct Topology {
    shape: Builder,
    switch: Namespace,
    hosts: Hosts,
    vips: Vec<IpNet>,
    /// The programs at far ends, by the host's name.
    native: Mutex<BTreeMap<String, Ebpf>>,
    lease: Lease,
}

#[derive(Debug)]
struct Hosts {
    client: Host,
    balancer: Host,
    router: Option<Host>,
    backends: Vec<Host>,
}

impl Topology {
    /// One backend, no router, MTU 1600 with 1500 at the client, unless said otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn new(shape: Builder, lease: Lease, switch: Namespace, hosts: Hosts) -> Self {
        Self { shape, switch, hosts, vips: Vec::new(), native: Mutex::default(), lease }
    }

    /// The name that all its namespaces begin with.
    pub fn name(&self) -> &str {
        self.lease.name()
    }

    /// Where the clients are.
    pub fn client(&self) -> &Host {
        &self.hosts.client
    }

    /// Where the agent runs.
    pub fn balancer(&self) -> &Host {
        &self.hosts.balancer
    }

    /// The router between the client and the rest, if there is one.
    pub fn router(&self) -> Option<&Host> {
        self.hosts.router.as_ref()
    }

    /// All backends, `backend-1` first.
    pub fn backends(&self) -> &[Host] {
        &self.hosts.backends
    }

    /// The backend with this 1-based number, as in its name.
    pub fn backend(&self, number: usize) -> Result<&Host> {
        let found = number.checked_sub(1).and_then(|index| self.hosts.backends.get(index));
        found.with_context(|| format!("there is no backend-{number}"))
    }

    /// A directory of this topology's own, gone with it.
    pub fn directory(&self) -> PathBuf {
        name::directory(self.name())
    }

    /// The mount point of this topology's own bpffs, for pins.
    pub fn bpffs(&self) -> PathBuf {
        self.directory().join(BPFFS)
    }

    /// Plugs in one more backend, with all VIPs there are.
    pub fn add_backend(&mut self) -> Result<Host> {
        let number = self.hosts.backends.len() + 1;
        let name = format!("backend-{number}");
        let namespace = wiring::machine(self.name(), &name)?;
        namespace.sysctls(SILENT_VIPS)?;
        let plugged = wiring::plug_into_switch(namespace, &name, &self.switch, self.shape.mtu)?;
        let backend = plugged.settle(&name, FABRIC, addresses::backend(number)?)?;
        backend.ip(&builder::way_to_client(self.router().is_some(), self.shape.client_mtu))?;
        self.vips.iter().try_for_each(|vip| own(&backend, *vip))?;
        self.hosts.backends.push(backend.clone());
        Ok(backend)
    }

    /// Routes the VIP to the balancer and gives it to every backend.
    pub fn add_vip(&mut self, vip: IpAddr) -> Result<()> {
        self.add_vips(vip.into())
    }

    /// Routes the VIP to the balancer, and leaves the backends as they are.
    pub fn route_vip(&self, vip: IpAddr) -> Result<()> {
        self.route_vips(vip.into())
    }

    /// As [`Topology::add_vip`], for all addresses of a prefix.
    pub fn add_vips(&mut self, vip: IpNet) -> Result<()> {
        self.route_vips(vip)?;
        self.backends().iter().try_for_each(|backend| own(backend, vip))?;
        self.vips.push(vip);
        Ok(())
    }

    fn route_vips(&self, vip: IpNet) -> Result<()> {
        let gateway = self.balancer().address_like(vip.addr());
        let from = self.router().unwrap_or(self.client());
        from.ip(&format!("route replace {vip} via {gateway}\n"))
    }

    /// Prepares the host's cable for a native XDP program on its `eth0` that sends frames: without this, what
    /// it sends is counted and lost. Stays until the topology ends.
    pub fn attach_pass_program(&self, host: &Host) -> Result<()> {
        if !self.is_native(host) {
            let object = pass::attach(host.far_end())?;
            self.native().insert(host.name().into(), object);
        }
        Ok(())
    }

    /// Whether [`Topology::attach_pass_program`] has prepared the host's cable.
    pub fn is_native(&self, host: &Host) -> bool {
        self.native().contains_key(host.name())
    }

    fn native(&self) -> MutexGuard<'_, BTreeMap<String, Ebpf>> {
        self.native.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One address is given to `lo`; of a prefix, `lo` takes the packets.
fn own(backend: &Host, vip: IpNet) -> Result<()> {
    backend.ip(&match (vip, is_address(vip)) {
        (_, false) => format!("route add local {vip} dev lo\n"),
        (IpNet::V4(_), true) => format!("addr add {vip} dev lo\n"),
        (IpNet::V6(_), true) => format!("addr add {vip} dev lo nodad\n"),
    })
}
