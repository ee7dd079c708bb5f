//! What is sent to backends: every byte of it.

use mesh_common::abi::BackendEntry;
use mesh_common::outcome::Outcome;
use mesh_tests::lab::INGRESS;

use crate::frame::{Flags, Frame, Transport};
use crate::world::{Expected, Way, World, opening, services};

/// An interface that packets do not come in by.
const ELSEWHERE: u32 = INGRESS + 1;

/// The opening packet of every service, in variants that a way must all carry.
pub(crate) fn variants() -> Vec<(String, Frame)> {
    services().iter().flat_map(|service| variants_of(&opening(service))).collect()
}

fn variants_of(frame: &Frame) -> Vec<(String, Frame)> {
    let about = |what: &str| format!("{:?} to {}, {what}", frame.transport, frame.destination);
    let change = |what: &str, change: &dyn Fn(&mut Frame)| {
        let mut changed = frame.clone();
        change(&mut changed);
        (about(what), changed)
    };
    let mut variants = vec![
        change("as it is", &|_| ()),
        change("an odd length", &|f| f.payload = 1),
        change("a long packet", &|f| f.payload = 1400),
        change("Ethernet padding", &|f| f.padding = 6),
        change("Ethernet padding behind a payload", &|f| (f.payload, f.padding) = (3, 11)),
        change("may be fragmented", &|f| f.dont_fragment = false),
        change("the longest life", &|f| f.hops = 255),
        change("the shortest life that goes on", &|f| f.hops = 2),
        change("every bit of the traffic class", &|f| f.traffic_class = 0xff),
        change("expedited forwarding", &|f| f.traffic_class = 0xb8),
        change("capable of ECN", &|f| f.traffic_class = 0x02),
        change("capable of ECN, the other sign", &|f| f.traffic_class = 0x01),
        change("congestion experienced", &|f| f.traffic_class = 0x03),
        change("another client", &|f| f.source.set_port(0xfffe)),
    ];
    if matches!(frame.transport, Transport::Tcp(_)) {
        let flags = [Flags::SynAck, Flags::Ack, Flags::FinAck, Flags::Rst];
        variants.extend(flags.map(|flags| change("goes on", &|f| f.transport = Transport::Tcp(flags))));
    }
    if frame.source.is_ipv4() {
        variants.extend((4..=40).step_by(4).map(|n| change("options", &|f| f.options = n)));
    }
    if frame.source.is_ipv6() {
        let chains: [&[(u8, usize)]; 9] = [
            &[(0, 8)],
            &[(60, 256)],
            &[(43, 24)],
            &[(44, 8)],
            &[(0, 16), (44, 8)],
            &[(0, 8), (60, 24), (43, 8), (44, 8), (60, 8), (60, 200)],
            &[(60, 8); 6],
            &[(44, 8); 2],
            &[(0, 248), (60, 8)],
        ];
        let variant = |chain: &&[(u8, usize)]| change("extensions", &|f| f.extensions = chain.to_vec());
        variants.extend(chains.iter().map(variant));
    }
    variants
}

fn check_way(way: Way) {
    let mut world = World::new(way);
    for (about, frame) in variants() {
        world.check_sent(&about, way, Outcome::Transmitted, &frame);
    }
}

#[test]
fn direct_return_rewrites_addresses_and_takes_a_hop() {
    check_way(Way::L2);
}

#[test]
fn an_outer_ipv4_header_stands_before_packets_of_both_families() {
    check_way(Way::Ipv4);
}

#[test]
fn an_outer_ipv6_header_stands_before_packets_of_both_families() {
    check_way(Way::Ipv6);
}

#[test]
fn outer_ipv4_and_udp_headers_stand_before_packets_of_both_families() {
    check_way(Way::Gue4);
}

#[test]
fn outer_ipv6_and_udp_headers_stand_before_packets_of_both_families() {
    check_way(Way::Gue6);
}

#[test]
fn outer_ipv4_and_geneve_headers_stand_before_packets_of_both_families() {
    check_way(Way::Geneve4);
}

#[test]
fn outer_ipv6_and_geneve_headers_stand_before_packets_of_both_families() {
    check_way(Way::Geneve6);
}

#[test]
fn every_life_that_goes_on_keeps_a_right_checksum() {
    let mut world = World::new(Way::L2);
    for (hops, id) in (2..=255).flat_map(|hops| [0, 0x00ff, 0x4321, 0xffff].map(|id| (hops, id))) {
        let frame = Frame { hops, id, ..opening(&services()[0]) };
        world.check_sent(&format!("ttl {hops}, id {id:#x}"), Way::L2, Outcome::Transmitted, &frame);
    }
}

#[test]
fn a_packet_whose_life_ends_is_dropped_as_it_is_by_direct_return_alone() {
    for way in Way::ALL {
        let mut world = World::new(way);
        for (service, hops) in services().iter().flat_map(|service| [(service, 0), (service, 1)]) {
            let frame = Frame { hops, ..opening(service) };
            let about = format!("{way:?}, {service:?}, {hops} hops left");
            if way == Way::L2 {
                world.check(&about, &frame.bytes(), &Expected::Kept(Outcome::TtlExpired));
            } else {
                world.check_sent(&about, way, Outcome::Transmitted, &frame);
            }
        }
    }
}

#[test]
fn a_backend_behind_another_interface_is_redirected_to() {
    for way in Way::ALL {
        let mut world = World::with(BackendEntry { ifindex: ELSEWHERE, ..way.entry() });
        for (about, frame) in variants() {
            world.check_sent(&about, way, Outcome::Redirected, &frame);
        }
    }
}

#[test]
fn packets_of_several_buffers_are_sent_whole() {
    for way in Way::ALL {
        let mut world = World::with(BackendEntry { room: 9100, ..way.entry() });
        for service in services() {
            let frame = Frame { payload: 8900, ..opening(&service) };
            world.check_sent(&format!("{way:?}, {service:?}"), way, Outcome::Transmitted, &frame);
        }
    }
}

#[test]
fn a_packet_may_fill_the_room_and_not_one_byte_more() {
    const ROOM: u16 = 1480;
    for way in Way::ALL {
        let mut world = World::with(BackendEntry { room: ROOM, ..way.entry() });
        for service in services() {
            let mut frame = opening(&service);
            frame.padding = 40;
            frame.payload = usize::from(ROOM) - frame.headers();
            world.check_sent(&format!("{way:?}, {service:?}, full"), way, Outcome::Transmitted, &frame);
            frame.payload += 1;
            let verdict = world.lab.run(&frame.bytes()).unwrap();
            assert_eq!(
                verdict.moved,
                [(Outcome::TooBigTold, 1)].into(),
                "{way:?}, {service:?}, one byte more"
            );
        }
    }
}
