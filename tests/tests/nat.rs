//! Translation with real clients and servers.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail by panicking, too")]

#[path = "nat/crowd.rs"]
mod crowd;
#[path = "nat/dns.rs"]
mod dns;
#[path = "nat/local.rs"]
mod local;
#[path = "nat/outliers.rs"]
mod outliers;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use mesh_tests::scene::{PORT, Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Client, Download, Downloads, Host, LoggedChild};
use mesh_userspace::api::types::{BackendView, Status};

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

/// Longer than a closed connection keeps its port, with the time between two looks.
const WAITED: Duration = Duration::from_secs(100);

const ALL: [(&str, Way); 4] = [
    ("192.0.2.10", Way::NatV4),
    ("2001:db8::10", Way::NatV6),
    ("192.0.2.10", Way::NatV6),
    ("2001:db8::10", Way::NatV4),
];

/// No probes, which would be connections, too; these lines for [service.nat].
fn unprobed(vip: &str, way: Way, backends: usize, nat: &str) -> Plot {
    Plot {
        weights: vec![100; backends],
        service: format!("nat = {{ {nat} }}"),
        ..Plot::new(vip, way).unwrap()
    }
}

fn status(scene: &Scene) -> Status {
    scene.agent.cli_json(&["status"]).unwrap()
}

fn outcome(scene: &Scene, name: &str) -> u64 {
    status(scene).outcomes.get(name).copied().unwrap()
}

#[test]
fn clients_are_served_by_backends_that_know_nothing_of_the_vip() {
    for (vip, way) in ALL {
        let scene = Plot::new(vip, way).unwrap().set().unwrap();
        let answers = scene.answers(60).unwrap();
        assert_eq!(answers.len(), 3, "{vip} {way:?}: {answers:?}");
        let sent = outcome(&scene, "transmitted") + outcome(&scene, "redirected");
        let replies = outcome(&scene, "reply_transmitted") + outcome(&scene, "reply_redirected");
        assert!(sent > 0 && replies > 0, "{sent} {replies}");
        let backends: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
        assert!(
            backends.iter().all(|backend| backend.replies > 0 && backend.reply_bytes > 0),
            "{backends:?}"
        );
    }
}

#[test]
fn connections_outlive_the_agent_and_drains() {
    for (vip, way) in [ALL[0], ALL[2]] {
        let mut scene = Plot { native: true, ..Plot::new(vip, way).unwrap() }.set().unwrap();
        let downloads = Downloads::start(
            &scene.client().unwrap(),
            20,
            Download::lasting(scene.service(), Duration::from_secs(8)),
        );
        downloads.flowing(SOON).unwrap();
        scene.agent.kill9().unwrap();
        assert!(scene.answers(10).is_ok());
        scene.agent.restart().unwrap();
        eventually("the connections are found", SOON, || status(&scene).connections.used >= 20).unwrap();
        let drained = scene.backend(0).unwrap().to_string();
        scene.must(&["drain", "web", &drained]).unwrap();
        assert_eq!(scene.answers(20).unwrap().len(), 2);
        let summary = downloads.finish(LONG).unwrap();
        assert_eq!((summary.completed, summary.failures.len()), (20, 0), "{:?}", summary.failures);
    }
}

#[test]
fn backends_that_answer_by_way_of_here_see_their_clients() {
    for (vip, way) in [ALL[0], ALL[1]] {
        let scene = unprobed(vip, way, 2, "source = \"keep\"").set().unwrap();
        let client = scene.topology.client().address_like(scene.service().ip());
        for backend in scene.topology.backends() {
            let gateway = scene.topology.balancer().address_like(client);
            backend.ip(&format!("route replace {client} via {gateway}\n")).unwrap();
        }
        let reply = scene.client().unwrap().get(scene.service()).unwrap();
        assert_eq!(reply.client.unwrap().ip(), client);
        assert_eq!(scene.answers(40).unwrap().len(), 2);
    }
}

#[test]
fn packets_come_from_the_sources_and_reach_the_ports_that_are_configured() {
    const SOURCE: &str = "10.77.0.250";
    let nat = format!("source = [\"{SOURCE}\"], ports = \"2000-2999\", port = 9999");
    let mut plot = unprobed("192.0.2.10", Way::NatV4, 2, &nat);
    plot.members = vec!["port = 8080"];
    let scene = plot.set().unwrap();
    scene.topology.balancer().ip(&format!("addr add {SOURCE}/24 dev eth0\n")).unwrap();
    let impatient = Client::with_timeout(scene.topology.client(), Duration::from_secs(1)).unwrap();
    let mut replies = 0;
    // Nothing listens on the other backend's port.
    for _ in 0..20 {
        let Ok(reply) = impatient.get(scene.service()) else { continue };
        let client = reply.client.unwrap();
        assert!(client.ip() == SOURCE.parse::<IpAddr>().unwrap() && (2000..3000).contains(&client.port()));
        assert_eq!(reply.backend.unwrap(), scene.backend(0).unwrap().to_string());
        replies += 1;
    }
    assert!((1..20).contains(&replies), "{replies}");
    let backends: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
    let refused: Vec<u64> = backends.iter().map(|backend| backend.refused).collect();
    assert!(refused.contains(&0) && refused.iter().any(|refused| *refused > 0), "{refused:?}");
}

#[test]
fn a_backend_may_be_a_client_of_its_own_service() {
    for (vip, way) in ALL {
        let scene = Plot::new(vip, way).unwrap().set().unwrap();
        let backend = scene.topology.backend(1).unwrap();
        let gateway = scene.topology.balancer().address_like(scene.service().ip());
        backend.ip(&format!("route replace {vip} via {gateway}\n")).unwrap();
        let client = Client::new(backend).unwrap();
        let mut own = 0;
        for _ in 0..30 {
            let reply = client.get(scene.service()).unwrap();
            own += u32::from(reply.backend.unwrap() == scene.backend(0).unwrap().to_string());
        }
        assert!((1..30).contains(&own), "{own} of 30 were answered by itself");
    }
}

#[test]
fn where_no_port_is_left_somebody_is_told_and_ports_come_back() {
    let scene = unprobed("192.0.2.10", Way::NatV4, 1, "ports = \"2000-2009\"").set().unwrap();
    let service = scene.service();
    let client = scene.client().unwrap();
    let held = Download { pause: Duration::from_secs(1), chunks: 20, ..Download::lasting(service, SOON) };
    let downloads = Downloads::start(&client, 10, held);
    downloads.flowing(SOON).unwrap();
    let impatient = Client::with_timeout(scene.topology.client(), Duration::from_secs(1)).unwrap();
    assert!(impatient.get(service).is_err());
    assert!(outcome(&scene, "ports_exhausted") > 0);
    eventually("a problem says so", SOON, || {
        status(&scene).problems.iter().any(|problem| problem.contains("nat.source"))
    })
    .unwrap();
    let events = String::from_utf8(scene.agent.cli(&["events"]).unwrap().stdout).unwrap();
    assert!(events.contains("connections are refused: no port is left"), "{events}");
    let summary = downloads.finish(LONG).unwrap();
    assert_eq!((summary.completed, summary.failures.len()), (10, 0), "{:?}", summary.failures);
    eventually("closed connections give their ports back", WAITED, || impatient.get(service).is_ok())
        .unwrap();
}

#[test]
fn one_client_has_sixty_thousand_flows_at_a_time() {
    const SOURCE: &str = "10.77.0.250";
    const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 10), 53);
    // No more than three per cent of the ports stay free, and many clients' own are not among them.
    let mut plot = unprobed("192.0.2.10", Way::NatV4, 1, "");
    plot.file = format!(
        "[[service]]\nname = \"echo\"\nvip = \"192.0.2.10\"\nport = 53\nprotocol = \"udp\"\nforward = \"nat\"\n\
         nat = {{ source = [\"{SOURCE}\"], ports = \"4000-65535\", port = 7 }}\n\
         [[service.backend]]\naddress = \"10.77.0.101\"\n"
    );
    let scene = plot.set().unwrap();
    let backend = scene.topology.backend(1).unwrap();
    assert_eq!(backend.v4().to_string(), "10.77.0.101");
    scene.topology.balancer().ip(&format!("addr add {SOURCE}/24 dev eth0\n")).unwrap();
    let _server = crowd::echo(backend, 7);
    for _ in 0..2 {
        let answered = crowd::ask_from(scene.topology.client(), 1024..61_024, SERVICE, LONG);
        assert_eq!(answered, 60_000);
    }
    eventually("all are known", SOON, || status(&scene).connections.used >= 60_000).unwrap();
}

#[test]
fn transfers_end_where_the_way_to_the_backends_is_narrower() {
    for (vip, way) in ALL {
        let scene = Plot::new(vip, way).unwrap().set().unwrap();
        for number in 0..3 {
            let backend = scene.backend(number).unwrap();
            scene.topology.balancer().ip(&format!("route replace {backend} dev eth0 mtu 1300\n")).unwrap();
        }
        eventually("the narrower way is known", SOON, || {
            let backends: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
            let is_known =
                |backend: &BackendView| backend.next_hop.as_ref().is_some_and(|hop| hop.contains("mtu 1300"));
            backends.iter().all(is_known)
        })
        .unwrap();
        let (client, service) = (scene.topology.client(), scene.service());
        // A request of several long segments.
        let long = format!("x-long: {}", "x".repeat(7000));
        assert!(!curl(client, &["-H", &long], service, "/").is_empty());
        assert!(outcome(&scene, "too_big_told") > 0);
        let downloaded = curl(client, &[], service, "/download?chunks=300&size=1024&pause_ms=0");
        assert_eq!(downloaded.len(), 300 * 1024);
    }
}

/// What curl gets; it must.
fn curl(client: &Host, arguments: &[&str], service: SocketAddr, path: &str) -> Vec<u8> {
    let mut curl = client.command("curl");
    let output =
        curl.args(["-gsS", "--max-time", "20"]).args(arguments).arg(format!("http://{service}{path}"));
    let output = output.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn bulk_traffic_passes_and_every_checksum_is_right() {
    const BULK: u16 = 5201;
    for (vip, way) in ALL {
        let scene = unprobed(vip, way, 1, &format!("port = {BULK}")).set().unwrap();
        let directory = scene.topology.directory();
        let backend = scene.topology.backend(1).unwrap();
        let server = start(backend, "iperf3", &["-s", "-1", "--forceflush"], &directory, "listening");
        let filter = ["-i", "eth0", "-nvv", "-c", "3000", "ip", "or", "ip6"];
        let captures: Vec<LoggedChild> = [scene.topology.client(), backend]
            .map(|host| start(host, "tcpdump", &filter, &directory, "listening on"))
            .into();
        let mut client = scene.topology.client().command("iperf3");
        let (address, port) = (scene.service().ip().to_string(), PORT.to_string());
        client.args(["-c", &address, "-p", &port, "-t", "3", "--bidir"]);
        let output = client.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
        drop(server);
        for capture in captures {
            let seen = capture.finish(SOON).unwrap();
            assert!(seen.matches("correct)").count() > 1000, "{seen}");
            for wrong in ["incorrect", "bad cksum", "bad udp", "wrong icmp"] {
                assert!(!seen.contains(wrong), "{vip} {way:?}: {wrong}");
            }
        }
    }
}

/// Starts a tool in a host, and waits until it says a word.
fn start(
    host: &Host,
    tool: &str,
    arguments: &[&str],
    directory: &std::path::Path,
    word: &str,
) -> LoggedChild {
    let mut command: Command = host.command(tool);
    command.args(arguments);
    let log = directory.join(format!("{tool}-{}.log", host.name()));
    let mut child = LoggedChild::spawn(tool, command, log).unwrap();
    child
        .await_ready(SOON, |child| {
            anyhow::ensure!(child.log().contains(word), "it has not said {word:?}");
            Ok(())
        })
        .unwrap();
    child
}
