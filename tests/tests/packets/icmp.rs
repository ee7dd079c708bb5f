//! ICMP: errors about flows go to the flows' backends, and senders of packets that are too long are told.

use std::net::IpAddr;

use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, PacketBuilderStep, icmpv4, icmpv6};
use mesh_common::abi::BackendEntry;
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_tests::lab::Verdict;
use mesh_userspace::config::{Protocol, ServiceKey};

use crate::frame::{ETHERNET, Flags, Frame, Transport};
use crate::tunnels::Flow;
use crate::world::{BACKEND, Expected, SLOTS, Way, World, at_neighbour, opening, services, xdp};

/// A packet that the backend sent to the client: what errors are about.
fn answer(service: &ServiceKey) -> Frame {
    answer_to(&opening(service))
}

/// A packet that the backend sent to the client of this one.
pub(crate) fn answer_to(frame: &Frame) -> Frame {
    let Frame { source, destination, transport, .. } = *frame;
    let transport = match transport {
        Transport::Tcp(_) => Transport::Tcp(Flags::Ack),
        Transport::Udp | Transport::Other(_) => transport,
    };
    Frame::new(destination, source, transport)
}

pub(crate) type Quoted<'a> = &'a [u8];

/// An error from a router on the way to the client.
pub(crate) fn error(vip: IpAddr, quoted: Quoted<'_>, kind4: Icmpv4Type, kind6: Icmpv6Type) -> Vec<u8> {
    let mut packet = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x11], [2, 0, 0, 0, 0, 0xaa]);
    match vip {
        IpAddr::V4(vip) => {
            ethernet
                .ipv4([203, 0, 113, 1], vip.octets(), 9)
                .icmpv4(kind4)
                .write(&mut packet, quoted)
                .unwrap();
        }
        IpAddr::V6(vip) => {
            let router = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            ethernet.ipv6(router, vip.octets(), 9).icmpv6(kind6).write(&mut packet, quoted).unwrap();
        }
    }
    packet
}

pub(crate) fn kinds() -> Vec<(Icmpv4Type, Icmpv6Type)> {
    let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
    vec![
        (Icmpv4Type::DestinationUnreachable(needed), Icmpv6Type::PacketTooBig { mtu: 1400 }),
        (
            Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host),
            Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Address),
        ),
        (
            Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
            Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
        ),
    ]
}

#[test]
fn errors_about_a_flow_reach_its_backend() {
    let mut world = World::new(Way::L2);
    for service in services() {
        // A router quotes the header and 8 bytes at least.
        let ip = if service.vip.addr().is_ipv4() { 20 } else { 40 };
        let packet = answer(&service).bytes();
        for length in [ip + 8, packet.len() - ETHERNET] {
            let quoted = &packet[ETHERNET..ETHERNET + length.min(packet.len() - ETHERNET)];
            for (kind4, kind6) in kinds() {
                let input = error(service.vip.addr(), quoted, kind4, kind6);
                let output = at_neighbour(&input);
                let ip_length = input.len() - ETHERNET;
                let expected = Expected::Sent { by: Outcome::Transmitted, output, ip_length, opens: false };
                world.check(&format!("{service:?}, {length} bytes quoted"), &input, &expected);
            }
        }
    }
}

/// The IPv6 packet of a frame with a destination options header in front of what it carries.
pub(crate) fn with_options(frame: &[u8]) -> Vec<u8> {
    let (headers, message) = frame.split_at(ETHERNET + 40);
    let mut headers = headers.to_vec();
    let (length, next) = (ETHERNET + 4, ETHERNET + 6);
    let options = [&[headers[next], 1][..], &[0; 14]].concat();
    headers[next] = 60;
    let behind = u16::try_from(options.len() + message.len()).unwrap();
    headers[length..next].copy_from_slice(&behind.to_be_bytes());
    [&headers, &options[..], message].concat()
}

#[test]
fn errors_with_extension_headers_or_about_packets_with_them_reach_the_flows_backend() {
    let mut world = World::new(Way::L2);
    let chains: [&[(u8, usize)]; 4] = [&[], &[(60, 8)], &[(0, 8), (43, 24), (44, 8)], &[(60, 8); 6]];
    for (service, chain) in services()[2..].iter().flat_map(|service| chains.map(|chain| (service, chain))) {
        let quoted = Frame { extensions: chain.to_vec(), ..answer(service) }.bytes();
        let (kind4, kind6) = kinds().remove(0);
        let plain = error(service.vip.addr(), &quoted[ETHERNET..], kind4, kind6);
        for input in [with_options(&plain), plain] {
            let (output, ip_length) = (at_neighbour(&input), input.len() - ETHERNET);
            let expected = Expected::Sent { by: Outcome::Transmitted, output, ip_length, opens: false };
            world.check(&format!("{service:?}, {chain:?}"), &input, &expected);
        }
    }
}

#[test]
fn an_error_about_a_first_fragment_reaches_the_flows_backend_and_one_about_a_later_does_not() {
    let mut world = World::new(Way::L2);
    for service in services() {
        let fragments = Frame { payload: 200, ..answer(&service) }.fragments(64);
        let about = |fragment: &[u8]| {
            let (kind4, kind6) = kinds().remove(1);
            error(service.vip.addr(), &fragment[ETHERNET..], kind4, kind6)
        };
        let first = about(&fragments[0]);
        let (output, ip_length) = (at_neighbour(&first), first.len() - ETHERNET);
        let expected = Expected::Sent { by: Outcome::Transmitted, output, ip_length, opens: false };
        world.check("about the first", &first, &expected);
        world.check("about the second", &about(&fragments[1]), &Expected::Kept(Outcome::OtherProtocol));
    }
}

#[test]
fn an_error_about_a_packet_with_too_many_extension_headers_is_the_hosts_own() {
    let mut world = World::new(Way::L2);
    for service in &services()[2..] {
        let quoted = Frame { extensions: vec![(60, 8); 7], ..answer(service) }.bytes();
        let (kind4, kind6) = kinds().remove(0);
        let input = error(service.vip.addr(), &quoted[ETHERNET..], kind4, kind6);
        world.check("too many", &input, &Expected::Kept(Outcome::OtherProtocol));
    }
}

#[test]
fn an_error_follows_the_record_of_its_flow_and_leaves_it_as_it_is() {
    const OTHER: u32 = 2;
    for service in services().into_iter().filter(|service| service.protocol == Protocol::Tcp) {
        let mut world = World::new(Way::L2);
        let id = 1 + u32::try_from(services().iter().position(|known| *known == service).unwrap()).unwrap();
        world.lab.backend(OTHER, BackendEntry { service: id, ..Way::L2.entry() }).unwrap();
        world.lab.slots(id * SLOTS, SLOTS, Slot::new(BACKEND, OTHER, true, true)).unwrap();
        let quoted = answer(&service).bytes();
        let (kind4, kind6) = kinds().remove(0);
        let input = error(service.vip.addr(), &quoted[ETHERNET..], kind4, kind6);
        let sent = |world: &World| [BACKEND, OTHER].map(|id| world.lab.counters(id).unwrap().packets());
        world.lab.run(&input).unwrap();
        assert_eq!(sent(&world), [0, 1], "an unknown flow is the former backend's");
        world.lab.run(&opening(&service).bytes()).unwrap();
        world.lab.run(&input).unwrap();
        assert_eq!(sent(&world), [2, 1], "a recorded flow is its backend's, the error recorded nothing");
    }
}

#[test]
fn other_errors_are_the_hosts_own() {
    let mut world = World::new(Way::L2);
    for service in services() {
        let (kind4, kind6) = kinds().remove(0);
        let mut foreign = answer(&service);
        foreign.source.set_port(81);
        let input = error(service.vip.addr(), &foreign.bytes()[ETHERNET..], kind4.clone(), kind6);
        world.check("another port", &input, &Expected::Kept(Outcome::NotAService));
        let short = &answer(&service).bytes()[ETHERNET..ETHERNET + 10];
        let input = error(service.vip.addr(), short, kind4, kind6);
        world.check("a quotation cut short", &input, &Expected::Kept(Outcome::OtherProtocol));
    }
}

/// The error that the sender of a frame gets.
pub(crate) fn told(frame: &Frame, mtu: u16) -> Vec<u8> {
    let (vip, client) = (frame.destination.ip(), frame.source.ip());
    let back = PacketBuilder::ethernet2(frame.destination_mac, frame.source_mac);
    let mut packet = Vec::new();
    match (vip, client) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => {
            let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
            let step = back.ip(etherparse::IpHeaders::Ipv4(
                etherparse::Ipv4Header {
                    dont_fragment: false,
                    identification: 0,
                    ..etherparse::Ipv4Header::new(
                        0,
                        64,
                        etherparse::IpNumber::ICMP,
                        vip.octets(),
                        client.octets(),
                    )
                    .unwrap()
                },
                etherparse::Ipv4Extensions::default(),
            ));
            let quoted = &frame.bytes()[ETHERNET..ETHERNET + 28];
            step.icmpv4(Icmpv4Type::DestinationUnreachable(needed)).write(&mut packet, quoted).unwrap();
        }
        (IpAddr::V6(vip), IpAddr::V6(client)) => {
            let step: PacketBuilderStep<_> = back.ipv6(vip.octets(), client.octets(), 64);
            let quoted = &frame.bytes()[ETHERNET..ETHERNET + 60];
            let big = Icmpv6Type::PacketTooBig { mtu: mtu.into() };
            step.icmpv6(big).write(&mut packet, quoted).unwrap();
        }
        _ => unreachable!("a packet has one family"),
    }
    packet
}

fn too_long(service: &ServiceKey) -> Frame {
    Frame { payload: 1000, ..opening(service) }
}

#[test]
fn senders_of_packets_that_are_too_long_are_told_the_right_size() {
    for way in Way::ALL {
        let mtu = 765;
        let mut world = World::with(BackendEntry { room: mtu, ..way.entry() });
        for service in services() {
            let frame = too_long(&service);
            let verdict = world.lab.run(&frame.bytes()).unwrap();
            let moved = [(Outcome::TooBigTold, 1)].into();
            assert_eq!(
                verdict,
                Verdict { action: xdp::TX, packet: told(&frame, mtu), moved },
                "{way:?} {service:?}"
            );
            assert_eq!(world.lab.counters(BACKEND).unwrap().packets(), 0, "nothing reached the backend");
        }
    }
}

#[test]
fn senders_whose_packets_may_be_fragmented_are_told_where_the_service_says_so() {
    let mut world = World::with(BackendEntry { room: 780, tell: 1, ..Way::Gue4.entry() });
    for service in services() {
        let frame = Frame { dont_fragment: false, ..too_long(&service) };
        let verdict = world.lab.run(&frame.bytes()).unwrap();
        let moved = [(Outcome::TooBigTold, 1)].into();
        assert_eq!(verdict, Verdict { action: xdp::TX, packet: told(&frame, 780), moved }, "{service:?}");
    }
    let service = services().remove(0);
    let optioned = Frame { options: 8, ..too_long(&service) };
    world.check("options", &optioned.bytes(), &Expected::Kept(Outcome::TooBig));
    let fitting = Frame { dont_fragment: false, ..opening(&service) };
    world.check_sent("a fitting packet", Way::Gue4, Outcome::Transmitted, &fitting);
}

#[test]
fn an_error_about_a_flow_is_wrapped_as_its_packets_are() {
    for way in Way::wrapping() {
        let mut world = World::new(way);
        for service in services() {
            let packet = answer(&service);
            let (kind4, kind6) = kinds().remove(0);
            let input = error(service.vip.addr(), &packet.bytes()[ETHERNET..], kind4, kind6);
            // The flow as its client sends it.
            let flow = Flow { client: packet.destination, service: packet.source, ..Flow::of(&packet) };
            let output = way.tunnel().unwrap().around(&input[ETHERNET..], 0, flow);
            let ip_length = input.len() - ETHERNET;
            let expected = Expected::Sent { by: Outcome::Transmitted, output, ip_length, opens: false };
            world.check(&format!("{way:?}, {service:?}"), &input, &expected);
        }
    }
}

#[test]
fn what_may_be_fragmented_or_is_an_error_itself_is_dropped_without_a_word() {
    let mut world = World::with(BackendEntry { room: 780, ..Way::Ipv4.entry() });
    let service = services().remove(0);
    let loose = Frame { dont_fragment: false, ..too_long(&service) };
    world.check("fragmentation is allowed", &loose.bytes(), &Expected::Kept(Outcome::TooBig));
    let optioned = Frame { options: 8, ..too_long(&service) };
    world.check("options", &optioned.bytes(), &Expected::Kept(Outcome::TooBig));
    for service in services() {
        let (kind4, kind6) = kinds().remove(0);
        let quoted = Frame { payload: 1000, ..answer(&service) }.bytes();
        let input = error(service.vip.addr(), &quoted[ETHERNET..], kind4, kind6);
        world.check("a long error", &input, &Expected::Kept(Outcome::TooBig));
    }
}
