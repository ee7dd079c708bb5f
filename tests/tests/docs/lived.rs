//! The README and the recipes, followed word by word on hosts of a topology.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Output;
use std::time::Duration;

use mesh_tests::wait::eventually;
use mesh_tests::{Agent, Client, Decap, HttpServer, Topology};

use crate::markdown::{Document, code};

const SOON: Duration = Duration::from_secs(20);

/// What stands for something in the README, and what it is in the topology.
const BACKENDS: [(&str, &str); 2] = [("10.0.1.1", "10.77.0.101"), ("10.0.1.2", "10.77.0.102")];
const FILE: &str = "/etc/meshlb/meshlb.toml";
const BUNDLE: &str = "bundle.tar.gz";

fn translated(text: &str) -> String {
    BACKENDS.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
}

/// The README's service: topology, servers, decapsulators and the agent with the README's configuration.
struct Readme {
    agent: Agent,
    vip: IpAddr,
    _servers: Vec<HttpServer>,
    _decaps: Vec<Decap>,
    topology: Topology,
}

impl Readme {
    fn set() -> Self {
        let text = Document::read("README.md").blocks_in("toml").remove(0);
        let config = mesh_userspace::config::parse("README.md", &text).unwrap();
        let service = &config.services[0];
        let (vip, port) = (service.vip.addr(), service.ports.first());
        let mut topology = Topology::builder().backends(service.backends.len()).build().unwrap();
        topology.add_vip(vip).unwrap();
        let hosts = topology.backends();
        let servers = hosts.iter().map(|host| HttpServer::start(host, port, host.name()).unwrap()).collect();
        let decaps = hosts.iter().map(|host| Decap::start(host, &[vip]).unwrap()).collect();
        let agent = Agent::start(&topology, &translated(&text)).unwrap();
        Self { agent, vip, _servers: servers, _decaps: decaps, topology }
    }

    fn meshlb(&self, command: &str) -> Output {
        let file = self.agent.config_path().display().to_string();
        let bundle = self.topology.directory().join(BUNDLE).display().to_string();
        let command = translated(command).replace(FILE, &file).replace(BUNDLE, &bundle);
        self.agent.cli(&command.split_whitespace().skip(1).collect::<Vec<_>>()).unwrap()
    }

    fn must(&self, command: &str) {
        let output = self.meshlb(command);
        assert!(output.status.success(), "{command}: {output:?}");
    }

    fn pins(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.topology.bpffs().join("meshlb")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// The harness has run `run` and `decap` with these very arguments; `detach` wants the agent to be stopped. The service
/// is probed and has no groups, so reports and splits are refused.
#[test]
fn the_readme_works() {
    let mut readme = Readme::set();
    let client = Client::new(readme.topology.client()).unwrap();
    let service = SocketAddr::new(readme.vip, 80);
    client.get(service).unwrap();
    let commands = Document::read("README.md").commands();
    let asked = commands.iter().filter(|command| command.starts_with("meshlb "));
    let (detach, asked): (Vec<&String>, Vec<_>) = asked.partition(|command| command.contains(" detach"));
    let by_the_harness = |command: &str| command.contains(" run ") || command.contains(" decap ");
    for command in asked.iter().filter(|command| !by_the_harness(command)) {
        let output = readme.meshlb(command);
        let refused = [" heartbeat ", " split ", " top"].iter().any(|what| command.contains(what));
        assert_eq!(output.status.success(), !refused, "{command}: {output:?}");
    }
    assert!(readme.agent.terminate().unwrap().success());
    client.get(service).unwrap();
    detach.iter().for_each(|command| readme.must(command));
    // The kernel lets go of a removed link a moment later.
    eventually("nobody forwards any more", SOON, || client.get(service).is_err()).unwrap();
}

#[test]
fn the_documented_pins_are_those_of_an_agent() {
    let rows = Document::read("docs/architecture.md").table("## Pins", 0);
    let documented: BTreeSet<_> = rows.iter().map(|row| code(&row[0]).to_owned()).collect();
    assert_eq!(Readme::set().pins(), documented);
}

/// Settings of a block in the form of `sysctl.d`.
fn settings(block: &str) -> Vec<(String, String)> {
    let lines = block.lines().filter(|line| line.starts_with("net."));
    let setting = |line: &str| {
        let (key, value) = line.split_once(" = ").unwrap();
        (key.replace('.', "/"), value.to_owned())
    };
    lines.map(setting).collect()
}

#[test]
fn the_recipes_for_backends_can_be_followed() {
    let operations = Document::read("docs/operations.md");
    let topology = Topology::builder().build().unwrap();
    let backend = topology.backend(1).unwrap();
    let commands = operations.commands();
    let addresses: Vec<_> = commands.iter().filter(|command| command.starts_with("ip ")).collect();
    assert_eq!(addresses.len(), 4, "{addresses:?}");
    for command in addresses {
        let output = backend.command("ip").args(command.split(' ').skip(1)).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
    let blocks = operations.blocks_in("ini");
    let settings: Vec<_> = blocks.iter().flat_map(|block| settings(block)).collect();
    assert_eq!(settings.len(), 4, "{settings:?}");
    settings.iter().for_each(|(key, value)| backend.sysctl(key, value).unwrap());
}
