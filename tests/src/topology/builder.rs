//! Building a topology: which hosts, which MTUs.

use std::fs;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use super::Topology;
use super::addresses::{BALANCER, CLIENT, FABRIC, OUTSIDE, ROUTER, default_routes};
use super::wiring::{self, FORWARDING};
use crate::cleanup::BPFFS;
use crate::host::{Host, INTERFACE};
use crate::name;
use crate::namespace::Namespace;
use crate::registry::Lease;

/// The router's interface towards the client.
const OUTER_INTERFACE: &str = "eth1";

/// What a topology shall be; see [`Topology::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    backends: usize,
    router: bool,
    pub(super) mtu: u32,
    pub(super) client_mtu: u32,
}

impl Default for Builder {
    fn default() -> Self {
        Self { backends: 1, router: false, mtu: 1600, client_mtu: 1500 }
    }
}

impl Builder {
    /// How many backends there are at the start. Default 1.
    pub fn backends(mut self, backends: usize) -> Self {
        self.backends = backends;
        self
    }

    /// Whether the client lives in a subnet of its own behind a router. Default no.
    pub fn router(mut self, router: bool) -> Self {
        self.router = router;
        self
    }

    /// MTU of all links but the client's, in bytes. Default 1600: a client's full packet plus a tunnel header.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// MTU of the client's link, in bytes. Default 1500.
    pub fn client_mtu(mut self, mtu: u32) -> Self {
        self.client_mtu = mtu;
        self
    }

    /// Makes the namespaces, the links and the bpffs. Fails without root, `ip` or `ethtool`.
    pub fn build(self) -> Result<Topology> {
        let lease = Lease::take()?;
        mount_bpffs(lease.name())?;
        let switch = wiring::switch(lease.name())?;
        let router = self.router.then(|| self.router_host(&lease, &switch)).transpose()?;
        let client = self.client_host(&lease, &switch, router.as_ref())?;
        let balancer = self.balancer_host(&lease, &switch, router.as_ref())?;
        let hosts = super::Hosts { client, balancer, router, backends: Vec::new() };
        let mut topology = Topology::new(self, lease, switch, hosts);
        for _ in 0..topology.shape.backends {
            topology.add_backend()?;
        }
        Ok(topology)
    }

    fn router_host(&self, lease: &Lease, switch: &Namespace) -> Result<Host> {
        let namespace = wiring::machine(lease.name(), "router")?;
        namespace.sysctls(FORWARDING)?;
        wiring::plug_into_switch(namespace, "router", switch, self.mtu)?.settle("router", FABRIC, ROUTER)
    }

    fn client_host(&self, lease: &Lease, switch: &Namespace, router: Option<&Host>) -> Result<Host> {
        let namespace = wiring::machine(lease.name(), "client")?;
        let Some(router) = router else {
            let plugged = wiring::plug_into_switch(namespace, "client", switch, self.client_mtu)?;
            return plugged.settle("client", FABRIC, CLIENT);
        };
        let plugged = wiring::cable(namespace, router.namespace(), OUTER_INTERFACE, self.client_mtu)?;
        router.ip(&OUTSIDE.assign(OUTER_INTERFACE, ROUTER))?;
        let client = plugged.settle("client", OUTSIDE, CLIENT)?;
        client.ip(&default_routes(OUTSIDE.host(ROUTER)))?;
        Ok(client)
    }

    fn balancer_host(&self, lease: &Lease, switch: &Namespace, router: Option<&Host>) -> Result<Host> {
        let namespace = wiring::machine(lease.name(), "balancer")?;
        let plugged = wiring::plug_into_switch(namespace, "balancer", switch, self.mtu)?;
        let balancer = plugged.settle("balancer", FABRIC, BALANCER)?;
        balancer.ip(&way_to_client(router.is_some(), self.client_mtu))?;
        Ok(balancer)
    }
}

/// Routes of the balancer and the backends towards the client. On a common wire the client's smaller MTU must
/// be said: longer frames would vanish in its veth.
pub(super) fn way_to_client(router: bool, mtu: u32) -> String {
    if router {
        return default_routes(FABRIC.host(ROUTER));
    }
    let (v4, v6) = FABRIC.host(CLIENT);
    format!("route add {v4}/32 dev {INTERFACE} mtu {mtu}\nroute add {v6}/128 dev {INTERFACE} mtu {mtu}\n")
}

fn mount_bpffs(topology: &str) -> Result<()> {
    let path = name::directory(topology).join(BPFFS);
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount a bpffs on {}", path.display()))
}
