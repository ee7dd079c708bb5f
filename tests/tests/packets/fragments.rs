//! Fragments: the first is steered by its ports, the others follow it, and none is put together.

use mesh_common::abi::BackendEntry;
use mesh_common::fragment::LIFE;
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_tests::lab::INGRESS;
use mesh_userspace::config::{Protocol, ServiceKey};

use crate::frame::{ETHERNET, Flags, Frame, Transport};
use crate::vlan::{TAGS, tagged};
use crate::world::{BACKEND, Expected, SLOTS, Way, World, opening, services};

/// Bytes that each fragment carries.
const PART: usize = 64;

/// A packet of a service in four fragments, the last of which is shorter.
fn packet(frame: &Frame) -> Vec<Vec<u8>> {
    let fragments = Frame { payload: 200, ..frame.clone() }.fragments(PART);
    assert!(fragments.len() >= 4);
    fragments
}

fn sent(way: Way, by: Outcome, frame: &Frame, fragment: &[u8], is_first: bool) -> Expected {
    let opens = is_first && frame.transport == Transport::Tcp(Flags::Syn);
    let output = way.expected_packet(frame, fragment);
    Expected::Sent { by, output, ip_length: fragment.len() - ETHERNET, opens }
}

/// Every service with its id, and a world in which the backend is its own.
fn worlds(way: Way) -> impl Iterator<Item = (World, ServiceKey)> {
    let own = move |id| World::with(BackendEntry { service: id, ..way.entry() });
    (1..).zip(services()).map(move |(id, service)| (own(id), service))
}

fn kept(world: &mut World, about: &str, fragment: &[u8], outcome: Outcome) {
    world.check(about, fragment, &Expected::Kept(outcome));
}

/// A flow of a service, in variants: as it is, with options or extension headers behind the fragment's, and with every
/// bit of the traffic class in use.
fn variants(service: &ServiceKey) -> [Frame; 3] {
    let plain = opening(service);
    let class = Frame { traffic_class: 0xb9, ..plain.clone() };
    let more = Frame { options: 24, extensions: vec![(60, 16)], ..plain.clone() };
    [plain, class, more]
}

/// The services' ids, once for each way of sending.
fn ends() -> impl Iterator<Item = (u32, Outcome)> {
    [Outcome::Transmitted, Outcome::Redirected].into_iter().flat_map(|by| (1..=4).map(move |id| (id, by)))
}

#[test]
fn the_fragments_of_a_packet_all_go_to_its_flows_backend() {
    for way in Way::ALL {
        for ((mut world, service), (id, by)) in worlds(way).chain(worlds(way)).zip(ends()) {
            let ifindex = if by == Outcome::Redirected { INGRESS + 1 } else { INGRESS };
            world.lab.backend(BACKEND, BackendEntry { ifindex, service: id, ..way.entry() }).unwrap();
            for frame in variants(&service) {
                for (number, fragment) in packet(&frame).iter().enumerate() {
                    let expected = sent(way, by, &frame, fragment, number == 0);
                    world.check(&format!("{way:?}, {frame:?}, fragment {number}"), fragment, &expected);
                }
            }
        }
    }
}

#[test]
fn fragments_keep_their_tags() {
    for (mut world, service) in worlds(Way::Ipv4) {
        let frame = opening(&service);
        for (number, fragment) in packet(&frame).iter().enumerate() {
            let Expected::Sent { by, output, ip_length, opens } =
                sent(Way::Ipv4, Outcome::Transmitted, &frame, fragment, number == 0)
            else {
                unreachable!("it is sent")
            };
            for tags in TAGS {
                let expected = Expected::Sent { by, output: tagged(&output, tags), ip_length, opens };
                world.check("tagged", &tagged(fragment, tags), &expected);
            }
        }
    }
}

#[test]
fn later_fragments_follow_the_first_and_not_the_table() {
    const OTHER: u32 = 2;
    for (id, service) in (1..).zip(services()) {
        let mut world = World::new(Way::L2);
        world.lab.backend(BACKEND, BackendEntry { service: id, ..Way::L2.entry() }).unwrap();
        world.lab.backend(OTHER, BackendEntry { service: id, ..Way::L2.entry() }).unwrap();
        let fragments = packet(&opening(&service));
        world.lab.run(&fragments[0]).unwrap();
        world.lab.slots(id * SLOTS, SLOTS, Slot::steady(OTHER)).unwrap();
        fragments[1..].iter().for_each(|fragment| drop(world.lab.run(fragment).unwrap()));
        let packets = |world: &World, id| usize::try_from(world.lab.counters(id).unwrap().packets()).unwrap();
        assert_eq!([BACKEND, OTHER].map(|id| packets(&world, id)), [fragments.len(), 0], "{service:?}");
        fragments.iter().for_each(|fragment| drop(world.lab.run(fragment).unwrap()));
        assert_eq!([BACKEND, OTHER].map(|id| packets(&world, id)), [fragments.len(); 2], "the next packet");
    }
}

#[test]
fn orphans_for_a_vip_are_dropped_and_those_for_others_pass() {
    let mut world = World::new(Way::L2);
    for service in services() {
        let frame = opening(&service);
        for fragment in &packet(&frame)[1..] {
            kept(&mut world, "an orphan", fragment, Outcome::OrphanFragment);
        }
        let mut other = frame.clone();
        other.destination.set_ip(frame.source.ip());
        for fragment in &packet(&other)[1..] {
            kept(&mut world, "for another address", fragment, Outcome::Fragment);
        }
    }
}

#[test]
fn only_fragments_of_the_same_packet_follow() {
    for (mut world, service) in worlds(Way::L2) {
        let frame = opening(&service);
        world.lab.run(&packet(&frame)[0]).unwrap();
        let mut other_client = frame.clone();
        other_client.source.set_ip(if frame.source.is_ipv4() {
            [198, 51, 100, 8].into()
        } else {
            "2001:db8:1::8".parse().unwrap()
        });
        let other_id = Frame { id: frame.id ^ 0x8000, ..frame.clone() };
        for (about, other) in [("client", other_client), ("id", other_id)] {
            kept(&mut world, about, &packet(&other)[1], Outcome::OrphanFragment);
        }
        // IPv4 tells packets of different protocols apart, IPv6 does not.
        let protocol =
            if frame.transport == Transport::Udp { Transport::Tcp(Flags::Ack) } else { Transport::Udp };
        let other = &packet(&Frame { transport: protocol, ..frame.clone() })[1];
        if frame.source.is_ipv4() {
            kept(&mut world, "protocol", other, Outcome::OrphanFragment);
        } else {
            world.check("protocol", other, &sent(Way::L2, Outcome::Transmitted, &frame, other, false));
        }
    }
}

#[test]
fn fragments_of_what_the_host_got_go_into_the_host() {
    let mut world = World::new(Way::L2);
    for service in services() {
        let mut frame = opening(&service);
        frame.destination.set_port(81);
        let fragments = packet(&frame);
        kept(&mut world, "the first, of no service", &fragments[0], Outcome::NotAService);
        for fragment in &fragments[1..] {
            kept(&mut world, "the others", fragment, Outcome::Fragment);
        }
        // Another protocol: a large ping, which is not answered in fragments.
        let mut pings = packet(&Frame { id: 0x7777, ..frame });
        for ping in &mut pings {
            let number = if service.vip.addr().is_ipv4() { ETHERNET + 9 } else { ETHERNET + 40 };
            ping[number] = if service.vip.addr().is_ipv4() { 1 } else { 58 };
        }
        let at = ETHERNET + if service.vip.addr().is_ipv4() { 20 } else { 48 };
        pings[0][at..at + 2].copy_from_slice(&[if service.vip.addr().is_ipv4() { 8 } else { 128 }, 0]);
        kept(&mut world, "the first of a ping", &pings[0], Outcome::OtherProtocol);
        kept(&mut world, "the rest of a ping", &pings[1], Outcome::Fragment);
    }
}

#[test]
fn fragments_of_a_dropped_first_are_dropped() {
    for service in services() {
        let mut world = World::new(Way::L2);
        let fragments = packet(&opening(&service));
        world.lab.backend(BACKEND, BackendEntry { room: 0, ..Way::L2.entry() }).unwrap();
        kept(&mut world, "the first", &fragments[0], Outcome::NoNextHop);
        world.lab.backend(BACKEND, Way::L2.entry()).unwrap();
        kept(&mut world, "the second", &fragments[1], Outcome::OrphanFragment);
    }
}

#[test]
fn fragments_of_a_backend_that_died_or_changed_hands_are_orphans() {
    for (id, service) in (1..).zip(services()) {
        let own = BackendEntry { service: id, ..Way::L2.entry() };
        let changes = [
            BackendEntry { alive: 0, ..own },
            BackendEntry { service: id + 1, ..own },
            BackendEntry::default(),
        ];
        for change in changes {
            let mut world = World::with(own);
            let fragments = packet(&opening(&service));
            world.lab.run(&fragments[0]).unwrap();
            world.lab.backend(BACKEND, change).unwrap();
            kept(&mut world, &format!("{change:?}"), &fragments[1], Outcome::OrphanFragment);
        }
    }
}

#[test]
fn records_end_after_some_seconds() {
    let mut world = World::with(BackendEntry { service: 1, ..Way::L2.entry() });
    let frame = opening(&services()[0]);
    let fragments = packet(&frame);
    world.lab.run(&fragments[0]).unwrap();
    world.lab.age_fragments(LIFE - 1).unwrap();
    world.check("fresh", &fragments[1], &sent(Way::L2, Outcome::Transmitted, &frame, &fragments[1], false));
    world.lab.age_fragments(2).unwrap();
    kept(&mut world, "old", &fragments[1], Outcome::OrphanFragment);
}

#[test]
fn fragments_whose_lengths_lie_are_dropped() {
    for (mut world, service) in worlds(Way::L2) {
        let frame = opening(&service);
        let fragments = packet(&frame);
        world.lab.run(&fragments[0]).unwrap();
        for fragment in [&fragments[0], &fragments[1]] {
            let short = &fragment[..fragment.len() - 1];
            kept(&mut world, "cut", short, Outcome::BadLength);
        }
        let (at, length) = if frame.source.is_ipv4() { (2, 19_u16) } else { (4, 7) };
        let mut within = fragments[1].clone();
        within[ETHERNET + at..ETHERNET + at + 2].copy_from_slice(&length.to_be_bytes());
        kept(&mut world, "ends within its header", &within, Outcome::BadLength);
    }
}

#[test]
fn a_first_fragment_without_its_transport_header_is_not_steered() {
    let mut world = World::new(Way::L2);
    for service in services().into_iter().filter(|service| service.protocol == Protocol::Tcp) {
        let tiny = Frame { payload: 200, ..opening(&service) }.fragments(16);
        kept(&mut world, "half a TCP header", &tiny[0], Outcome::TinyFragment);
        kept(&mut world, "the first was dropped", &tiny[1], Outcome::OrphanFragment);
        // The same in front of Ethernet's padding, which is no header.
        let tiny = Frame { payload: 200, id: 7, ..opening(&service) }.fragments(16);
        let padded = [tiny[0].as_slice(), &[0; 40]].concat();
        kept(&mut world, "half a TCP header and padding", &padded, Outcome::TinyFragment);
        kept(&mut world, "the first was dropped", &tiny[1], Outcome::OrphanFragment);
    }
}

#[test]
fn fragments_that_are_too_long_are_dropped_and_only_the_first_is_answered() {
    for (id, (mut world, service)) in (1..).zip(worlds(Way::L2)) {
        let frame = opening(&service);
        let fragments = packet(&frame);
        world.lab.run(&fragments[0]).unwrap();
        world.lab.backend(BACKEND, BackendEntry { service: id, ..Way::L2.entry_at(80) }).unwrap();
        kept(&mut world, "the second", &fragments[1], Outcome::TooBig);
        let told = if frame.source.is_ipv4() { Outcome::TooBig } else { Outcome::TooBigTold };
        assert_eq!(world.lab.run(&fragments[0]).unwrap().moved, [(told, 1)].into(), "{frame:?}");
    }
}
