//! The far end of tunnels with real traffic: how it is attached, what it counts, and where outer headers come from.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions};
use etherparse::{IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, PacketBuilder, VlanId};
use ipnet::IpNet;
use mesh_common::abi::tunnel;
use mesh_common::outcome::DecapOutcome;
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::{Client, Decap, Host};
use mesh_userspace::api::types::Status;
use mesh_userspace::decap::{self, Decapsulator};
use nix::net::if_::if_nametoindex;

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";
const METRICS: u16 = 9441;

/// A service with one backend.
fn plot(vip: &str, way: Way) -> Plot {
    Plot { weights: vec![100], ..Plot::new(vip, way).unwrap() }
}

/// Requests that fill many segments arrive.
fn assert_arrives(scene: &Scene) {
    let client = scene.client().unwrap();
    for _ in 0..20 {
        let path = format!("/?filler={}", "x".repeat(6000));
        assert_eq!(client.get_path(scene.service(), &path).unwrap().status, 200);
    }
}

/// A counter of the decapsulator on a backend, as Prometheus would read it.
fn counted(host: &Host, outcome: DecapOutcome) -> u64 {
    let reply = Client::new(host).unwrap().get_path((host.v4(), METRICS).into(), "/metrics").unwrap();
    let name = format!("meshlb_decap_packets_total{{outcome=\"{}\"}} ", outcome.label());
    let value = reply.body.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap_or_else(|| unreachable!("{}", reply.body)).parse().unwrap()
}

#[test]
fn counters_are_served_and_told_at_the_end() {
    let decap = vec!["--metrics", "0.0.0.0:9441"];
    let mut scene = Plot { decap, ..plot(V4, Way::GueV4) }.set().unwrap();
    assert_arrives(&scene);
    let host = scene.topology.backend(1).unwrap().clone();
    assert!(counted(&host, DecapOutcome::Decapsulated) > 20);
    assert_eq!(counted(&host, DecapOutcome::BadOuter), 0);
    let missing = Client::new(&host).unwrap().get_path((host.v4(), METRICS).into(), "/").unwrap();
    assert_eq!(missing.status, 404);
    let log = scene.decaps.remove(0).terminate().unwrap();
    assert!(log.contains("ended") && log.contains("decapsulated="), "{log}");
}

#[test]
fn an_address_for_metrics_that_is_taken_is_told() {
    let scene = plot(V4, Way::L2).set().unwrap();
    let host = scene.topology.backend(1).unwrap();
    // The port of the backend's own server.
    let error = Decap::start_with(host, &[V4], &["--metrics", "0.0.0.0:8080"]).unwrap_err();
    assert!(format!("{error:#}").contains("give --metrics another"), "{error:#}");
}

#[test]
fn tc_takes_over_where_xdp_has_another_program() {
    let scene = plot(V4, Way::IpipV4).set().unwrap();
    let host = scene.topology.backend(1).unwrap();
    let second = Decap::start(host, &["192.0.2.99"]).unwrap();
    let log = second.log();
    assert!(log.contains("another XDP program") && log.contains("tc (tcx)"), "{log}");
    assert_arrives(&scene);
}

#[test]
fn tc_unwraps_what_the_stack_has_merged() {
    for (vip, way) in [(V4, Way::IpipV4), (V6, Way::IpipV4), (V4, Way::GueV6)] {
        let decap = vec!["--mode", "tc", "--metrics", "0.0.0.0:9441"];
        let scene = Plot { decap, ..plot(vip, way) }.set().unwrap();
        let host = scene.topology.backend(1).unwrap();
        let merge = host.command("ethtool").args(["-K", "eth0", "gro", "on"]).status().unwrap();
        assert!(merge.success());
        assert_arrives(&scene);
        assert!(counted(host, DecapOutcome::Decapsulated) > 0);
        assert_eq!(counted(host, DecapOutcome::NotRemoved), 0);
    }
}

/// A decapsulator within this process.
fn attached(host: &Host, way: decap::Way) -> Decapsulator {
    let vips: BTreeSet<IpNet> = [V4.parse::<IpAddr>().unwrap().into()].into();
    let mut decapsulator = Decapsulator::load().unwrap();
    decapsulator.set_vips(&vips).unwrap();
    decapsulator.set_own_addresses(&[host.v4().into(), host.v6().into()].into()).unwrap();
    decapsulator.set_ports(&[(6080, tunnel::GUE)].into()).unwrap();
    let attach = || decap::attach_by(&mut decapsulator, "eth0", way);
    host.run(attach).unwrap().unwrap();
    decapsulator
}

fn unwrapped(decapsulator: &Decapsulator) -> u64 {
    decapsulator.outcomes().unwrap().remove(&DecapOutcome::Decapsulated).unwrap()
}

#[test]
fn clsact_does_where_there_is_no_tcx_and_what_a_killed_process_left_goes() {
    let mut scene = plot(V4, Way::GueV6).set().unwrap();
    scene.decaps.clear();
    let host = scene.topology.backend(1).unwrap();
    let left = attached(host, decap::Way::Clsact);
    assert_arrives(&scene);
    let next = attached(host, decap::Way::Clsact);
    let before = unwrapped(&left);
    assert!(before > 0);
    assert_arrives(&scene);
    assert_eq!(unwrapped(&left), before);
    assert!(unwrapped(&next) > 0);
    // Links of tc's old kind go by netlink, in the namespace where they are.
    host.run(|| drop((next, left))).unwrap();
    let filters = host.command("tc").args(["filter", "show", "dev", "eth0", "ingress"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&filters.stdout).trim(), "");
}

/// An IPIP packet for the VIP to a host, in a VLAN or in none.
fn ipip(host: &Host, vlan: Option<VlanId>) -> Vec<u8> {
    let [client, vip] = [[198, 51, 100, 7], [192, 0, 2, 10]];
    let mut inner = Vec::new();
    PacketBuilder::ipv4(client, vip, 64).udp(4000, 9).write(&mut inner, b"inner").unwrap();
    let outer = Ipv4Header::new(0, 64, IpNumber::IPV4, [10, 0, 0, 9], host.v4().octets()).unwrap();
    let outer = IpHeaders::Ipv4(outer, Ipv4Extensions::default());
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let step = match vlan {
        Some(vlan) => ethernet.single_vlan(vlan).ip(outer),
        None => ethernet.ip(outer),
    };
    let mut packet = Vec::new();
    step.write(&mut packet, IpNumber::IPV4, &inner).unwrap();
    packet
}

/// Has the host's stack receive a frame on `eth0`, where this program runs in the driver and passes it.
fn receive(host: &Host, driver: &mut Decapsulator, frame: &[u8]) {
    let index = host.run(|| if_nametoindex("eth0")).unwrap().unwrap();
    let length = u32::try_from(frame.len()).unwrap();
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: Vec<u8> = [0, length, 0, index, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let attrs = TestRunAttrs::new().xdp_live_frames(1);
    let options =
        TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), attrs, ..TestRunOptions::new() };
    host.run(|| driver.xdp().unwrap().test_run(options)).unwrap().unwrap();
}

#[test]
fn tc_leaves_tagged_frames_alone_though_it_does_not_see_the_tag_in_them() {
    let mut scene = plot(V4, Way::IpipV4).set().unwrap();
    scene.decaps.clear();
    let host = scene.topology.backend(1).unwrap();
    // It has no addresses, and so unwraps nothing.
    let mut driver = Decapsulator::load().unwrap();
    host.run(|| decap::attach_by(&mut driver, "eth0", decap::Way::Native)).unwrap().unwrap();
    let tc = attached(host, decap::Way::Tcx);
    receive(host, &mut driver, &ipip(host, None));
    assert_eq!(unwrapped(&tc), 1);
    receive(host, &mut driver, &ipip(host, Some(VlanId::try_new(7).unwrap())));
    assert_eq!(unwrapped(&tc), 1);
    assert!(tc.outcomes().unwrap().get(&DecapOutcome::NotATunnel) > Some(&0));
    host.run(|| drop((tc, driver))).unwrap();
}

/// Outer sources that no host has reach backends that are strict about sources.
fn assert_sources_arrive(vip: &str, way: Way, decap: &[&'static str]) {
    let file = "[agent]\nouter_source = [\"10.255.0.0/16\", \"fd00:1::/64\"]".into();
    let decap = [decap, &["--metrics", "0.0.0.0:9441"]].concat();
    let scene = Plot { file, decap, ..plot(vip, way) }.set().unwrap();
    let host = scene.topology.backend(1).unwrap();
    host.sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap();
    assert_arrives(&scene);
    assert!(counted(host, DecapOutcome::Decapsulated) > 0);
}

#[test]
fn outer_sources_arrive_where_xdp_unwraps() {
    assert_sources_arrive(V4, Way::IpipV4, &[]);
    assert_sources_arrive(V6, Way::GueV6, &[]);
}

#[test]
fn outer_sources_arrive_where_tc_unwraps() {
    assert_sources_arrive(V6, Way::GeneveV4, &["--mode", "tc"]);
    assert_sources_arrive(V4, Way::IpipV6, &["--mode", "tc"]);
}

#[test]
fn senders_that_ask_for_fragments_are_told_and_go_on_with_shorter_packets() {
    let mut plot = Plot { mtu: Some(1500), ..plot(V4, Way::GueV4) };
    plot.service.push_str("\noversized = \"tell\"");
    let scene = plot.set().unwrap();
    // Packets of this client may be fragmented.
    scene.topology.client().sysctl("net/ipv4/ip_no_pmtu_disc", "1").unwrap();
    assert_arrives(&scene);
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    let [told, dropped] = ["too_big_told", "too_big"].map(|outcome| status.outcomes.get(outcome).copied());
    assert!(told > Some(0) && dropped == Some(0), "{:?}", status.outcomes);
}
