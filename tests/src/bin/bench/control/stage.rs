//! An agent with very many backends, all of them behind one router, which answers for them.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh_tests::{Agent, HttpServer, Topology, wait};
use mesh_userspace::api::Client;
use mesh_userspace::api::types::Status;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::measure::{median, memory, milliseconds, processor};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));

/// The backends' addresses begin here; the network has room for all.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 0);
const NETWORK: &str = "10.200.0.0/16";

/// Services have a port each, from here on.
const PORT: u16 = 2000;

/// Where probes are answered.
const PROBED: u16 = 8080;

/// Until everything that is said has come to the maps.
const LONG: Duration = Duration::from_secs(60);

/// How many services there are, and how many backends each has.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Shape {
    pub(super) services: usize,
    pub(super) backends: usize,
}

impl Shape {
    const fn all(self) -> usize {
        self.services * self.backends
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.services, self.backends)
    }
}

/// Where the backends of a configuration come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Nobody,
    File,
    Discovery,
}

/// Fields are in the order in which they end.
pub(super) struct Stage {
    shape: Shape,
    runtime: Runtime,
    client: Client,
    agent: Agent,
    _server: HttpServer,
    topology: Topology,
}

impl Stage {
    pub(super) fn set(shape: Shape) -> Result<Self> {
        let mut topology = Topology::builder().backends(1).build()?;
        topology.add_vip(VIP)?;
        let router = topology.backend(1)?;
        router.ip(&format!("route add local {NETWORK} dev lo\n"))?;
        topology.balancer().ip(&format!("route add {NETWORK} via {}\n", router.v4()))?;
        let server = HttpServer::start(router, PROBED, "router")?;
        let agent = Agent::start(&topology, &config(shape, From::Nobody, "", &list(&topology)))?;
        let client = Client::new(&agent.socket())?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { shape, runtime, client, agent, _server: server, topology })
    }

    /// How long a reload takes that adds all services, until all backends are in the maps.
    pub(super) fn reload(&mut self) -> Result<f64> {
        self.write(From::File, "")?;
        let begin = Instant::now();
        self.runtime.block_on(self.client.reload())?;
        self.until_up(self.shape.all())?;
        Ok(milliseconds(begin.elapsed()))
    }

    /// How long an order about the weight of one backend takes.
    pub(super) fn orders(&self, repetitions: usize) -> Result<f64> {
        let address = address(self.shape.all() / 2)?;
        let service = format!("s{}", self.shape.services / 2);
        let times = (0..repetitions).map(|round| {
            let weight = Some(if round % 2 == 0 { 50 } else { 100 });
            let begin = Instant::now();
            self.runtime.block_on(self.client.weight(&service, IpAddr::V4(address), weight))?;
            Ok(begin.elapsed())
        });
        median(times.collect::<Result<_>>()?).map(milliseconds)
    }

    /// How long a list takes that appears in a file, until all backends are in the maps.
    pub(super) fn discovery(&mut self) -> Result<f64> {
        self.list(0..0)?;
        self.write(From::Discovery, "")?;
        self.runtime.block_on(self.client.reload())?;
        self.until_up(0)?;
        let begin = Instant::now();
        self.list(0..self.shape.all())?;
        self.until_up(self.shape.all())?;
        Ok(milliseconds(begin.elapsed()))
    }

    /// How long a list takes with one backend less or more.
    pub(super) fn arrivals(&self, repetitions: usize) -> Result<f64> {
        let all = self.shape.all();
        let times = (0..repetitions).map(|round| {
            let count = if round % 2 == 0 { all - 1 } else { all };
            let begin = Instant::now();
            self.list(0..count)?;
            self.until_up(count)?;
            Ok(begin.elapsed())
        });
        median(times.collect::<Result<_>>()?).map(milliseconds)
    }

    /// Has all backends probed, and waits until that is all that happens.
    pub(super) fn probe(&mut self) -> Result<()> {
        self.list(0..self.shape.all())?;
        let health =
            format!("health = {{ kind = \"tcp\", port = {PROBED}, interval = \"10s\", timeout = \"5s\" }}");
        self.write(From::Discovery, &health)?;
        self.runtime.block_on(self.client.reload())?;
        self.until_up(self.shape.all())
    }

    /// What the agent takes of a processor while nothing happens: per cent.
    pub(super) fn idle(&self, during: Duration) -> Result<f64> {
        processor(self.pid()?, during)
    }

    /// The agent's memory: MiB.
    pub(super) fn rss(&self) -> Result<f64> {
        memory(self.pid()?)
    }

    fn pid(&self) -> Result<u32> {
        self.agent.pid().context("the agent does not run")
    }

    fn write(&self, from: From, health: &str) -> Result<()> {
        self.agent.write_config(&config(self.shape, from, health, &list(&self.topology)))
    }

    /// Puts a list of these backends in the place of the one before.
    fn list(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let entry = |number: usize| {
            let port = port(number / self.shape.backends)?;
            Ok(format!("{{\"address\": \"{}\", \"port\": {port}}}", address(number)?))
        };
        let entries = numbers.map(entry).collect::<Result<Vec<_>>>()?;
        let (path, new) = (list(&self.topology), list(&self.topology).with_extension("new"));
        fs::write(&new, format!("{{\"backend\": [{}]}}", entries.join(",\n")))?;
        Ok(fs::rename(new, path)?)
    }

    /// Waits until so many backends take new flows. The agent says so once they are in the maps; it is not asked for more
    /// than a fifth of the time.
    fn until_up(&self, count: usize) -> Result<()> {
        let mut rest = Duration::ZERO;
        wait::until("the backends are in the maps", LONG, || {
            thread::sleep(rest);
            let begin = Instant::now();
            let status: Status = self.runtime.block_on(self.client.status())?;
            rest = begin.elapsed() * 4;
            let up: u32 = status.services.iter().map(|service| service.up).sum();
            ensure!(usize::try_from(up)? == count, "{up} of {count}: {:?}", status.problems.first());
            Ok(())
        })
    }
}

fn list(topology: &Topology) -> PathBuf {
    topology.directory().join("list.json")
}

fn address(number: usize) -> Result<Ipv4Addr> {
    Ok(Ipv4Addr::from_bits(FIRST.to_bits() + 1 + u32::try_from(number)?))
}

fn port(service: usize) -> Result<u16> {
    Ok(PORT + u16::try_from(service)?)
}

fn config(shape: Shape, from: From, health: &str, list: &std::path::Path) -> String {
    let backend = |number: usize| {
        address(number).map_or_else(|_| String::new(), |it| format!("{{ address = \"{it}\" }}"))
    };
    let service = |service: usize| {
        let own = service * shape.backends..(service + 1) * shape.backends;
        let backends = match from {
            From::Nobody => String::new(),
            From::File => format!("backend = [{}]", own.map(backend).collect::<Vec<_>>().join(",\n")),
            From::Discovery => format!("discovery = [{{ kind = \"file\", path = {list:?} }}]"),
        };
        let port = port(service).unwrap_or(PORT);
        format!(
            "[[service]]\nname = \"s{service}\"\nvip = \"{VIP}\"\nport = {port}\nprotocol = \"tcp\"\n\
             forward = \"ipip\"\nexpected_backends = {}\n{health}\n{backends}\n",
            shape.backends
        )
    };
    let services = if from == From::Nobody { 0 } else { shape.services };
    let services: String = (0..services).map(service).collect();
    format!(
        "[metrics]\nlisten = \"off\"\n[log]\nlevel = \"warn\"\n\
         [limits]\nservices = 2048\nbackends = 20000\nslots = 4194304\n{services}"
    )
}
