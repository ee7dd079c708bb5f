//! Packets of services that no honest sender sends: each kind is dropped and has a counter; the same for nobody's port
//! passes.

use std::net::{IpAddr, SocketAddr};

use etherparse::Ipv4Header;
use mesh_common::abi::BackendEntry;
use mesh_common::outcome::Outcome;
use mesh_common::slot::Slot;
use mesh_userspace::config::{Protocol, ServiceKey};

use crate::echo;
use crate::frame::{ETHERNET, Flags, Frame, Transport};
use crate::icmp;
use crate::random::Random;
use crate::vlan::{TAGS, tagged};
use crate::world::{BACKEND, Expected, SLOTS, Way, World, opening, services};

/// Where the flags stand in a TCP segment behind an IPv4 header without options.
pub(crate) const FLAGS4: usize = ETHERNET + 20 + FLAGS;

/// Where header length and flags stand in a TCP header, and the length in a UDP header.
const OFFSET: usize = 12;
const FLAGS: usize = 13;
const LENGTH: usize = 4;

/// The packet with the checksum of its IPv4 header.
fn mended(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[ETHERNET] >> 4 == 4 {
        let (header, _) = Ipv4Header::from_slice(&packet[ETHERNET..]).unwrap();
        packet[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    }
    packet
}

/// The IPv4 packet with these options, a multiple of 4 bytes.
pub(crate) fn with_options(frame: &Frame, options: &[u8]) -> Vec<u8> {
    let mut packet = Frame { options: options.len(), ..frame.clone() }.bytes();
    packet[ETHERNET + 20..][..options.len()].copy_from_slice(options);
    mended(packet)
}

/// A fragment that begins at another place of its packet, a multiple of 8 bytes.
pub(crate) fn at_offset(fragment: &[u8], bytes: u16) -> Vec<u8> {
    let mut packet = fragment.to_vec();
    let is_ipv4 = packet[ETHERNET] >> 4 == 4;
    let (at, offset) = if is_ipv4 { (ETHERNET + 6, bytes / 8) } else { (ETHERNET + 42, bytes) };
    let more = if is_ipv4 { packet[at] & 0xe0 } else { packet[at + 1] & 7 };
    packet[at..at + 2].copy_from_slice(&offset.to_be_bytes());
    packet[at + usize::from(!is_ipv4)] |= more;
    mended(packet)
}

/// A packet of a service with something that no honest sender sends.
pub(crate) fn odd(frame: &Frame, random: &mut Random) -> Vec<u8> {
    let is_ipv4 = frame.source.is_ipv4();
    match random.below(4) {
        0 => {
            let loopback = if is_ipv4 { "127.0.0.1" } else { "::1" }.parse().unwrap();
            let vip = frame.destination.ip();
            let source = SocketAddr::new(random.pick(&[loopback, vip]), frame.source.port());
            Frame { source, ..frame.clone() }.bytes()
        }
        1 if is_ipv4 => with_options(frame, &[131, 7, 4, 192, 0, 2, 1, 0]),
        2 if is_ipv4 => {
            let mut packet = frame.bytes();
            packet[ETHERNET + 4] ^= 1;
            packet
        }
        3 => Frame { payload: 200, transport: Transport::Tcp(Flags::Syn), ..frame.clone() }.fragments(8)[0]
            .clone(),
        _ if frame.transport == Transport::Udp => poked(frame, LENGTH, &[0xff]),
        _ => poked(frame, FLAGS, &[0]),
    }
}

/// A packet of a service in which bytes of the transport header are others.
fn poked(frame: &Frame, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut packet = frame.bytes();
    packet[ETHERNET + frame.ip_headers() + at..][..bytes.len()].copy_from_slice(bytes);
    packet
}

fn of(protocol: Protocol) -> impl Iterator<Item = ServiceKey> {
    services().into_iter().filter(move |service| service.protocol == protocol)
}

/// The flow of a service as it is, and where its packets need the whole way.
fn variants(service: &ServiceKey) -> [Frame; 2] {
    let plain = Frame { payload: 30, ..opening(service) };
    [Frame { options: 4, extensions: vec![(60, 8)], ..plain.clone() }, plain]
}

/// The packet ends so if it is a service's, with tags and without, and passes if it is not.
fn ends(world: &mut World, about: &str, frame: &Frame, packet: &[u8], outcome: Outcome) {
    world.check(about, packet, &Expected::Kept(outcome));
    for tags in TAGS {
        world.check(about, &tagged(packet, tags), &Expected::Kept(outcome));
    }
    let mut others = packet.to_vec();
    others[ETHERNET + frame.ip_headers() + 2..][..2].copy_from_slice(&81_u16.to_be_bytes());
    world.check(about, &others, &Expected::Kept(Outcome::NotAService));
}

fn sent(world: &mut World, about: &str, way: Way, frame: &Frame, packet: &[u8]) {
    let verdict = world.lab.run(packet).unwrap();
    assert_eq!(verdict.moved, [(Outcome::Transmitted, 1)].into(), "{about}");
    assert_eq!(verdict.packet, way.expected_packet(frame, packet), "{about}");
}

#[test]
fn segments_whose_flags_make_no_sense_are_dropped() {
    let [fin, syn, rst, psh, ack, urg]: [u8; 6] = [1, 2, 4, 8, 16, 32];
    // Whatever PSH, URG and ECN's two say beside them.
    let sensible = [syn, syn | ack, ack, fin | ack, rst, rst | ack];
    for way in [Way::L2, Way::Ipv4] {
        let mut world = World::new(way);
        for service in of(Protocol::Tcp) {
            for frame in variants(&service) {
                // The whole way's are a few of them, which take as long.
                let every = if frame.options == 0 { 1 } else { 5 };
                for flags in (0..=u8::MAX).step_by(every) {
                    let (packet, about) = (poked(&frame, FLAGS, &[flags]), format!("{frame:?}, {flags:#x}"));
                    if sensible.contains(&(flags & (fin | syn | rst | ack))) {
                        sent(&mut world, &about, way, &frame, &packet);
                    } else {
                        world.check(&about, &packet, &Expected::Kept(Outcome::BadFlags));
                    }
                }
                for flags in [0, fin | psh | urg, syn | fin, 0xff] {
                    let packet = poked(&frame, FLAGS, &[flags]);
                    ends(&mut world, "flags", &frame, &packet, Outcome::BadFlags);
                }
            }
        }
    }
}

#[test]
fn segments_whose_header_is_shorter_than_it_can_be_or_longer_than_the_packet_are_dropped() {
    let mut world = World::new(Way::L2);
    for service in of(Protocol::Tcp) {
        for frame in variants(&service) {
            for words in 0..16_u8 {
                let (packet, about) = (poked(&frame, OFFSET, &[words << 4]), format!("{words} words"));
                // 20 bytes and 30 of payload.
                if (5..=12).contains(&words) {
                    sent(&mut world, &about, Way::L2, &frame, &packet);
                } else {
                    ends(&mut world, &about, &frame, &packet, Outcome::BadLength);
                }
            }
        }
    }
}

#[test]
fn datagrams_that_say_to_be_longer_than_their_packet_or_shorter_than_their_header_are_dropped() {
    let mut world = World::new(Way::L2);
    for service in of(Protocol::Udp) {
        for frame in variants(&service) {
            for length in [0, 1, 7, 39, 100, 0x7fff, 0xffff_u16] {
                let packet = poked(&frame, LENGTH, &length.to_be_bytes());
                ends(&mut world, &format!("length {length}"), &frame, &packet, Outcome::BadLength);
            }
            // Options may follow the datagram (RFC 9868).
            for length in [8, 20, 38_u16] {
                let packet = poked(&frame, LENGTH, &length.to_be_bytes());
                sent(&mut world, &format!("length {length}"), Way::L2, &frame, &packet);
            }
        }
    }
}

#[test]
fn packets_from_where_nobody_is_are_dropped() {
    for way in [Way::L2, Way::Ipv6] {
        let mut world = World::new(way);
        for service in services() {
            let (vip, is_ipv4) = (service.vip.addr(), service.vip.addr().is_ipv4());
            let nobodys = if is_ipv4 {
                &[
                    "0.0.0.0",
                    "0.1.2.3",
                    "127.0.0.1",
                    "127.255.0.1",
                    "224.0.0.1",
                    "239.9.9.9",
                    "255.255.255.255",
                ][..]
            } else {
                &["::", "::1", "::ffff:198.51.100.7", "ff02::1", "ff0e::7"]
            };
            for frame in variants(&service) {
                for source in nobodys.iter().map(|source| source.parse().unwrap()).chain([vip]) {
                    let mut frame = frame.clone();
                    frame.source.set_ip(source);
                    ends(&mut world, &format!("{frame:?}"), &frame, &frame.bytes(), Outcome::SpoofedSource);
                }
            }
        }
    }
}

#[test]
fn packets_from_anywhere_else_are_sent_even_from_another_vip_and_the_same_port() {
    let mut world = World::new(Way::L2);
    for (id, vip) in [(5, "192.0.2.11"), (6, "2001:db8::11")] {
        let key = ServiceKey::exact(vip.parse().unwrap(), 80, Protocol::Tcp);
        world.lab.service(key, id, id * SLOTS, SLOTS, Slot::steady(BACKEND)).unwrap();
    }
    for service in services() {
        let sources = if service.vip.addr().is_ipv4() {
            &["192.0.2.11", "1.0.0.1", "126.0.0.1", "128.0.0.1", "223.255.255.254", "240.0.0.1", "10.0.0.1"][..]
        } else {
            &["2001:db8::11", "fe80::1", "fd00::1", "64:ff9b::c633:6407"]
        };
        for frame in variants(&service) {
            for source in sources {
                let mut frame = frame.clone();
                frame.source.set_ip(source.parse().unwrap());
                frame.source.set_port(80);
                sent(&mut world, source, Way::L2, &frame, &frame.bytes());
            }
        }
    }
}

#[test]
fn icmp_errors_and_echo_requests_from_nobody_are_dropped() {
    let mut world = World::new(Way::L2);
    for service in services() {
        let vip = service.vip.addr();
        let (from, to, bytes) = if vip.is_ipv4() { (12, 16, 4) } else { (8, 24, 16) };
        let answer = icmp::answer_to(&opening(&service)).bytes();
        for (kind4, kind6) in icmp::kinds() {
            let mut error = icmp::error(vip, &answer[ETHERNET..], kind4, kind6);
            error[ETHERNET + from..][..bytes].fill(0);
            world.check("an error", &mended(error), &Expected::Kept(Outcome::SpoofedSource));
        }
        let mut land = echo::request(vip, 20);
        land.copy_within(ETHERNET + to..ETHERNET + to + bytes, ETHERNET + from);
        world.check("an echo request", &mended(land), &Expected::Kept(Outcome::SpoofedSource));
    }
}

#[test]
fn ipv4_headers_that_do_not_have_their_checksum_are_dropped() {
    for way in [Way::L2, Way::Ipv4, Way::Gue4] {
        let mut world = World::new(way);
        for service in services().into_iter().filter(|service| service.vip.addr().is_ipv4()) {
            for frame in variants(&service) {
                let right = frame.bytes();
                for bit in 0..16 {
                    let mut packet = right.clone();
                    packet[ETHERNET + 10 + bit / 8] ^= 1 << (bit % 8);
                    ends(&mut world, &format!("bit {bit}"), &frame, &packet, Outcome::BadChecksum);
                }
                // TOS, identification, "don't fragment", TTL, and the source: the steering would not change.
                for (at, by) in [(1, 1), (4, 0x80), (5, 1), (6, 0x40), (8, 3), (13, 1), (15, 0x10)] {
                    let mut packet = right.clone();
                    packet[ETHERNET + at] ^= by;
                    ends(&mut world, &format!("byte {at}"), &frame, &packet, Outcome::BadChecksum);
                    sent(&mut world, "mended", way, &as_sent(&frame, at, by), &mended(packet));
                }
            }
        }
    }
    let mut world = World::new(Way::L2);
    let mut ping = echo::request(services()[0].vip.addr(), 20);
    ping[ETHERNET + 10] ^= 1;
    world.check("an echo request", &ping, &Expected::Kept(Outcome::BadChecksum));
}

/// What the frame is after a byte was changed, as far as an outer header shows it.
fn as_sent(frame: &Frame, at: usize, by: u8) -> Frame {
    let mut frame = frame.clone();
    match at {
        1 => frame.traffic_class ^= by,
        13 | 15 => {
            let IpAddr::V4(source) = frame.source.ip() else { unreachable!("IPv4") };
            let mut source = source.octets();
            source[at - 12] ^= by;
            frame.source.set_ip(source.into());
        }
        _ => {}
    }
    frame
}

#[test]
fn ipv4_options_that_route_packets_or_end_nowhere_are_dropped_and_others_sent() {
    let route = [131, 7, 4, 192, 0, 2, 1, 0];
    let strict = [1, 137, 7, 8, 192, 0, 2, 1];
    let hidden = [[1; 32], [1; 32]].concat()[..32].iter().copied().chain(route).collect::<Vec<_>>();
    let bad: [&[u8]; 8] = [
        &route,
        &strict,
        &hidden,
        &[7, 0, 0, 0],
        &[7, 1, 0, 0],
        &[7, 5, 4, 0],
        &[1, 1, 1, 68],
        &[148, 255, 0, 0],
    ];
    let record_route = [7, 7, 4, 0, 0, 0, 0, 0];
    let timestamp = [68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let good: [&[u8]; 6] = [&record_route, &timestamp, &[148, 4, 0, 0], &[1; 40], &[0; 40], &[0, 131, 3, 4]];
    for way in [Way::L2, Way::Ipv4] {
        let mut world = World::new(way);
        for service in services().into_iter().filter(|service| service.vip.addr().is_ipv4()) {
            for frame in variants(&service) {
                for options in bad {
                    let shape = Frame { options: options.len(), ..frame.clone() };
                    let packet = with_options(&frame, options);
                    ends(&mut world, &format!("{options:?}"), &shape, &packet, Outcome::BadOptions);
                }
                for options in good {
                    sent(&mut world, &format!("{options:?}"), way, &frame, &with_options(&frame, options));
                }
            }
        }
    }
}

#[test]
fn fragments_that_begin_before_the_first_ends_are_dropped() {
    for (id, service) in (1..).zip(services()) {
        let mut world = World::with(BackendEntry { service: id, ..Way::L2.entry() });
        for frame in variants(&service) {
            let frame = Frame { payload: 300, options: 0, ..frame };
            let fragments = frame.fragments(64);
            let [first, second, ..] = &fragments[..] else { unreachable!("there are several") };
            sent(&mut world, "the first", Way::L2, &frame, first);
            for offset in (8..64).step_by(8) {
                let overlapping = at_offset(second, offset);
                world.check("overlapping", &overlapping, &Expected::Kept(Outcome::OverlappingFragment));
            }
            // Those that follow may overlap each other: nothing is known of them.
            for offset in [64, 72, 64, 128] {
                sent(&mut world, "behind the first", Way::L2, &frame, &at_offset(second, offset));
            }
        }
    }
}

#[test]
fn a_first_fragment_that_is_longer_or_shorter_draws_another_line() {
    let mut world = World::with(BackendEntry { service: 1, ..Way::L2.entry() });
    let frame = Frame { payload: 300, ..opening(&services()[0]) };
    for bytes in [64, 128, 32] {
        let fragments = frame.fragments(bytes);
        sent(&mut world, "the first", Way::L2, &frame, &fragments[0]);
        let bytes = u16::try_from(bytes).unwrap();
        let before = at_offset(&fragments[1], bytes - 8);
        world.check("before", &before, &Expected::Kept(Outcome::OverlappingFragment));
        sent(&mut world, "behind", Way::L2, &frame, &at_offset(&fragments[1], bytes));
    }
}

#[test]
fn overlapping_fragments_of_what_the_host_got_go_into_the_host() {
    let mut world = World::new(Way::L2);
    for service in services() {
        let mut frame = Frame { payload: 300, ..opening(&service) };
        frame.destination.set_port(81);
        let fragments = frame.fragments(64);
        world.check("the first", &fragments[0], &Expected::Kept(Outcome::NotAService));
        world.check("the second", &at_offset(&fragments[1], 8), &Expected::Kept(Outcome::Fragment));
    }
}

#[test]
fn fragments_that_end_beyond_the_longest_packet_are_dropped() {
    for (id, service) in (1..).zip(services()) {
        let mut world = World::with(BackendEntry { service: id, ..Way::L2.entry() });
        let frame = Frame { payload: 300, ..opening(&service) };
        let fragments = frame.fragments(64);
        sent(&mut world, "the first", Way::L2, &frame, &fragments[0]);
        world.check("beyond", &at_offset(&fragments[1], 0xfff8), &Expected::Kept(Outcome::BadLength));
        world.check("just beyond", &at_offset(&fragments[1], 0xffc0), &Expected::Kept(Outcome::BadLength));
        sent(&mut world, "within", Way::L2, &frame, &at_offset(&fragments[1], 0xffb8));
    }
}

#[test]
fn later_fragments_are_screened_as_whole_packets_are() {
    let mut world = World::with(BackendEntry { service: 1, ..Way::L2.entry() });
    let frame = Frame { payload: 300, ..opening(&services()[0]) };
    let fragments = frame.fragments(64);
    sent(&mut world, "the first", Way::L2, &frame, &fragments[0]);
    let mut wrong = fragments[1].clone();
    wrong[ETHERNET + 8] ^= 1;
    world.check("checksum", &wrong, &Expected::Kept(Outcome::BadChecksum));
}

#[test]
fn tiny_first_fragments_for_a_vip_are_dropped_and_others_pass() {
    for service in of(Protocol::Tcp) {
        for frame in variants(&service) {
            let mut world = World::new(Way::L2);
            // With options the first 24 bytes end within the TCP header, as 8 and 16 do anyway.
            let mut frame = Frame { payload: 300, options: 0, ..frame };
            let before_tcp = frame.ip_headers() - if frame.source.is_ipv4() { 20 } else { 40 };
            for bytes in [8, 16] {
                let tiny = frame.fragments(before_tcp + bytes);
                world.check("tiny", &tiny[0], &Expected::Kept(Outcome::TinyFragment));
                world.check("its others", &tiny[1], &Expected::Kept(Outcome::OrphanFragment));
                // A header that is cut where the frame is, is no fragment's fault.
                let cut = &tiny[0][..tiny[0].len() - 1];
                world.check("cut", cut, &Expected::Kept(Outcome::Truncated));
                frame.id += 1;
            }
            let with_options = |words: u8| {
                let mut first = frame.fragments(before_tcp + 24)[0].clone();
                first[ETHERNET + frame.ip_headers() + if frame.source.is_ipv4() { 0 } else { 8 } + OFFSET] =
                    words << 4;
                first
            };
            world.check("options", &with_options(7), &Expected::Kept(Outcome::TinyFragment));
            sent(&mut world, "all options", Way::L2, &frame, &with_options(6));
            frame.destination.set_ip(frame.source.ip());
            frame.source.set_port(4001);
            world.check(
                "another's",
                &frame.fragments(before_tcp + 8)[0],
                &Expected::Kept(Outcome::Truncated),
            );
        }
    }
}

#[test]
fn the_first_fragment_of_a_datagram_may_be_shorter_than_the_datagram() {
    let mut world = World::new(Way::L2);
    for service in of(Protocol::Udp) {
        let frame = Frame { payload: 300, ..opening(&service) };
        assert_eq!(frame.transport, Transport::Udp);
        let first = &frame.fragments(64)[0];
        sent(&mut world, "the first", Way::L2, &frame, first);
        let mut lying = first.clone();
        let at = ETHERNET + frame.ip_headers() + if frame.source.is_ipv4() { 0 } else { 8 } + LENGTH;
        lying[at..at + 2].copy_from_slice(&7_u16.to_be_bytes());
        world.check("no header's length", &lying, &Expected::Kept(Outcome::BadLength));
    }
}
