//! The decapsulator: which outer headers go, and that nothing else is touched. Each packet goes through both programs.

mod congestion;
mod inner;
mod outcomes;
mod outer;
mod udp;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_common::outcome::DecapOutcome;
use mesh_tests::lab::{DecapLab, Verdict};

use crate::frame::{ETHERNET, Frame};
use crate::tunnels::{Between, Tunnel};
use crate::world::{Way, World, assert_same, opening, services, xdp};

const OWN: [&str; 2] = ["10.0.0.1", "fd00::1"];
const VIPS: [&str; 2] = ["192.0.2.10/32", "2001:db8::10/128"];

/// What tc calls the ends of programs (include/uapi/linux/pkt_cls.h): as if there were no program, and dropped.
const UNSPEC: u32 = u32::MAX;
const SHOT: u32 = 2;

/// Other packets go through XDP's program only: test runs of tc's take what fits a page, and no cut IP header.
fn is_for_tc(packet: &[u8]) -> bool {
    const LONGEST: usize = 3000;
    let header = match packet[12..ETHERNET] {
        [0x08, 0x00] => 20,
        [0x86, 0xdd] => 40,
        _ => 1,
    };
    (ETHERNET + header..=LONGEST).contains(&packet.len())
}

fn own() -> [IpAddr; 2] {
    OWN.map(|text| text.parse().unwrap())
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn lab() -> DecapLab {
    DecapLab::new(&own(), &nets(&VIPS)).unwrap()
}

/// Every encapsulation, to the addresses of this host.
fn tunnels() -> Vec<Tunnel> {
    let [v4, v6] = own();
    let [destination_mac, source_mac] = [[2, 0, 0, 0, 0, 0xcc], [2, 0, 0, 0, 0, 0xbb]];
    let tunnel = |between| {
        [("10.0.0.9", v4), ("fd00::9", v6)].map(|(source, destination)| {
            let source = source.parse().unwrap();
            Tunnel { destination_mac, source_mac, source, spread: 0, destination, between }
        })
    };
    [Between::Nothing, Between::Gue(6080), Between::Geneve(6081)].into_iter().flat_map(tunnel).collect()
}

/// A client's packet, and the same in a tunnel.
struct Wrapped {
    tunnel: Tunnel,
    frame: Frame,
    packet: Vec<u8>,
}

impl Wrapped {
    fn new(tunnel: Tunnel, frame: &Frame) -> Self {
        let Tunnel { destination_mac, source_mac, .. } = tunnel;
        let frame = Frame { destination_mac, source_mac, ..frame.clone() };
        Self { tunnel, packet: tunnel.wrap(&frame), frame }
    }

    fn about(&self, what: &str) -> String {
        format!("{what}: {:?} {:?}", self.tunnel, self.frame)
    }

    fn is_outer_ipv4(&self) -> bool {
        self.tunnel.source.is_ipv4()
    }

    /// Where the outer IP header ends.
    fn outer_end(&self) -> usize {
        ETHERNET + if self.is_outer_ipv4() { 20 } else { 40 }
    }

    /// Where the outer IP header's length stands.
    fn outer_length(&self) -> usize {
        ETHERNET + if self.is_outer_ipv4() { 2 } else { 4 }
    }

    /// Where the inner packet begins.
    fn inner_at(&self) -> usize {
        self.packet.len() - (self.frame.bytes().len() - ETHERNET)
    }

    /// The packet with a byte changed.
    fn poked(&self, at: usize, value: u8) -> Vec<u8> {
        let mut packet = self.packet.clone();
        packet[at] = value;
        packet
    }

    /// The packet with a field of 16 bits changed.
    fn poked16(&self, at: usize, value: usize) -> Vec<u8> {
        let mut packet = self.packet.clone();
        packet[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_be_bytes());
        packet
    }

    fn field16(&self, at: usize) -> usize {
        usize::from(u16::from_be_bytes([self.packet[at], self.packet[at + 1]]))
    }
}

/// Every inner packet in every encapsulation, with bytes behind it.
fn wrapped() -> Vec<Wrapped> {
    let frames = services().into_iter().map(|service| Frame { payload: 50, ..opening(&service) });
    frames.flat_map(|frame| tunnels().into_iter().map(move |tunnel| Wrapped::new(tunnel, &frame))).collect()
}

/// Those with UDP.
fn wrapped_in_udp() -> impl Iterator<Item = Wrapped> {
    wrapped().into_iter().filter(|wrapped| wrapped.tunnel.between != Between::Nothing)
}

fn wrapped_in_geneve() -> impl Iterator<Item = Wrapped> {
    wrapped().into_iter().filter(|wrapped| matches!(wrapped.tunnel.between, Between::Geneve(_)))
}

/// What an outcome means to XDP, written out once more.
const fn action(outcome: DecapOutcome) -> u32 {
    match outcome {
        DecapOutcome::Decapsulated
        | DecapOutcome::NotATunnel
        | DecapOutcome::UnusualOuter
        | DecapOutcome::OtherPayload
        | DecapOutcome::NotAVip => xdp::PASS,
        DecapOutcome::BadOuter
        | DecapOutcome::UdpChecksum
        | DecapOutcome::CriticalOption
        | DecapOutcome::BadInner
        | DecapOutcome::Congestion
        | DecapOutcome::NotRemoved => xdp::DROP,
    }
}

fn check_verdict(
    about: &str,
    verdict: &Verdict<DecapOutcome>,
    action: u32,
    outcome: DecapOutcome,
    output: &[u8],
) {
    assert_eq!(verdict.moved, BTreeMap::from([(outcome, 1)]), "{about}: the counter");
    assert_eq!(verdict.action, action, "{about}: the action");
    assert_same(about, &verdict.packet, output);
}

fn check(lab: &mut DecapLab, about: &str, input: &[u8], outcome: DecapOutcome, output: &[u8]) {
    check_verdict(&format!("XDP, {about}"), &lab.run(input).unwrap(), action(outcome), outcome, output);
    if is_for_tc(input) {
        let action = if action(outcome) == xdp::PASS { UNSPEC } else { SHOT };
        check_verdict(&format!("tc, {about}"), &lab.run_tc(input).unwrap(), action, outcome, output);
    }
}

fn check_kept(lab: &mut DecapLab, about: &str, input: &[u8], outcome: DecapOutcome) {
    check(lab, about, input, outcome, input);
}

fn check_unwrapped(lab: &mut DecapLab, about: &str, input: &[u8], frame: &Frame) {
    check(lab, about, input, DecapOutcome::Decapsulated, &frame.bytes());
}

#[test]
fn the_outer_headers_of_a_packet_for_a_vip_are_removed() {
    let mut lab = lab();
    for wrapped in wrapped() {
        check_unwrapped(&mut lab, &wrapped.about("whole"), &wrapped.packet, &wrapped.frame);
    }
}

#[test]
fn padding_large_packets_and_inner_options_and_fragments_stay() {
    let mut lab = lab();
    for service in services() {
        let plain = opening(&service);
        let v4 = service.vip.addr().is_ipv4();
        let frames = [
            Frame { padding: 20, ..plain.clone() },
            Frame { payload: 1400, traffic_class: 0xb9, hops: 1, ..plain.clone() },
            Frame { payload: 8000, ..plain.clone() },
            Frame { options: if v4 { 40 } else { 0 }, ..plain.clone() },
            Frame { more_fragments: v4, fragment_offset: 0, ..plain.clone() },
            Frame { fragment_offset: if v4 { 185 } else { 0 }, ..plain },
        ];
        for (frame, tunnel) in frames.iter().flat_map(|frame| tunnels().into_iter().map(move |t| (frame, t)))
        {
            let wrapped = Wrapped::new(tunnel, frame);
            check_unwrapped(&mut lab, &wrapped.about("whole"), &wrapped.packet, &wrapped.frame);
        }
    }
}

#[test]
fn what_a_balancer_wraps_comes_out_as_it_was() {
    let mut lab = lab();
    for way in Way::wrapping() {
        let mut world = World::new(way);
        for service in services() {
            let mut frame = Frame { payload: 700, traffic_class: 0x2e, ..opening(&service) };
            let (_, packet) = world.lab.send(&frame.bytes()).unwrap();
            (frame.destination_mac, frame.source_mac) = (way.entry().destination_mac, way.entry().source_mac);
            check_unwrapped(&mut lab, &format!("{way:?}, {service:?}"), &packet, &frame);
        }
    }
}

#[test]
fn tunnels_for_others_pass() {
    let mut lab = lab();
    for wrapped in wrapped() {
        let last = wrapped.outer_end() - 1;
        let other = wrapped.poked(last, wrapped.packet[last] ^ 0x80);
        check_kept(&mut lab, &wrapped.about("to another host"), &other, DecapOutcome::NotATunnel);
    }
}

#[test]
fn tunnels_to_a_former_address_pass_and_those_to_a_new_one_do_not() {
    let mut lab = lab();
    let [v4, v6] = own();
    for (own, gone) in [(v4, v6), (v6, v4)] {
        lab.decapsulator.set_own_addresses(&BTreeSet::from([own])).unwrap();
        for wrapped in wrapped() {
            if wrapped.is_outer_ipv4() == own.is_ipv4() {
                check_unwrapped(&mut lab, "here", &wrapped.packet, &wrapped.frame);
            } else {
                let about = format!("{gone} is gone");
                check_kept(&mut lab, &about, &wrapped.packet, DecapOutcome::NotATunnel);
            }
        }
    }
}

#[test]
fn plain_traffic_passes() {
    let mut lab = lab();
    for service in services() {
        let mut frame = opening(&service);
        check_kept(&mut lab, "to a VIP", &frame.bytes(), DecapOutcome::NotATunnel);
        frame.destination.set_ip(own()[usize::from(service.vip.addr().is_ipv6())]);
        check_kept(&mut lab, "to this host", &frame.bytes(), DecapOutcome::NotATunnel);
        let mut arp = frame.bytes();
        (arp[12], arp[13]) = (8, 6);
        check_kept(&mut lab, "ARP", &arp, DecapOutcome::NotATunnel);
    }
}
