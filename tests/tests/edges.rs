//! What surrounds the balancer: other interfaces, neighbours that change, UDP, and slots that come to rest.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's helpers fail by panicking, too"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use mesh_tests::scene::{PORT, Plot, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Agent, Client, Decap, Download, Downloads, Host, HttpServer, Topology};
use mesh_userspace::api::types::{BackendView, ServiceView, SlotPhases, Status};

const V4: &str = "192.0.2.10";
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(90);

/// Connects the balancer with a backend by a cable of their own, and returns the backend's address on it.
fn second_cable(topology: &Topology, backend: &Host) -> IpAddr {
    let netns = |host: &Host| host.namespace_path().file_name().unwrap().to_string_lossy().into_owned();
    let peer = netns(backend);
    topology
        .balancer()
        .ip(&format!("link add eth1 mtu 1600 type veth peer name eth1 mtu 1600 netns {peer}"))
        .unwrap();
    topology.balancer().ip("addr add 10.88.0.254/24 dev eth1\nlink set eth1 up").unwrap();
    backend.ip("addr add 10.88.0.1/24 dev eth1\nlink set eth1 up").unwrap();
    [10, 88, 0, 1].into()
}

fn config(interfaces: &str, backend: IpAddr) -> String {
    format!(
        "[agent]\ninterfaces = {interfaces}\n[metrics]\nlisten = \"off\"\n[[service]]\nname = \"web\"\nvip = \"{V4}\"\n\
         port = {PORT}\nprotocol = \"tcp\"\nforward = \"l2\"\nhealth = {{ kind = \"tcp\" }}\n\
         [[service.backend]]\naddress = \"{backend}\"\n"
    )
}

/// A backend that the balancer reaches by another interface than its clients; bound in this order, the topology goes last.
fn behind_another_interface() -> (Topology, HttpServer, Agent) {
    behind_another_interface_with("")
}

/// The same, with further lines for the agent.
fn behind_another_interface_with(lines: &str) -> (Topology, HttpServer, Agent) {
    let mut topology = Topology::builder().backends(1).build().unwrap();
    topology.add_vip(V4.parse().unwrap()).unwrap();
    let host = topology.backend(1).unwrap().clone();
    let backend = second_cable(&topology, &host);
    let server = HttpServer::start(&host, PORT, "behind").unwrap();
    let agent = Agent::start(&topology, &(config("[\"eth0\", \"eth1\"]", backend) + lines)).unwrap();
    (topology, server, agent)
}

#[test]
fn packets_for_a_backend_behind_another_interface_are_redirected_there() {
    let (topology, _server, agent) = behind_another_interface();
    let reply =
        Client::new(topology.client()).unwrap().get((V4.parse::<IpAddr>().unwrap(), PORT).into()).unwrap();
    assert_eq!(reply.body, "behind");
    let status: Status = agent.cli_json(&["status"]).unwrap();
    assert_eq!(status.interfaces.len(), 2);
    assert!(
        status.outcomes["redirected"] > 0 && status.outcomes["transmitted"] == 0,
        "{:?}",
        status.outcomes
    );
}

#[test]
fn an_interface_that_has_another_program_is_refused_and_not_robbed() {
    let mut topology = Topology::builder().backends(1).build().unwrap();
    topology.add_vip(V4.parse().unwrap()).unwrap();
    let _other = Decap::start(topology.balancer(), &[IpAddr::from([192, 0, 2, 99])]).unwrap();
    let backend = IpAddr::from(topology.backend(1).unwrap().v4());
    let error = Agent::start(&topology, &config("[\"eth0\"]", backend)).unwrap_err();
    assert!(format!("{error:#}").contains("another XDP program"), "{error:#}");
}

#[test]
fn a_backend_that_changes_its_mac_address_keeps_its_connections() {
    let scene = Plot { weights: vec![100], ..Plot::new(V4, Way::IpipV4).unwrap() }.set().unwrap();
    let download = Download::lasting(scene.service(), Duration::from_secs(4));
    let downloads = Downloads::start(&scene.client().unwrap(), 10, download);
    downloads.flowing(SOON).unwrap();
    let backend = scene.topology.backend(1).unwrap();
    // As hosts do that take over an address: it is announced.
    backend.sysctl("net/ipv4/conf/all/arp_notify", "1").unwrap();
    backend.ip("link set eth0 address 02:00:00:00:00:77").unwrap();
    let followed = || {
        let backends: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
        backends[0].next_hop.as_ref().is_some_and(|hop| hop.contains("02:00:00:00:00:77"))
    };
    eventually("the new address is known", SOON, followed).unwrap();
    let summary = downloads.finish(LONG).unwrap();
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
}

fn slots(agent: &Agent) -> SlotPhases {
    let services: Vec<ServiceView> = agent.cli_json(&["services"]).unwrap();
    services[0].slots
}

#[test]
fn after_a_drain_slots_come_to_rest_under_a_download_that_goes_on() {
    let mut plot = Plot::new(V4, Way::L2).unwrap();
    plot.service.push_str("\nwindow = \"1s\"");
    let scene = plot.set().unwrap();
    let download = Download::lasting(scene.service(), Duration::from_secs(25));
    let downloads = Downloads::start(&scene.client().unwrap(), 30, download);
    downloads.flowing(SOON).unwrap();
    let drained = scene.backend(0).unwrap().to_string();
    let on_drained = |downloads: &Downloads| {
        let progress = downloads.progress();
        progress.iter().filter(|one| one.backend.as_ref() == Some(&drained)).count()
    };
    assert!(on_drained(&downloads) > 0);
    scene.must(&["drain", "web", &drained]).unwrap();
    assert!(slots(&scene.agent).migrating > 0);
    let rest = |phases: SlotPhases| phases.migrating == 0 && phases.settling < phases.steady;
    eventually("most slots rest", LONG, || rest(slots(&scene.agent))).unwrap();
    assert!(slots(&scene.agent).settling > 0, "slots with live flows of the drained backend do not");
    let summary = downloads.finish(LONG).unwrap();
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
}

/// Answers every datagram with the backend's own address.
fn echo(host: &Host, port: u16) {
    let name = host.v4().to_string();
    let _task = host.spawn(async move {
        let socket = tokio::net::UdpSocket::bind((V4, port)).await.unwrap();
        let mut buffer = [0; 64];
        loop {
            let (_, client) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(name.as_bytes(), client).await.unwrap();
        }
    });
}

/// Who answers a datagram from a port of the client.
fn ask(socket: &UdpSocket, service: SocketAddr) -> String {
    let mut buffer = [0; 64];
    for _ in 0..10 {
        socket.send_to(b"who", service).unwrap();
        if let Ok((length, _)) = socket.recv_from(&mut buffer) {
            return String::from_utf8_lossy(&buffer[..length]).into_owned();
        }
    }
    panic!("no answer from {service}");
}

#[test]
fn udp_flows_spread_and_stay_while_a_backend_drains() {
    let mut topology = Topology::builder().backends(3).build().unwrap();
    topology.add_vip(V4.parse().unwrap()).unwrap();
    topology.backends().iter().for_each(|host| echo(host, 5353));
    let backends: String = topology
        .backends()
        .iter()
        .map(|host| format!("[[service.backend]]\naddress = \"{}\"\n", host.v4()))
        .collect();
    let config = format!(
        "[metrics]\nlisten = \"off\"\n[[service]]\nname = \"dns\"\nvip = \"{V4}\"\nport = 5353\nprotocol = \"udp\"\n\
         forward = \"l2\"\n{backends}"
    );
    let agent = Agent::start(&topology, &config).unwrap();
    let service = SocketAddr::new(V4.parse().unwrap(), 5353);
    topology
        .client()
        .run(|| {
            let sockets: Vec<_> = (0..60).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect();
            sockets.iter().for_each(|s| s.set_read_timeout(Some(Duration::from_secs(1))).unwrap());
            let before: Vec<_> = sockets.iter().map(|socket| ask(socket, service)).collect();
            assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3, "{before:?}");
            let output = agent.cli(&["drain", "dns", &before[0]]).unwrap();
            assert!(output.status.success(), "{output:?}");
            let after: Vec<_> = sockets.iter().map(|socket| ask(socket, service)).collect();
            assert_eq!(after, before, "no flow changed its backend");
        })
        .unwrap();
}

/// The id of the program on an interface, as `prog/xdp id 7 name meshlb` says it.
fn program_on(topology: &Topology, interface: &str) -> String {
    let link = topology.balancer().command("ip").args(["-d", "link", "show", interface]).output().unwrap();
    let said = String::from_utf8_lossy(&link.stdout).into_owned();
    let (_, program) = said.split_once("prog/xdp id ").unwrap_or_else(|| panic!("{said}"));
    let [id, _, name] = program.split(' ').take(3).collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert_eq!(name, "meshlb", "{said}");
    id.to_owned()
}

fn assert_attached_to_again(lines: &str) {
    let (topology, _server, agent) = behind_another_interface_with(lines);
    let problems = || agent.cli_json::<Status>(&["status"]).unwrap().problems;
    assert_eq!(problems(), Vec::<String>::new());
    topology.balancer().ip("link del eth1").unwrap();
    eventually("the loss is told", SOON, || {
        problems().iter().any(|problem| problem.contains("eth1 is gone"))
    })
    .unwrap();
    second_cable(&topology, topology.backend(1).unwrap());
    eventually("all is well", SOON, || problems().is_empty()).unwrap();
    assert_eq!(program_on(&topology, "eth1"), program_on(&topology, "eth0"));
}

#[test]
fn an_interface_that_is_removed_and_made_again_is_attached_to_again() {
    assert_attached_to_again("");
}

#[test]
fn flows_are_logged_on_an_interface_that_is_made_again() {
    assert_attached_to_again("[flow_log]\nto = \"/dev/null\"\n");
}

#[test]
fn direct_return_to_a_backend_behind_a_router_is_told_and_not_tried() {
    let mut topology = Topology::builder().backends(1).build().unwrap();
    topology.add_vip(V4.parse().unwrap()).unwrap();
    let via = topology.backend(1).unwrap().v4();
    topology.balancer().ip(&format!("route add 10.99.0.0/24 via {via}")).unwrap();
    let text = config("[\"eth0\"]", [10, 99, 0, 1].into()).replace("health = { kind = \"tcp\" }", "");
    let agent = Agent::start(&topology, &text).unwrap();
    let status: Status = agent.cli_json(&["status"]).unwrap();
    assert!(
        status.problems.iter().any(|problem| problem.contains("behind a router")),
        "{:?}",
        status.problems
    );
}

/// Requests that fill whole segments of the client's links, which are as wide as those behind the balancer: with the
/// outer header they do not fit, and the client must be told.
fn assert_long_requests_get_through(vip: &str, way: Way) {
    let scene = Plot { mtu: Some(1500), ..Plot::new(vip, way).unwrap() }.set().unwrap();
    let client = scene.client().unwrap();
    for _ in 0..20 {
        let path = format!("/?filler={}", "x".repeat(6000));
        assert_eq!(client.get_path(scene.service(), &path).unwrap().status, 200);
    }
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    assert!(status.outcomes["too_big_told"] > 0, "{:?}", status.outcomes);
}

#[test]
fn clients_learn_the_path_mtu_over_ipv4() {
    assert_long_requests_get_through(V4, Way::IpipV4);
}

#[test]
fn clients_learn_the_path_mtu_over_ipv6() {
    assert_long_requests_get_through("2001:db8::10", Way::IpipV6);
}

#[test]
fn the_script_puts_a_vip_on_a_backend_silently_and_takes_it_away() {
    let topology = Topology::builder().backends(1).build().unwrap();
    let backend = topology.backend(1).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/vip-on-lo.sh");
    let run = |arguments: &[&str]| backend.command(script).args(arguments).status().unwrap().code();
    let has = |vip: &str| {
        let output =
            backend.command("ip").args(["-oneline", "address", "show", "dev", "lo"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains(vip)
    };
    for vip in ["198.51.100.77", "2001:db8::77"] {
        // Twice: what is done is done.
        assert_eq!([run(&["add", vip]), run(&["add", vip])], [Some(0); 2]);
        assert!(has(vip));
        assert_eq!([run(&["del", vip]), run(&["del", vip])], [Some(0); 2]);
        assert!(!has(vip));
    }
    let takes = |family: &str, prefix: &str| {
        let list = [family, "route", "show", "table", "local", "type", "local", "exact", prefix];
        !backend.command("ip").args(list).output().unwrap().stdout.is_empty()
    };
    for (family, prefix) in [("-4", "198.51.100.0/25"), ("-6", "2001:db8:77::/64")] {
        assert_eq!([run(&["add", prefix]), run(&["add", prefix])], [Some(0); 2]);
        assert!(takes(family, prefix));
        assert_eq!([run(&["del", prefix]), run(&["del", prefix])], [Some(0); 2]);
        assert!(!takes(family, prefix));
    }
    let ignore = backend.command("cat").arg("/proc/sys/net/ipv4/conf/all/arp_ignore").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ignore.stdout).trim(), "1");
    assert_eq!(
        [&["add"][..], &["put", "192.0.2.1"], &["add", "nonsense"], &["add", "192.0.2.1/24"]]
            .map(|arguments| run(arguments) != Some(0)),
        [true; 4]
    );
}
