//! Everything that takes part: the hosts, the servers, the decapsulators, the agent and the clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mesh_tests::{Agent, Client, Decap, Download, Downloads, Host, HttpServer, Topology, wait};
use mesh_userspace::api::types::{BackendView, Status};

use crate::packets::Packets;
use crate::screen::Screen;
use crate::tally::BACKENDS;
use crate::traffic::{Errand, Traffic};

/// Of the services; HTTP.
pub(crate) const PORT: u16 = 80;

/// Where the agent serves its metrics, in the balancer.
pub(crate) const METRICS: &str = "127.0.0.1:9440";

/// Of the backends, in both services.
pub(crate) const WEIGHTS: [u16; BACKENDS] = [100, 100, 200];

/// The health check of both services: from one probe to the next, for one probe, failures until down.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
pub(crate) const FALL: u32 = 3;

/// Until the agent has taken notice of anything.
const NOTICE: Duration = Duration::from_secs(10);

/// A service of the demo; its backends are the hosts' addresses of the VIP's family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) vip: IpAddr,
}

/// One service for each family.
pub(crate) const SERVICES: [Service; 2] = [
    Service { name: "web", vip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)) },
    Service { name: "web6", vip: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)) },
];

impl Service {
    pub(crate) const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.vip, PORT)
    }
}

/// Who takes part. Fields are in the order in which they end.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) traffic: Traffic,
    pub(crate) agent: Agent,
    servers: Vec<HttpServer>,
    _decaps: Vec<Decap>,
    pub(crate) topology: Topology,
}

impl Stage {
    /// Sets everything up, and starts the requests once the agent is ready.
    pub(crate) fn build(screen: &Screen) -> Result<Self> {
        screen.say("setting up: client, balancer and 3 backends in network namespaces")?;
        let topology = build_topology()?;
        let hosts = topology.backends();
        let servers = hosts.iter().map(|host| HttpServer::start(host, PORT, host.name()));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let vips = SERVICES.map(|service| service.vip);
        let decaps = hosts.iter().map(|host| Decap::start(host, &vips)).collect::<Result<_>>()?;
        let agent = Agent::start(&topology, &config(hosts))?;
        let services = SERVICES.iter().map(Service::address).collect();
        let backends = hosts.iter().map(|host| host.name().to_owned()).collect();
        let traffic = Traffic::start(topology.client(), Errand { services, backends })?;
        let stage = Self { traffic, agent, servers, _decaps: decaps, topology };
        screen.say(&stage.describe()?)?;
        Ok(stage)
    }

    /// Ends the HTTP server of a backend as a crash would, connections and all.
    pub(crate) fn kill(&mut self, backend: usize) -> Result<()> {
        self.server(backend)?.kill();
        Ok(())
    }

    /// Starts the HTTP server of a backend again.
    pub(crate) fn restart(&mut self, backend: usize) -> Result<()> {
        self.server(backend)?.restart()
    }

    /// `drain` or `undrain` for a backend of both services.
    pub(crate) fn order(&self, order: &str, backend: usize) -> Result<()> {
        for service in SERVICES {
            let address = self.host(backend)?.address_like(service.vip).to_string();
            let output = self.agent.cli(&[order, service.name, &address])?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "meshlb {order} {} {address}: {complaint}", service.name);
        }
        Ok(())
    }

    /// Waits until the agent shows the backend in this state in both services, with or without slots, and
    /// returns when it was seen.
    pub(crate) fn await_state(&self, backend: usize, state: &str, slots: bool) -> Result<Instant> {
        let name = self.host(backend)?.name();
        wait::until(&format!("the agent shows {name} {state}"), NOTICE, || {
            for view in self.views(backend)? {
                let (service, found) = (&view.service, &view.state);
                ensure!(found == state, "it is {found} in service {service}");
                ensure!((view.slots > 0) == slots, "it has {} slots in service {service}", view.slots);
            }
            Ok(Instant::now())
        })
    }

    /// Starts long downloads from both services, so many from each.
    pub(crate) fn download(&self, count: usize, length: Duration) -> Result<Vec<Downloads>> {
        let client = Client::new(self.topology.client())?;
        let download = |service: &Service| Downloads::start(&client, count, lasting(service, length));
        Ok(SERVICES.iter().map(download).collect())
    }

    /// What the balancer did with the packets of the services so far.
    pub(crate) fn packets(&self) -> Result<Packets> {
        let status: Status = self.agent.cli_json(&["status"])?;
        Ok(Packets::of(&status.outcomes))
    }

    /// The host of the backend with this index.
    pub(crate) fn host(&self, backend: usize) -> Result<&Host> {
        self.topology.backend(backend + 1)
    }

    /// What `meshlb backends` says about a backend, once for each service.
    fn views(&self, backend: usize) -> Result<Vec<BackendView>> {
        let host = self.host(backend)?;
        let addresses = SERVICES.map(|service| host.address_like(service.vip).to_string());
        let mut views: Vec<BackendView> = self.agent.cli_json(&["backends"])?;
        views.retain(|view| addresses.contains(&view.address));
        ensure!(views.len() == SERVICES.len(), "`meshlb backends` does not list {}", host.name());
        Ok(views)
    }

    fn server(&mut self, backend: usize) -> Result<&mut HttpServer> {
        self.servers.get_mut(backend).with_context(|| format!("there is no backend-{}", backend + 1))
    }

    fn describe(&self) -> Result<String> {
        let status: Status = self.agent.cli_json(&["status"])?;
        let Some(interface) = status.interfaces.first() else { bail!("the agent is attached to nothing") };
        let vips = SERVICES.map(|service| service.address().to_string()).join(" in IPv4, ");
        Ok(format!("ready, {} XDP: {vips} in IPv6; weights {WEIGHTS:?}", interface.mode))
    }
}

fn build_topology() -> Result<Topology> {
    let mut topology = Topology::builder().backends(BACKENDS).build()?;
    SERVICES.iter().try_for_each(|service| topology.add_vip(service.vip))?;
    topology.attach_pass_program(topology.balancer())?;
    Ok(topology)
}

fn lasting(service: &Service, length: Duration) -> Download {
    let pause = Duration::from_millis(50);
    let chunks = u64::try_from(length.as_millis() / pause.as_millis()).unwrap_or(u64::MAX);
    Download { chunks, pause, ..Download::lasting(service.address(), length) }
}

fn config(hosts: &[Host]) -> String {
    let services = SERVICES.iter().map(|service| service_config(service, hosts));
    format!("metrics.listen = \"{METRICS}\"\n{}", services.collect::<String>())
}

fn service_config(Service { name, vip }: &Service, hosts: &[Host]) -> String {
    let weighed = hosts.iter().zip(WEIGHTS);
    let backends = weighed.map(|(host, weight)| {
        format!("[[service.backend]]\naddress = \"{}\"\nweight = {weight}\n", host.address_like(*vip))
    });
    format!(
        "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {PORT}\nprotocol = \"tcp\"\nforward = \"ipip\"\n\
         [service.health]\nkind = \"http\"\npath = \"/healthz\"\ninterval = \"{}ms\"\ntimeout = \"{}ms\"\n\
         fall = {FALL}\n{}",
        INTERVAL.as_millis(),
        PROBE_TIMEOUT.as_millis(),
        backends.collect::<String>()
    )
}
