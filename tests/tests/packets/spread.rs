//! Outer source addresses that differ between flows, and the UDP ports of tunnels.

use std::collections::BTreeSet;

use ipnet::IpNet;
use mesh_common::abi::BackendEntry;
use mesh_common::outcome::Outcome;
use mesh_userspace::config::OuterSource;

use crate::frame::{ETHERNET, Frame};
use crate::tunnels::{Between, Tunnel};
use crate::world::{Way, World, opening, services};

/// Prefixes towards IPv4 and IPv6 backends, and how many bits of the source they leave to the hash: at most 16 and 32.
const PREFIXES: [(&str, &str, u8, u8); 4] = [
    ("10.255.0.0/16", "fd00:1::/64", 16, 32),
    ("172.16.0.0/12", "fd00:1::/96", 16, 32),
    ("10.255.255.240/28", "fd00:1::fff0/124", 4, 4),
    ("10.255.4.1/32", "fd00:1::1/128", 0, 0),
];

const FLOWS: u16 = 40;

fn sources(v4: &str, v6: &str) -> OuterSource {
    OuterSource { v4: Some(v4.parse().unwrap()), v6: Some(v6.parse().unwrap()) }
}

/// The outer source of a packet.
fn source(packet: &[u8]) -> Vec<u8> {
    if packet[ETHERNET] == 0x45 { packet[26..30].to_vec() } else { packet[22..38].to_vec() }
}

#[test]
fn outer_sources_differ_between_flows_within_their_prefix() {
    for (way, (v4, v6, spread4, spread6)) in
        Way::wrapping().flat_map(|way| PREFIXES.map(|prefixes| (way, prefixes)))
    {
        let mut world = World::with(way.entry_from(sources(v4, v6)));
        let plain = way.tunnel().unwrap();
        let (prefix, spread) = if plain.source.is_ipv4() { (v4, spread4) } else { (v6, spread6) };
        let prefix: IpNet = prefix.parse().unwrap();
        let tunnel = Tunnel { source: prefix.addr(), spread, ..plain };
        let mut seen = BTreeSet::new();
        for (service, port) in
            services().iter().flat_map(|service| (0..FLOWS).map(move |n| (service, 4000 + n)))
        {
            let mut frame = Frame { traffic_class: 0xb9, payload: 99, ..opening(service) };
            frame.source.set_port(port);
            let output = tunnel.wrap(&frame);
            seen.insert(source(&output));
            world.check_sent_as(&format!("{way:?} {prefix}"), output, Outcome::Transmitted, &frame);
        }
        let expected = if spread >= 16 { 70 } else { 1 << spread };
        assert!(seen.len() >= expected, "{way:?} {prefix}: {} sources", seen.len());
    }
}

#[test]
fn direct_return_has_no_outer_source() {
    let mut world = World::with(Way::L2.entry_from(sources("10.255.0.0/16", "fd00:1::/64")));
    for service in services() {
        world.check_sent("l2", Way::L2, Outcome::Transmitted, &opening(&service));
    }
}

#[test]
fn udp_goes_to_the_port_that_the_service_says() {
    for way in [Way::Gue4, Way::Gue6, Way::Geneve4, Way::Geneve6] {
        for port in [1, 443, 0xffff] {
            let mut world = World::with(BackendEntry { port, ..way.entry() });
            let plain = way.tunnel().unwrap();
            let between = match plain.between {
                Between::Geneve(_) => Between::Geneve(port),
                Between::Nothing | Between::Gue(_) => Between::Gue(port),
            };
            for service in services() {
                let frame = opening(&service);
                let output = Tunnel { between, ..plain }.wrap(&frame);
                world.check_sent_as(&format!("{way:?} to {port}"), output, Outcome::Transmitted, &frame);
            }
        }
    }
}

#[test]
fn udp_source_ports_spread_flows() {
    let mut world = World::new(Way::Gue4);
    let service = services().remove(0);
    let port = |number| {
        let mut frame = opening(&service);
        frame.source.set_port(number);
        let (_, packet) = world.lab.send(&frame.bytes()).unwrap();
        u16::from_be_bytes([packet[ETHERNET + 20], packet[ETHERNET + 21]])
    };
    let ports: BTreeSet<u16> = (1000..1500).map(port).collect();
    assert!(ports.len() > 480 && ports.iter().all(|port| *port >= 49152), "{} ports", ports.len());
}
