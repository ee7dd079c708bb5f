//! The harness itself, with no balancer in it: what the other integration tests take for granted.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

#[path = "harness/cleanup.rs"]
mod cleanup;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use mesh_tests::wait::until;
use mesh_tests::{Client, Download, Downloads, Host, HttpServer, Topology};

const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);
const PORT: u16 = 8080;

fn both_families(host: &Host) -> [SocketAddr; 2] {
    [IpAddr::from(host.v4()), IpAddr::from(host.v6())].map(|address| SocketAddr::new(address, PORT))
}

fn serve(topology: &Topology) -> Vec<HttpServer> {
    topology.backends().iter().map(|host| HttpServer::start(host, PORT, host.name()).unwrap()).collect()
}

fn assert_every_backend_answers(topology: &Topology) {
    let servers = serve(topology);
    let client = Client::new(topology.client()).unwrap();
    for (host, server) in topology.backends().iter().zip(&servers) {
        for address in both_families(host) {
            let reply = client.get(address).unwrap();
            assert_eq!((reply.status, reply.body.as_str()), (200, server.name()));
            assert_eq!(reply.backend.as_deref(), Some(server.name()));
            let seen = reply.client.map(|client| client.ip());
            assert_eq!(seen, Some(topology.client().address_like(address.ip())), "the source is kept");
        }
        assert_eq!((server.connections(), server.requests()), (2, 2));
    }
}

#[test]
fn the_client_reaches_every_backend_over_both_families() {
    assert_every_backend_answers(&Topology::builder().backends(3).build().unwrap());
}

#[test]
fn the_client_reaches_every_backend_through_a_router() {
    assert_every_backend_answers(&Topology::builder().backends(2).router(true).build().unwrap());
}

#[test]
fn two_topologies_at_once_do_not_meet() {
    let build = || Topology::builder().backends(1).build().unwrap();
    let (one, two) = (build(), build());
    let address = both_families(&one.backends()[0])[0];
    let _server = HttpServer::start(&one.backends()[0], PORT, "one").unwrap();
    let other = HttpServer::start(&two.backends()[0], PORT, "two").unwrap();
    assert_eq!(Client::new(one.client()).unwrap().get(address).unwrap().body, "one");
    assert_eq!(Client::new(two.client()).unwrap().get(address).unwrap().body, "two");
    drop(one);
    assert_eq!(Client::new(two.client()).unwrap().get(address).unwrap().body, "two");
    assert_eq!(other.connections(), 2);
}

#[test]
fn a_killed_server_fails_its_downloads_and_no_others() {
    let topology = Topology::builder().backends(2).build().unwrap();
    let mut servers = serve(&topology);
    let client = Client::new(topology.client()).unwrap();
    let start = |host: &Host| {
        let download = Download::lasting(both_families(host)[0], Duration::from_millis(800));
        Downloads::start(&client, 4, download)
    };
    let (doomed, spared) = (start(&topology.backends()[0]), start(&topology.backends()[1]));
    doomed.flowing(SOON).unwrap();
    spared.flowing(SOON).unwrap();
    servers[0].kill();
    let (doomed, spared) = (doomed.finish(SOON).unwrap(), spared.finish(SOON).unwrap());
    assert_eq!((spared.completed, spared.failures.len()), (4, 0), "{:?}", spared.failures);
    assert_eq!((doomed.completed, doomed.failures.len()), (0, 4));
    for failure in doomed.failures {
        assert_eq!(failure.backend.as_deref(), Some("backend-1"));
        assert!(failure.bytes > 0);
        assert!(failure.reason.contains("reset by peer"), "{}", failure.reason);
    }
    assert_eq!(servers[1].connections(), 4, "each download has a connection of its own");
}

#[test]
fn a_killed_server_refuses_until_it_is_restarted() {
    let topology = Topology::builder().build().unwrap();
    let mut server = serve(&topology).remove(0);
    let client = Client::new(topology.client()).unwrap();
    let address = both_families(&topology.backends()[0])[1];
    server.kill();
    let error = client.get(address).unwrap_err();
    assert!(format!("{error:#}").contains("refused"), "{error:#}");
    server.restart().unwrap();
    assert_eq!(client.get(address).unwrap().body, "backend-1");
}

#[test]
fn health_is_what_the_test_says() {
    let topology = Topology::builder().build().unwrap();
    let server = serve(&topology).remove(0);
    let client = Client::new(topology.client()).unwrap();
    let address = both_families(&topology.backends()[0])[0];
    let ask = || client.get_path(address, "/healthz").unwrap().status;
    assert_eq!(ask(), 200);
    server.set_healthy(false);
    assert_eq!(ask(), 503);
}

#[test]
fn a_pulled_cable_stalls_downloads_and_a_restored_one_works_again() {
    let topology = Topology::builder().router(true).build().unwrap();
    let _servers = serve(&topology);
    let client = Client::new(topology.client()).unwrap();
    let backend = &topology.backends()[0];
    let [v4, v6] = both_families(backend);
    let lasting = Download::lasting(v6, LONG);
    let downloads = Downloads::start(&client, 2, Download { stall: Duration::from_millis(300), ..lasting });
    downloads.flowing(SOON).unwrap();
    backend.link_down().unwrap();
    let summary = downloads.finish(SOON).unwrap();
    assert_eq!((summary.completed, summary.failures.len()), (0, 2));
    backend.link_up().unwrap();
    for address in [v4, v6] {
        until("the backend answers again", SOON, || client.get(address)).unwrap();
    }
}

#[test]
fn a_backend_added_later_answers_and_owns_the_vips() {
    let vips: [IpAddr; 2] = ["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()];
    let mut topology = Topology::builder().backends(1).build().unwrap();
    vips.iter().for_each(|vip| topology.add_vip(*vip).unwrap());
    let backend = topology.add_backend().unwrap();
    let _server = HttpServer::start(&backend, PORT, "late").unwrap();
    let client = Client::new(topology.client()).unwrap();
    for address in both_families(&backend) {
        assert_eq!(client.get(address).unwrap().body, "late");
    }
    let local = Client::new(&backend).unwrap();
    for vip in vips {
        assert_eq!(local.get(SocketAddr::new(vip, PORT)).unwrap().body, "late");
    }
}

fn next_hop(host: &Host, destination: IpAddr) -> String {
    let output = host.command("ip").args(["route", "get", &destination.to_string()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_vip_is_routed_to_the_balancer_with_and_without_a_router() {
    for router in [false, true] {
        let mut topology = Topology::builder().router(router).build().unwrap();
        for vip in ["192.0.2.10", "2001:db8::10"].map(|vip| vip.parse().unwrap()) {
            topology.add_vip(vip).unwrap();
            let gateway = topology.balancer().address_like(vip);
            let way = next_hop(topology.router().unwrap_or(topology.client()), vip);
            assert!(way.contains(&format!("via {gateway} ")), "{way}");
        }
    }
}

#[test]
fn no_backend_claims_a_vip_on_the_wire() {
    let mut topology = Topology::builder().backends(2).build().unwrap();
    let _servers = serve(&topology);
    let client = topology.client().clone();
    for (family, vip) in [("ipv4", "192.0.2.10"), ("ipv6", "2001:db8::10")] {
        let vip = vip.parse().unwrap();
        topology.add_vip(vip).unwrap();
        client.ip(&format!("route replace {vip} dev eth0\n")).unwrap();
        client.sysctl(&format!("net/{family}/neigh/eth0/retrans_time_ms"), "20").unwrap();
        let error = Client::new(&client).unwrap().get(SocketAddr::new(vip, PORT)).unwrap_err();
        assert!(format!("{error:#}").contains("No route to host"), "{error:#}");
    }
}

#[test]
fn bulk_downloads_fit_through_all_mtus() {
    for router in [false, true] {
        let topology = Topology::builder().router(router).build().unwrap();
        let _servers = serve(&topology);
        let client = Client::new(topology.client()).unwrap();
        for address in both_families(&topology.backends()[0]) {
            let slow = Download::lasting(address, SOON);
            let bulk = Download { chunks: 64, size: 1 << 18, pause: Duration::ZERO, ..slow };
            let summary = Downloads::start(&client, 2, bulk).finish(LONG).unwrap();
            assert_eq!((summary.completed, summary.failures.len()), (2, 0), "{:?}", summary.failures);
        }
    }
}

#[test]
fn futures_and_closures_run_inside_their_host() {
    let topology = Topology::builder().build().unwrap();
    let expected = fs::metadata(topology.client().namespace_path()).unwrap().ino();
    let here = || fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
    assert_eq!(topology.client().run(here).unwrap(), expected);
    let runtime = topology.client().runtime(2).unwrap();
    assert_eq!(runtime.block_on(async move { here() }).unwrap(), expected);
    let blocking = async move { tokio::task::spawn_blocking(here).await.unwrap() };
    assert_eq!(runtime.block_on(blocking).unwrap(), expected);
    let shared = topology.client().spawn(async move { here() }).unwrap();
    assert_eq!(runtime.block_on(shared).unwrap().unwrap(), expected);
    assert_ne!(here(), expected, "the test itself stays where it was");
}

#[test]
fn each_topology_has_a_bpffs_that_commands_see() {
    let topology = Topology::builder().build().unwrap();
    let command = &mut topology.balancer().command("stat");
    let output = command.args(["-f", "-c", "%T"]).arg(topology.bpffs()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "bpf_fs");
}

#[test]
fn a_clients_full_packet_and_a_tunnel_header_fit_between_balancer_and_backends() {
    let topology = Topology::builder().build().unwrap();
    let mtu = |host: &Host| {
        let output = host.command("ip").args(["-o", "link", "show", mesh_tests::INTERFACE]).output().unwrap();
        let link = String::from_utf8(output.stdout).unwrap();
        link.split(" mtu ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(mtu(topology.client()), "1500");
    assert_eq!(mtu(topology.balancer()), "1600");
    assert_eq!(mtu(&topology.backends()[0]), "1600");
}

#[test]
fn no_end_of_a_cable_hands_over_what_a_wire_would_not() {
    let topology = Topology::builder().router(true).build().unwrap();
    for host in [topology.client(), topology.balancer(), topology.router().unwrap(), &topology.backends()[0]]
    {
        let output = host.command("ethtool").args(["-k", mesh_tests::INTERFACE]).output().unwrap();
        let features = String::from_utf8(output.stdout).unwrap();
        for feature in ["tx-checksumming", "tcp-segmentation-offload", "generic-receive-offload"] {
            assert!(features.contains(&format!("{feature}: off")), "{}: {features}", host.name());
        }
    }
}

#[test]
fn a_cable_is_prepared_for_native_xdp_once() {
    let topology = Topology::builder().build().unwrap();
    let balancer = topology.balancer();
    assert!(!topology.is_native(balancer));
    topology.attach_pass_program(balancer).unwrap();
    topology.attach_pass_program(balancer).unwrap();
    assert!(topology.is_native(balancer));
    let _servers = serve(&topology);
    let from_balancer = Client::new(balancer).unwrap();
    let address = both_families(&topology.backends()[0])[0];
    assert_eq!(from_balancer.get(address).unwrap().body, "backend-1", "ordinary traffic still passes");
}
