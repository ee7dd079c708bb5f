//! Real traffic to services wider than one port of one address.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use mesh_tests::wait::eventually;
use mesh_tests::{Agent, Client, Decap, Download, Downloads, HttpServer, Topology};
use mesh_userspace::api::types::{BackendView, ServiceView};

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

/// Ports that every backend serves: the first and the last of the range, and one behind it.
const PORTS: [u16; 3] = [8000, 8100, 8101];

/// A prefix of VIPs, some of which are asked.
struct Net {
    prefix: &'static str,
    vips: [&'static str; 3],
    forward: &'static str,
}

const V4: Net =
    Net { prefix: "192.0.2.64/26", vips: ["192.0.2.64", "192.0.2.100", "192.0.2.127"], forward: "ipip" };
const V6: Net = Net {
    prefix: "2001:db8:7::/64",
    vips: ["2001:db8:7::1", "2001:db8:7::8000:0:0:1", "2001:db8:7:0:ffff:ffff:ffff:ffff"],
    forward: "l2",
};

/// Servers on two backends, whatever of the prefix is asked for; the topology goes last.
struct Stage {
    net: Net,
    agent: Agent,
    client: Client,
    _decaps: Vec<Decap>,
    _servers: Vec<HttpServer>,
    topology: Topology,
}

impl Stage {
    /// Only one port of the first VIP is a service, whose backend is the first.
    fn set(net: Net) -> Self {
        let mut topology = Topology::builder().backends(2).build().unwrap();
        let prefix: IpNet = net.prefix.parse().unwrap();
        topology.add_vips(prefix).unwrap();
        let hosts = topology.backends();
        let serve = |port| hosts.iter().map(move |host| HttpServer::start(host, port, host.name()).unwrap());
        let servers = PORTS.into_iter().flat_map(serve).collect();
        let decaps = hosts.iter().filter(|_| net.forward == "ipip");
        let decaps = decaps.map(|host| Decap::start(host, &[prefix]).unwrap()).collect();
        let agent = Agent::start(&topology, &exact(&net, &topology)).unwrap();
        let client = Client::with_timeout(topology.client(), Duration::from_secs(2)).unwrap();
        Self { net, agent, client, _decaps: decaps, _servers: servers, topology }
    }

    fn reload(&self, config: &str) {
        self.agent.write_config(config).unwrap();
        let output = self.agent.cli(&["reload"]).unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Adds a range of ports of the whole prefix, with both backends.
    fn widen(&self) {
        let backends = [1, 2].map(|number| backend(&self.net, &self.topology, number));
        self.reload(&format!(
            "{}[[service]]\nname = \"many\"\nvip = \"{}\"\nport = \"8000-8100\"\nprotocol = \"tcp\"\n\
             forward = \"{}\"\nhealth = {{ kind = \"tcp\", port = 8000 }}\n{}",
            exact(&self.net, &self.topology),
            self.net.prefix,
            self.net.forward,
            backends.concat()
        ));
    }

    fn ask(&self, vip: IpAddr, port: u16) -> Option<String> {
        self.client.get(SocketAddr::new(vip, port)).ok().map(|reply| reply.body)
    }

    fn vips(&self) -> [IpAddr; 3] {
        self.net.vips.map(|vip| vip.parse().unwrap())
    }

    fn first(&self) -> SocketAddr {
        let [vip, ..] = self.vips();
        SocketAddr::new(vip, PORTS[0])
    }

    /// Asks every VIP for both ends of the range until both backends have answered there.
    fn both_answer(&self) {
        for (vip, port) in self.vips().into_iter().flat_map(|vip| [(vip, PORTS[0]), (vip, PORTS[1])]) {
            if SocketAddr::new(vip, port) == self.first() {
                continue;
            }
            let mut seen = BTreeSet::new();
            eventually(&format!("both backends answer at {vip} port {port}"), SOON, || {
                seen.extend(self.ask(vip, port));
                seen.len() == 2
            })
            .unwrap();
        }
    }
}

fn exact(net: &Net, topology: &Topology) -> String {
    let [vip, ..] = net.vips;
    format!(
        "[metrics]\nlisten = \"off\"\n[[service]]\nname = \"one\"\nvip = \"{vip}\"\nport = {}\n\
         protocol = \"tcp\"\nforward = \"{}\"\nhealth = {{ kind = \"tcp\" }}\n{}",
        PORTS[0],
        net.forward,
        backend(net, topology, 1)
    )
}

fn backend(net: &Net, topology: &Topology, number: usize) -> String {
    let like = net.vips[0].parse().unwrap();
    let address = topology.backend(number).unwrap().address_like(like);
    format!("[[service.backend]]\naddress = \"{address}\"\n")
}

fn a_wide_service_comes_and_goes(net: Net) {
    let mut stage = Stage::set(net);
    let [one, other, _] = stage.vips();
    assert_eq!(stage.ask(other, PORTS[0]), None, "nobody's yet");
    let download = Download::lasting(stage.first(), Duration::from_secs(20));
    let downloads = Downloads::start(&stage.client, 5, download);
    downloads.flowing(SOON).unwrap();

    stage.widen();
    stage.both_answer();
    assert_eq!(stage.ask(other, PORTS[2]), None, "behind the range");
    for _ in 0..10 {
        assert_eq!(stage.ask(one, PORTS[0]).as_deref(), Some("backend-1"), "the exact service wins");
    }
    let services: Vec<ServiceView> = stage.agent.cli_json(&["services"]).unwrap();
    let many = services.iter().find(|service| service.name == "many").unwrap();
    let shown = ServiceView { protocol: "tcp".into(), port: 0, ..many.clone() };
    assert_eq!((&shown, many.ports.as_str(), many.vip.as_str()), (many, "8000-8100", stage.net.prefix));
    assert!(many.packets > 0 && many.key.ends_with(":8000-8100/tcp"), "{many:?}");

    // The next agent goes on with it.
    stage.agent.restart().unwrap();
    stage.both_answer();

    let drained = stage.topology.backend(1).unwrap().address_like(one).to_string();
    let output = stage.agent.cli(&["drain", "many", &drained]).unwrap();
    assert!(output.status.success(), "{output:?}");
    for _ in 0..10 {
        assert_eq!(stage.ask(other, PORTS[1]).as_deref(), Some("backend-2"));
    }
    let backends: Vec<BackendView> = stage.agent.cli_json(&["backends", "many"]).unwrap();
    assert!(backends.iter().any(|backend| backend.address == drained && backend.state == "draining"));

    stage.reload(&exact(&stage.net, &stage.topology));
    assert_eq!(stage.ask(other, PORTS[0]), None, "nobody's again");
    assert_eq!(stage.ask(one, PORTS[0]).as_deref(), Some("backend-1"));
    let summary = downloads.finish(LONG).unwrap();
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
}

#[test]
fn a_prefix_of_ipv4_with_a_range_of_ports_is_balanced_in_ipip() {
    a_wide_service_comes_and_goes(V4);
}

#[test]
fn a_prefix_of_ipv6_with_a_range_of_ports_is_balanced_by_direct_return() {
    a_wide_service_comes_and_goes(V6);
}
