//! What stands between the client and the backends, and what it says itself about how much went through it.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result};
use mesh_tests::{Agent, Decap, Host, INTERFACE, Topology};
use mesh_userspace::api::types::Status;
use mesh_userspace::config::XdpMode;
use serde::Serialize;

use super::haproxy::Haproxy;
use super::nftables::Nftables;
use super::nginx::Nginx;
use super::stage::Service;
use super::way::Way;

/// A running balancer.
pub(crate) enum Balancer {
    /// Nothing but a host that nothing should come to.
    Absent(Host),
    Meshlb {
        agent: Agent,
        _decaps: Vec<Decap>,
    },
    Nftables(Nftables),
    Haproxy(Haproxy),
    Nginx(Nginx),
}

/// What a balancer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    Packets,
    Connections,
}

impl Balancer {
    /// Starts what a way needs on the balancer, at the backends and in the client's routes. Where there is XDP, it is
    /// `native` or generic.
    pub(crate) fn start(way: Way, topology: &Topology, services: &[Service], native: bool) -> Result<Self> {
        let (host, directory) = (topology.balancer(), topology.directory());
        match way {
            Way::Direct => {
                go_around(topology, services)?;
                Ok(Self::Absent(host.clone()))
            }
            Way::MeshlbL2 | Way::MeshlbIpip | Way::MeshlbNat => meshlb(way, topology, services, native),
            Way::Nftables => {
                come_back(topology)?;
                Ok(Self::Nftables(Nftables::start(host, services, &directory)?))
            }
            Way::Haproxy => {
                terminate_here(topology, services)?;
                Ok(Self::Haproxy(Haproxy::start(host, services, &directory)?))
            }
            Way::NginxStream => {
                terminate_here(topology, services)?;
                Ok(Self::Nginx(Nginx::stream(host, services, &directory)?))
            }
        }
    }

    /// How much has gone through it so far.
    pub(crate) fn passed(&self) -> Result<u64> {
        match self {
            Self::Absent(host) => received(host),
            Self::Meshlb { agent, .. } => {
                let outcomes = agent.cli_json::<Status>(&["status"])?.outcomes;
                Ok(["transmitted", "redirected"].iter().filter_map(|name| outcomes.get(*name)).sum())
            }
            Self::Nftables(nftables) => nftables.connections(),
            Self::Haproxy(haproxy) => haproxy.connections(),
            Self::Nginx(nginx) => nginx.connections(),
        }
    }

    pub(crate) const fn unit(&self) -> Unit {
        match self {
            Self::Absent(_) | Self::Meshlb { .. } => Unit::Packets,
            Self::Nftables(_) | Self::Haproxy(_) | Self::Nginx(_) => Unit::Connections,
        }
    }
}

/// The client spreads connections over the backends itself, by address and port.
fn go_around(topology: &Topology, services: &[Service]) -> Result<()> {
    topology.client().sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
    let hops: String = topology
        .backends()
        .iter()
        .map(|host| format!(" nexthop via {} dev {INTERFACE}", host.v4()))
        .collect();
    let vips = vips(services).into_iter();
    topology.client().ip(&vips.map(|vip| format!("route replace {vip}/32{hops}\n")).collect::<String>())
}

/// Backends answer through the balancer, which undoes its translation.
fn come_back(topology: &Topology) -> Result<()> {
    let (client, balancer) = (topology.client().v4(), topology.balancer().v4());
    let route = format!("route replace {client}/32 via {balancer} mtu 1500\n");
    topology.backends().iter().try_for_each(|backend| backend.ip(&route))
}

/// A proxy owns the VIP. Its packets to the backends are as long as a client's: their wires would take longer ones,
/// which outer headers need.
fn terminate_here(topology: &Topology, services: &[Service]) -> Result<()> {
    let balancer = topology.balancer();
    let mut script: String =
        vips(services).iter().map(|vip| format!("address add {vip}/32 dev lo\n")).collect();
    for backend in topology.backends() {
        script += &format!("route add {}/32 dev {INTERFACE} mtu 1500\n", backend.v4());
    }
    balancer.ip(&script)
}

fn vips(services: &[Service]) -> Vec<IpAddr> {
    let mut vips: Vec<IpAddr> = services.iter().map(|service| service.address.ip()).collect();
    vips.dedup();
    vips
}

/// The agent's mode of XDP follows the cable.
fn meshlb(way: Way, topology: &Topology, services: &[Service], native: bool) -> Result<Balancer> {
    if native {
        topology.attach_pass_program(topology.balancer())?;
    }
    let vips = vips(services);
    let mode = if native { XdpMode::Native } else { XdpMode::Generic };
    let decap = |host| Decap::start_with(host, &vips, &["--mode", mode.as_str()]);
    let (forward, decaps) = match way {
        Way::MeshlbIpip => ("ipip", topology.backends().iter().map(decap).collect::<Result<_>>()?),
        Way::MeshlbNat => ("nat", Vec::new()),
        Way::MeshlbL2 | Way::Direct | Way::Nftables | Way::Haproxy | Way::NginxStream => ("l2", Vec::new()),
    };
    Ok(Balancer::Meshlb { agent: Agent::start(topology, &config(forward, services))?, _decaps: decaps })
}

fn config(forward: &str, services: &[Service]) -> String {
    let service = |(number, Service { address, backends }): (usize, &Service)| {
        let backends =
            backends.iter().map(|backend| format!("[[service.backend]]\naddress = \"{}\"\n", backend.ip()));
        format!(
            "[[service]]\nname = \"service-{number}\"\nvip = \"{}\"\nport = {}\nprotocol = \"tcp\"\n\
             forward = \"{forward}\"\n{}",
            address.ip(),
            address.port(),
            backends.collect::<String>()
        )
    };
    let services: String = services.iter().enumerate().map(service).collect();
    format!("[metrics]\nlisten = \"off\"\n{services}")
}

/// Frames that `eth0` has received.
fn received(host: &Host) -> Result<u64> {
    // The namespace of the reading thread, where `/proc/net` would be that of the process.
    let table = host.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
    frames(&table).with_context(|| format!("{INTERFACE} is not in {table}"))
}

fn frames(table: &str) -> Option<u64> {
    let row = table.lines().find_map(|line| line.trim_start().strip_prefix(INTERFACE)?.strip_prefix(':'))?;
    row.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_frames_are_the_second_number_of_the_row() {
        let table = "Inter-| Receive\n face |bytes packets\n    lo: 1 2 3\n  eth0: 400 50 6\n";
        assert_eq!(frames(table), Some(50));
        assert_eq!(frames("lo: 1 2"), None);
    }
}
