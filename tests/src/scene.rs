//! A balanced service, ready to use: topology, VIP, HTTP servers, decapsulators and the agent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};

use crate::{Agent, Builder, Client, Decap, Host, HttpServer, Topology};

/// The port of the service.
pub const PORT: u16 = 8080;

/// How packets reach the backends, and over which family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// MAC addresses are rewritten.
    L2,
    /// IP in IP with an outer IPv4 header.
    IpipV4,
    /// IP in IP with an outer IPv6 header.
    IpipV6,
    /// GUE with an outer IPv4 header.
    GueV4,
    /// GUE with an outer IPv6 header.
    GueV6,
    /// Geneve with an outer IPv4 header.
    GeneveV4,
    /// Geneve with an outer IPv6 header.
    GeneveV6,
    /// Translation to IPv4 addresses.
    NatV4,
    /// Translation to IPv6 addresses.
    NatV6,
}

impl Way {
    /// Whether backends know nothing of the VIP.
    pub const fn translates(self) -> bool {
        matches!(self, Self::NatV4 | Self::NatV6)
    }

    /// The configuration's word for it.
    pub const fn forward(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::IpipV4 | Self::IpipV6 => "ipip",
            Self::GueV4 | Self::GueV6 => "gue",
            Self::GeneveV4 | Self::GeneveV6 => "geneve",
            Self::NatV4 | Self::NatV6 => "nat",
        }
    }
}

/// What a scene is made of.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The VIP.
    pub vip: IpAddr,
    /// How packets reach the backends.
    pub way: Way,
    /// Weights of the backends that are configured from the start.
    pub weights: Vec<u16>,
    /// Backends that stand by, served but not configured.
    pub spare: usize,
    /// Whether XDP is native.
    pub native: bool,
    /// The MTU of all links but the client's; `None`: room for outer headers.
    pub mtu: Option<u32>,
    /// Further arguments of the decapsulators.
    pub decap: Vec<&'static str>,
    /// Lines for the service's table in the configuration.
    pub service: String,
    /// Lines for the tables of backends, by number; none for those beyond.
    pub members: Vec<&'static str>,
    /// Lines for the file as a whole.
    pub file: String,
}

impl Plot {
    /// Three backends of equal weight, generic XDP, probed over HTTP.
    pub fn new(vip: &str, way: Way) -> Result<Self> {
        Ok(Self {
            vip: vip.parse()?,
            way,
            weights: vec![100; 3],
            spare: 0,
            native: false,
            mtu: None,
            decap: Vec::new(),
            service:
                "health = { kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\" }"
                    .into(),
            members: Vec::new(),
            file: String::new(),
        })
    }

    /// Sets the scene and waits until the agent is ready.
    pub fn set(self) -> Result<Scene> {
        Scene::new(self)
    }
}

/// A balanced service.
#[derive(Debug)]
pub struct Scene {
    /// The agent.
    pub agent: Agent,
    /// HTTP servers, one on each backend.
    pub servers: Vec<HttpServer>,
    /// Decapsulators, one on each backend unless nothing is wrapped.
    pub decaps: Vec<Decap>,
    /// The hosts; last, so that everything in them ends before.
    pub topology: Topology,
    plot: Plot,
}

impl Scene {
    fn new(plot: Plot) -> Result<Self> {
        let builder = Topology::builder().backends(plot.weights.len() + plot.spare);
        let mut topology = plot.mtu.into_iter().fold(builder, Builder::mtu).build()?;
        if plot.way.translates() {
            topology.route_vip(plot.vip)?;
        } else {
            topology.add_vip(plot.vip)?;
        }
        if plot.native {
            topology.attach_pass_program(topology.balancer())?;
        }
        let hosts = topology.backends();
        let decap = |host: &Host| Decap::start_with(host, &[plot.vip], &plot.decap);
        let decaps = if plot.way == Way::L2 || plot.way.translates() {
            Vec::new()
        } else {
            hosts.iter().map(decap).collect::<Result<_>>()?
        };
        let serve = |host: &Host| {
            HttpServer::start(host, PORT, &host.address_like(plot.backend_family()).to_string())
        };
        let servers = hosts.iter().map(serve).collect::<Result<_>>()?;
        let weights: Vec<(usize, u16)> = plot.weights.iter().copied().enumerate().collect();
        let agent = Agent::start(&topology, &config(&plot, &topology, &weights))?;
        Ok(Self { agent, servers, decaps, topology, plot })
    }

    /// Where clients connect to.
    pub fn service(&self) -> SocketAddr {
        SocketAddr::new(self.plot.vip, PORT)
    }

    /// The address of a backend, as the configuration has it; backends count from 0.
    pub fn backend(&self, number: usize) -> Result<IpAddr> {
        Ok(self.topology.backend(number + 1)?.address_like(self.plot.backend_family()))
    }

    /// A client.
    pub fn client(&self) -> Result<Client> {
        Client::new(self.topology.client())
    }

    /// How many of so many requests, each over a connection of its own, each backend answers.
    pub fn answers(&self, requests: u32) -> Result<BTreeMap<String, u32>> {
        let client = self.client()?;
        let mut answers = BTreeMap::new();
        for _ in 0..requests {
            let reply = client.get(self.service())?;
            *answers.entry(reply.backend.context("the answer names no backend")?).or_default() += 1;
        }
        Ok(answers)
    }

    /// Configures these backends (by number) with these weights, and reloads.
    pub fn reconfigure(&self, weights: &[(usize, u16)]) -> Result<()> {
        self.agent.write_config(&config(&self.plot, &self.topology, weights))?;
        self.must(&["reload"])
    }

    /// Gives the service other lines in the configuration, with all backends of the beginning, and reloads.
    pub fn change_service(&mut self, lines: &str) -> Result<()> {
        self.plot.service = lines.into();
        let weights: Vec<(usize, u16)> = self.plot.weights.iter().copied().enumerate().collect();
        self.reconfigure(&weights)
    }

    /// Runs a command of `meshlb` that must succeed.
    pub fn must(&self, arguments: &[&str]) -> Result<()> {
        let output = self.agent.cli(arguments)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "meshlb {arguments:?}: {complaint}");
        Ok(())
    }

    /// What the decapsulators logged.
    pub fn decap_logs(&self) -> String {
        self.decaps.iter().map(Decap::log).collect()
    }
}

impl Plot {
    /// Some address of the family that the backends have in the configuration.
    const fn backend_family(&self) -> IpAddr {
        const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
        match (self.way, self.vip) {
            (Way::L2, IpAddr::V4(_)) | (Way::IpipV4 | Way::GueV4 | Way::GeneveV4 | Way::NatV4, _) => V4,
            (Way::L2, IpAddr::V6(_)) | (Way::IpipV6 | Way::GueV6 | Way::GeneveV6 | Way::NatV6, _) => V6,
        }
    }
}

fn config(plot: &Plot, topology: &Topology, weights: &[(usize, u16)]) -> String {
    let forward = plot.way.forward();
    let mut text = format!(
        "{}\n[metrics]\nlisten = \"off\"\n[[service]]\nname = \"web\"\nvip = \"{}\"\nport = {PORT}\n\
         protocol = \"tcp\"\nforward = \"{forward}\"\n{}\n",
        plot.file, plot.vip, plot.service
    );
    for (number, weight) in weights {
        if let Some(host) = topology.backends().get(*number) {
            let address = host.address_like(plot.backend_family());
            let lines = plot.members.get(*number).copied().unwrap_or_default();
            // Writing to a string cannot fail.
            let _ =
                write!(text, "[[service.backend]]\naddress = \"{address}\"\nweight = {weight}\n{lines}\n");
        }
    }
    text
}
