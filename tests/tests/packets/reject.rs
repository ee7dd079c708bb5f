//! Services without a backend whose senders are to be told: whole answers, made by etherparse, and who gets none.

use std::net::IpAddr;

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader,
};
use mesh_common::icmp::ANSWERS_PER_TICK;
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_tests::lab::Verdict;
use mesh_userspace::config::{Ports, Protocol, ServiceKey};

use crate::frame::{ETHERNET, Flags, Frame, Transport, ether_type, ethernet};
use crate::icmp::{answer_to, error, kinds};
use crate::vlan::{TAGS, tagged};
use crate::world::{BACKEND, Expected, SLOTS, Way, World, opening, services, xdp};

/// The number of every segment that a frame has, and what it acknowledges.
const SEQUENCE: u32 = 0x0102_0304;
const ACKNOWLEDGED: u32 = 0;

/// A world whose services have no backend and tell so.
pub(crate) fn world() -> World {
    let mut world = World::new(Way::L2);
    let all = u32::try_from(services().len()).unwrap();
    world.lab.slots(SLOTS, all * SLOTS, Slot::steady(0)).unwrap();
    for service in services() {
        world.lab.reject(service).unwrap();
    }
    world
}

/// The frame that refuses a segment.
fn reset(frame: &Frame, sequence: u32, acknowledged: Option<u32>) -> Vec<u8> {
    let mut tcp = TcpHeader::new(frame.destination.port(), frame.source.port(), sequence, 0);
    (tcp.rst, tcp.ack) = (true, acknowledged.is_some());
    tcp.acknowledgment_number = acknowledged.unwrap_or(0);
    let ip = match (frame.destination.ip(), frame.source.ip()) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => {
            let mut ip = Ipv4Header::new(20, 64, IpNumber::TCP, vip.octets(), client.octets()).unwrap();
            (ip.identification, ip.dont_fragment) = (0, true);
            ip.header_checksum = ip.calc_header_checksum();
            tcp.checksum = tcp.calc_checksum_ipv4(&ip, &[]).unwrap();
            ip.to_bytes().to_vec()
        }
        (IpAddr::V6(vip), IpAddr::V6(client)) => {
            let ip = Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: 20,
                next_header: IpNumber::TCP,
                hop_limit: 64,
                source: vip.octets(),
                destination: client.octets(),
            };
            tcp.checksum = tcp.calc_checksum_ipv6(&ip, &[]).unwrap();
            ip.to_bytes().to_vec()
        }
        _ => unreachable!("a packet has one family"),
    };
    let ethernet = ethernet(frame.source_mac, frame.destination_mac, ether_type(frame.source.ip()));
    [ethernet, ip, tcp.to_bytes().to_vec()].concat()
}

/// The frame that refuses another packet; codes of ICMP and ICMPv6.
fn unreachable(frame: &Frame, has_port: bool) -> Vec<u8> {
    let back = PacketBuilder::ethernet2(frame.destination_mac, frame.source_mac);
    let mut packet = Vec::new();
    match (frame.destination.ip(), frame.source.ip()) {
        (IpAddr::V4(vip), IpAddr::V4(client)) => {
            let code =
                if has_port { DestUnreachableHeader::Port } else { DestUnreachableHeader::FilterProhibited };
            let mut ip = Ipv4Header::new(0, 64, IpNumber::ICMP, vip.octets(), client.octets()).unwrap();
            (ip.identification, ip.dont_fragment) = (0, false);
            let ip = etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
            let quoted = &frame.bytes()[ETHERNET..ETHERNET + 28];
            let step = back.ip(ip).icmpv4(Icmpv4Type::DestinationUnreachable(code));
            step.write(&mut packet, quoted).unwrap();
        }
        (IpAddr::V6(vip), IpAddr::V6(client)) => {
            let code = if has_port { DestUnreachableCode::Port } else { DestUnreachableCode::Prohibited };
            let quoted = &frame.bytes()[ETHERNET..ETHERNET + 48];
            let step = back.ipv6(vip.octets(), client.octets(), 64);
            step.icmpv6(Icmpv6Type::DestinationUnreachable(code)).write(&mut packet, quoted).unwrap();
        }
        _ => unreachable!("a packet has one family"),
    }
    packet
}

fn refused(packet: Vec<u8>) -> Verdict<Outcome> {
    Verdict { action: xdp::TX, packet, moved: [(Outcome::Rejected, 1)].into() }
}

/// The services of a protocol.
fn of(protocol: Protocol) -> impl Iterator<Item = ServiceKey> {
    services().into_iter().filter(move |service| service.protocol == protocol)
}

#[test]
fn segments_are_answered_by_the_reset_that_their_sender_believes() {
    let mut world = world();
    for service in of(Protocol::Tcp) {
        for (flags, payload, sequence, acknowledged) in [
            (Flags::Syn, 0, 0, Some(SEQUENCE + 1)),
            (Flags::Syn, 100, 0, Some(SEQUENCE + 101)),
            (Flags::SynAck, 0, ACKNOWLEDGED, None),
            (Flags::Ack, 700, ACKNOWLEDGED, None),
            (Flags::FinAck, 0, ACKNOWLEDGED, None),
        ] {
            for padding in [0, 6] {
                let transport = Transport::Tcp(flags);
                let frame = Frame { transport, payload, padding, ..opening(&service) };
                let expected = refused(reset(&frame, sequence, acknowledged));
                assert_eq!(world.lab.run(&frame.bytes()).unwrap(), expected, "{flags:?}, {payload} bytes");
            }
        }
    }
}

#[test]
fn datagrams_are_answered_by_port_unreachable_however_short_they_are() {
    let mut world = world();
    for service in of(Protocol::Udp) {
        for payload in [0, 1, 12, 1000] {
            let frame = Frame { payload, ..opening(&service) };
            let expected = refused(unreachable(&frame, true));
            assert_eq!(world.lab.run(&frame.bytes()).unwrap(), expected, "{payload} bytes, {service:?}");
        }
    }
}

#[test]
fn options_and_extension_headers_are_left_out_of_a_reset() {
    let mut world = world();
    for service in of(Protocol::Tcp) {
        let (options, extensions) =
            if service.vip.addr().is_ipv4() { (12, vec![]) } else { (0, vec![(0, 8), (60, 16)]) };
        let frame = Frame { options, extensions, payload: 9, ..opening(&service) };
        let plain = Frame { payload: 9, ..opening(&service) };
        let expected = refused(reset(&plain, 0, Some(SEQUENCE + 10)));
        assert_eq!(world.lab.run(&frame.bytes()).unwrap(), expected, "{service:?}");
    }
}

#[test]
fn answers_have_the_tags_of_what_they_answer() {
    let mut world = world();
    for service in services() {
        let frame = opening(&service);
        let answer = match service.protocol {
            Protocol::Tcp => reset(&frame, 0, Some(SEQUENCE + 1)),
            Protocol::Udp | Protocol::Quic | Protocol::Any => unreachable(&frame, true),
        };
        for tags in TAGS {
            let expected = refused(tagged(&answer, tags));
            assert_eq!(world.lab.run(&tagged(&frame.bytes(), tags)).unwrap(), expected, "{service:?}");
        }
    }
}

#[test]
fn wide_services_refuse_every_protocol_that_they_own() {
    for vip in ["203.0.113.0/24", "2001:db8:5::/64"] {
        let mut world = world();
        let key = ServiceKey {
            vip: vip.parse().unwrap(),
            ports: Ports::range(0, u16::MAX).unwrap(),
            protocol: Protocol::Any,
        };
        world.lab.service(key, 60, 3000, 7, Slot::steady(0)).unwrap();
        world.lab.reject(key).unwrap();
        let like = services().into_iter().find(|it| it.vip.addr().is_ipv4() == key.vip.addr().is_ipv4());
        let mut frame = Frame { payload: 40, ..opening(&like.unwrap()) };
        frame.destination.set_ip(key.vip.addr());
        let expected = refused(reset(&frame, 0, Some(SEQUENCE + 41)));
        assert_eq!(world.lab.run(&frame.bytes()).unwrap(), expected);
        for (transport, has_port) in [(Transport::Udp, true), (Transport::Other(132), false)] {
            let frame = Frame { transport, ..frame.clone() };
            assert_eq!(world.lab.run(&frame.bytes()).unwrap(), refused(unreachable(&frame, has_port)));
        }
    }
}

#[test]
fn who_could_not_take_an_answer_gets_none() {
    let mut world = world();
    let dropped = Expected::Kept(Outcome::NoBackend);
    for service in of(Protocol::Tcp) {
        let reset = Frame { transport: Transport::Tcp(Flags::Rst), ..opening(&service) };
        world.check("a reset", &reset.bytes(), &dropped);
    }
    for service in services() {
        let group = Frame { destination_mac: [0xff; 6], ..opening(&service) };
        world.check("a broadcast", &group.bytes(), &dropped);
        if service.vip.addr().is_ipv4() {
            // Some have such addresses, but most cannot answer them.
            let mut reserved = opening(&service);
            reserved.source.set_ip([240, 0, 0, 1].into());
            world.check("from a reserved address", &reserved.bytes(), &dropped);
        }
        let fragments = Frame { payload: 200, ..opening(&service) }.fragments(80);
        world.check("a first fragment", &fragments[0], &dropped);
        let quoted = answer_to(&opening(&service)).bytes();
        let (kind4, kind6) = kinds().remove(0);
        let error = error(service.vip.addr(), &quoted[ETHERNET..], kind4, kind6);
        world.check("an error", &error, &dropped);
    }
    let optioned = Frame { options: 4, ..opening(&of(Protocol::Udp).next().unwrap()) };
    world.check("a datagram with options", &optioned.bytes(), &dropped);
}

#[test]
fn there_is_a_limit_to_answers() {
    let mut world = world();
    for service in services() {
        let (frame, mut limited) = (opening(&service).bytes(), false);
        for _ in 0..3 * ANSWERS_PER_TICK {
            limited |= world.lab.send(&frame).unwrap().0 == xdp::DROP;
        }
        assert!(limited, "{service:?}");
    }
}

#[test]
fn a_service_with_a_backend_or_without_the_wish_refuses_nothing() {
    let mut world = world();
    let all = u32::try_from(services().len()).unwrap();
    world.lab.slots(SLOTS, all * SLOTS, Slot::steady(BACKEND)).unwrap();
    for service in services() {
        world.check_sent("a backend", Way::L2, Outcome::Transmitted, &opening(&service));
    }
    let mut silent = World::new(Way::L2);
    silent.lab.slots(SLOTS, all * SLOTS, Slot::steady(0)).unwrap();
    for service in services() {
        silent.check("silent", &opening(&service).bytes(), &Expected::Kept(Outcome::NoBackend));
    }
}
