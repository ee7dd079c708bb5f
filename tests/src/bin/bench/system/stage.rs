//! The hosts of one way, with everything that runs on them.
//!
//! Invariant: the stages of all ways have the same hosts, wires and settings of interfaces; they differ in what stands
//! between client and backends, and in the routes and addresses that it needs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_tests::{Client, Host, LoggedChild, Topology, wait};

use super::balancer::{Balancer, Unit};
use super::iperf;
use super::nginx::Nginx;
use super::way::Way;

/// Of every way.
const BACKENDS: usize = 3;
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));

/// The port of the HTTP service.
const WEB: u16 = 8080;

/// Until the first request is answered.
const READY: Duration = Duration::from_secs(10);

/// What a balancer balances.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) backends: Vec<SocketAddr>,
}

/// Fields are in the order in which they end.
pub(crate) struct Stage {
    pub(crate) way: Way,
    balancer: Balancer,
    web: Vec<Nginx>,
    _bulk: LoggedChild,
    pub(crate) topology: Topology,
}

/// What was counted up to a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By the balancer, in its unit.
    pub(crate) passed: u64,
    /// Connections that each backend's HTTP server has accepted.
    pub(crate) accepted: Vec<u64>,
}

impl Stage {
    /// Sets everything up and waits until a request is answered.
    pub(crate) fn build(way: Way, native: bool) -> Result<Self> {
        let mut topology = Topology::builder().backends(BACKENDS).build()?;
        topology.add_vip(VIP)?;
        [topology.client(), topology.balancer()].into_iter().try_for_each(many_connections)?;
        let directory = topology.directory();
        let web = topology.backends().iter().map(|host| Nginx::web(host, WEB, &directory));
        let web = web.collect::<Result<_>>()?;
        // Both connections of a test must meet the same server, so there is one.
        let bulk = iperf::serve(topology.backend(1)?, &directory)?;
        let balancer = Balancer::start(way, &topology, &services(&topology)?, native)?;
        let stage = Self { way, balancer, web, _bulk: bulk, topology };
        stage.await_answer()?;
        Ok(stage)
    }

    /// Where clients ask.
    pub(crate) fn web(&self) -> SocketAddr {
        SocketAddr::new(VIP, WEB)
    }

    /// Where clients send to. Routes cannot tell ports apart: without a balancer it is the backend itself.
    pub(crate) fn bulk(&self) -> Result<SocketAddr> {
        let address = if self.way == Way::Direct { self.topology.backend(1)?.v4().into() } else { VIP };
        Ok(SocketAddr::new(address, iperf::PORT))
    }

    pub(crate) fn unit(&self) -> Unit {
        self.balancer.unit()
    }

    pub(crate) fn count(&self) -> Result<Counts> {
        let accepted = self.web.iter().map(Nginx::connections).collect::<Result<_>>()?;
        Ok(Counts { passed: self.balancer.passed()?, accepted })
    }

    fn await_answer(&self) -> Result<()> {
        let client = Client::new(self.topology.client())?;
        wait::until("a request is answered", READY, || {
            let reply = client.get(self.web())?;
            ensure!(reply.status == 200, "the answer is {}", reply.status);
            Ok(())
        })
        .with_context(|| self.way.title())
    }
}

fn services(topology: &Topology) -> Result<[Service; 2]> {
    let at = |host: &Host, port| SocketAddr::new(host.v4().into(), port);
    let web = topology.backends().iter().map(|host| at(host, WEB)).collect();
    let bulk = vec![at(topology.backend(1)?, iperf::PORT)];
    Ok([
        Service { address: SocketAddr::new(VIP, WEB), backends: web },
        Service { address: SocketAddr::new(VIP, iperf::PORT), backends: bulk },
    ])
}

/// Room for the ports of connections that have just ended.
fn many_connections(host: &Host) -> Result<()> {
    host.sysctl("net/ipv4/ip_local_port_range", "10000 65535")?;
    host.sysctl("net/ipv4/tcp_tw_reuse", "1")
}
