//! The decapsulator: which outer headers go, and that nothing else is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_common::outcome::DecapOutcome;
use mesh_tests::lab::DecapLab;

use crate::frame::{ETHERNET, Frame};
use crate::tunnels::Tunnel;
use crate::world::{Way, World, assert_same, opening, services, xdp};

const OWN: [&str; 2] = ["10.0.0.1", "fd00::1"];
const VIPS: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

fn addresses(texts: [&str; 2]) -> [IpAddr; 2] {
    texts.map(|text| text.parse().unwrap())
}

fn lab() -> DecapLab {
    DecapLab::new(&addresses(OWN), &addresses(VIPS)).unwrap()
}

/// Both kinds of outer header, to addresses of this host.
fn tunnels() -> [Tunnel; 2] {
    let [v4, v6] = addresses(OWN);
    [("10.0.0.9", v4), ("fd00::9", v6)].map(|(source, destination)| {
        let [destination_mac, source_mac] = [[2, 0, 0, 0, 0, 0xcc], [2, 0, 0, 0, 0, 0xbb]];
        Tunnel { destination_mac, source_mac, source: source.parse().unwrap(), destination }
    })
}

/// Every inner packet in every outer header, with bytes behind it.
fn wrapped() -> Vec<(Frame, Vec<u8>)> {
    let all = tunnels().into_iter().flat_map(|tunnel| {
        services().into_iter().map(move |service| {
            let Tunnel { destination_mac, source_mac, .. } = tunnel;
            let frame = Frame { destination_mac, source_mac, payload: 50, ..opening(&service) };
            let packet = tunnel.wrap(&frame);
            (frame, packet)
        })
    });
    all.collect()
}

const fn action(outcome: DecapOutcome) -> u32 {
    match outcome {
        DecapOutcome::Decapsulated | DecapOutcome::NotATunnel | DecapOutcome::NotAVip => xdp::PASS,
        DecapOutcome::BadInner => xdp::DROP,
    }
}

fn check(lab: &mut DecapLab, about: &str, input: &[u8], outcome: DecapOutcome, output: &[u8]) {
    let verdict = lab.run(input).unwrap();
    assert_eq!(verdict.moved, BTreeMap::from([(outcome, 1)]), "{about}: the counter");
    assert_eq!(verdict.action, action(outcome), "{about}: the action");
    assert_same(about, &verdict.packet, output);
}

fn check_kept(lab: &mut DecapLab, about: &str, input: &[u8], outcome: DecapOutcome) {
    check(lab, about, input, outcome, input);
}

/// Where the inner packet begins.
fn inner_at(packet: &[u8]) -> usize {
    ETHERNET + if packet[ETHERNET] >> 4 == 4 { 20 } else { 40 }
}

#[test]
fn the_outer_header_of_a_packet_for_a_vip_is_removed() {
    let mut lab = lab();
    for (frame, packet) in wrapped() {
        check(&mut lab, &format!("{frame:?}"), &packet, DecapOutcome::Decapsulated, &frame.bytes());
    }
}

#[test]
fn padding_large_packets_and_inner_options_and_fragments_stay() {
    let mut lab = lab();
    for tunnel in tunnels() {
        let Tunnel { destination_mac, source_mac, .. } = tunnel;
        for service in services() {
            let plain = Frame { destination_mac, source_mac, ..opening(&service) };
            let v4 = service.vip.addr().is_ipv4();
            let frames = [
                Frame { padding: 20, ..plain.clone() },
                Frame { payload: 1400, traffic_class: 0xb9, hops: 1, ..plain.clone() },
                Frame { payload: 8000, ..plain.clone() },
                Frame { options: if v4 { 40 } else { 0 }, ..plain.clone() },
                Frame { more_fragments: v4, fragment_offset: 0, ..plain.clone() },
                Frame { fragment_offset: if v4 { 185 } else { 0 }, ..plain },
            ];
            for frame in frames {
                let about = format!("{frame:?}");
                check(&mut lab, &about, &tunnel.wrap(&frame), DecapOutcome::Decapsulated, &frame.bytes());
            }
        }
    }
}

#[test]
fn what_a_balancer_wraps_comes_out_as_it_was() {
    let mut lab = lab();
    for way in [Way::Ipv4, Way::Ipv6] {
        let mut world = World::new(way);
        for service in services() {
            let mut frame = Frame { payload: 700, traffic_class: 0x2e, ..opening(&service) };
            let (_, packet) = world.lab.send(&frame.bytes()).unwrap();
            (frame.destination_mac, frame.source_mac) = (way.entry().destination_mac, way.entry().source_mac);
            let about = format!("{way:?}, {service:?}");
            check(&mut lab, &about, &packet, DecapOutcome::Decapsulated, &frame.bytes());
        }
    }
}

#[test]
fn tunnels_for_others_pass() {
    let mut lab = lab();
    for (frame, packet) in wrapped() {
        // The last byte of the outer destination.
        let mut other = packet.clone();
        other[inner_at(&packet) - 1] ^= 0x80;
        check_kept(&mut lab, &format!("{frame:?} to another host"), &other, DecapOutcome::NotATunnel);
    }
}

#[test]
fn tunnels_to_a_former_address_pass_and_those_to_a_new_one_do_not() {
    let mut lab = lab();
    let [v4, v6] = addresses(OWN);
    for (own, gone) in [(v4, v6), (v6, v4)] {
        lab.decapsulator.set_own_addresses(&BTreeSet::from([own])).unwrap();
        for (frame, packet) in wrapped() {
            let here = (packet[ETHERNET] >> 4 == 4) == own.is_ipv4();
            if here {
                check(&mut lab, "here", &packet, DecapOutcome::Decapsulated, &frame.bytes());
            } else {
                check_kept(&mut lab, &format!("{gone} is gone"), &packet, DecapOutcome::NotATunnel);
            }
        }
    }
}

#[test]
fn tunnels_that_carry_something_else_than_a_vips_packet_pass() {
    let mut lab = lab();
    for (mut frame, packet) in wrapped() {
        let destination = inner_at(&packet) + if frame.source.is_ipv4() { 16 } else { 24 };
        for at in [destination, destination + 3] {
            let mut other = packet.clone();
            other[at] ^= 1;
            check_kept(&mut lab, &format!("{frame:?} to another address"), &other, DecapOutcome::NotAVip);
        }
        std::mem::swap(&mut frame.source, &mut frame.destination);
        for tunnel in tunnels() {
            check_kept(&mut lab, "from a VIP", &tunnel.wrap(&frame), DecapOutcome::NotAVip);
        }
    }
}

#[test]
fn a_vip_that_is_served_no_more_is_no_vip() {
    let mut lab = lab();
    lab.decapsulator.set_vips(&BTreeSet::new()).unwrap();
    for (frame, packet) in wrapped() {
        check_kept(&mut lab, &format!("{frame:?}"), &packet, DecapOutcome::NotAVip);
    }
}

#[test]
fn a_prefix_of_vips_is_all_of_them_and_no_other() {
    let mut lab = lab();
    let prefixes = ["192.0.2.8/30", "2001:db8::/126"].map(|prefix| prefix.parse().unwrap());
    lab.decapsulator.set_vips(&BTreeSet::from(prefixes)).unwrap();
    for tunnel in tunnels() {
        let Tunnel { destination_mac, source_mac, .. } = tunnel;
        for service in [&services()[0], &services()[2]] {
            let at = |vip: &str| {
                let mut frame = Frame { destination_mac, source_mac, ..opening(service) };
                frame.destination.set_ip(vip.parse().unwrap());
                frame
            };
            let v4 = service.vip.addr().is_ipv4();
            let (within, outside) = if v4 {
                (["192.0.2.8", "192.0.2.11"], ["192.0.2.7", "192.0.2.12"])
            } else {
                (["2001:db8::", "2001:db8::3"], ["2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::4"])
            };
            for vip in within {
                let frame = at(vip);
                check(&mut lab, vip, &tunnel.wrap(&frame), DecapOutcome::Decapsulated, &frame.bytes());
            }
            for vip in outside {
                check_kept(&mut lab, vip, &tunnel.wrap(&at(vip)), DecapOutcome::NotAVip);
            }
        }
    }
}

#[test]
fn outer_headers_with_options_and_fragments_pass() {
    let mut lab = lab();
    for (frame, packet) in wrapped().into_iter().filter(|(_, packet)| packet[ETHERNET] == 0x45) {
        for (at, value) in
            [(0, 0x46), (0, 0x4f), (0, 0x44), (0, 0x65), (6, 0x20), (6, 0x60), (6, 0x01), (7, 0x01)]
        {
            let mut changed = packet.clone();
            changed[ETHERNET + at] = value;
            let about = format!("{frame:?}, byte {at} is {value:#x}");
            check_kept(&mut lab, &about, &changed, DecapOutcome::NotATunnel);
        }
        for flags in [0, 0x40, 0x80] {
            let mut changed = packet.clone();
            changed[ETHERNET + 6] = flags;
            check(&mut lab, "no fragment", &changed, DecapOutcome::Decapsulated, &frame.bytes());
        }
    }
}

#[test]
fn outer_ipv6_headers_of_another_version_pass() {
    let mut lab = lab();
    for (frame, packet) in wrapped().into_iter().filter(|(_, packet)| packet[ETHERNET] >> 4 == 6) {
        let mut changed = packet.clone();
        changed[ETHERNET] = 0x45;
        check_kept(&mut lab, &format!("{frame:?}"), &changed, DecapOutcome::NotATunnel);
    }
}

#[test]
fn every_other_protocol_to_this_host_passes() {
    let mut lab = lab();
    for (_, packet) in wrapped() {
        let at = ETHERNET + if packet[ETHERNET] >> 4 == 4 { 9 } else { 6 };
        for number in (0..=255).filter(|number| ![4, 41].contains(number)) {
            let mut changed = packet.clone();
            changed[at] = number;
            check_kept(&mut lab, &format!("protocol {number}"), &changed, DecapOutcome::NotATunnel);
        }
    }
}

#[test]
fn plain_traffic_passes() {
    let mut lab = lab();
    for service in services() {
        let mut frame = opening(&service);
        check_kept(&mut lab, "to a VIP", &frame.bytes(), DecapOutcome::NotATunnel);
        frame.destination.set_ip(addresses(OWN)[usize::from(service.vip.addr().is_ipv6())]);
        check_kept(&mut lab, "to this host", &frame.bytes(), DecapOutcome::NotATunnel);
        let mut arp = frame.bytes();
        (arp[12], arp[13]) = (8, 6);
        check_kept(&mut lab, "ARP", &arp, DecapOutcome::NotATunnel);
    }
}

#[test]
fn an_inner_packet_of_the_wrong_version_or_beyond_the_frame_is_dropped() {
    let mut lab = lab();
    for (frame, packet) in wrapped() {
        let at = inner_at(&packet);
        let length = at + if frame.source.is_ipv4() { 2 } else { 4 };
        let pokes: [(usize, u8); 5] =
            [(at, 0x05), (at, 0x55), (at, 0xf5), (length, 1), (length + 1, packet[length + 1] + 1)];
        for (place, value) in pokes {
            let mut changed = packet.clone();
            changed[place] = value;
            let about = format!("{frame:?}, byte {} of the inner packet is {value:#x}", place - at);
            check_kept(&mut lab, &about, &changed, DecapOutcome::BadInner);
        }
    }
}

#[test]
fn a_tunnel_packet_cut_anywhere_is_kept_as_it_is() {
    let mut lab = lab();
    for (frame, packet) in wrapped() {
        let outer = inner_at(&packet);
        for cut in ETHERNET..packet.len() {
            let outcome = if cut < outer { DecapOutcome::NotATunnel } else { DecapOutcome::BadInner };
            check_kept(&mut lab, &format!("{frame:?} cut at {cut}"), &packet[..cut], outcome);
        }
    }
}
